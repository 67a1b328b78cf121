"""What callers send and models do with it: whose mistake it is, whose answer it is, how it is compressed."""

import gzip
import json
import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from modelway.server.core.runtime import load_model
from onnx import helper, numpy_helper

from tests.model_server import Server, Tensors, serving, write_program

INFER = "/v2/models/m/infer"
INPUTS: Tensors = {"a": ("INT64", ["batch"]), "b": ("INT64", ["batch"])}
OUTPUTS: Tensors = {"sum": ("INT64", ["batch"])}
NODES = {
    "Div": helper.make_node("Div", ["a", "b"], ["sum"]),
    "Mod": helper.make_node("Mod", ["a", "b"], ["sum"]),
    "GatherElements": helper.make_node("GatherElements", ["a", "b"], ["sum"]),
    "Expand": helper.make_node("Expand", ["a", "b"], ["sum"]),
}


def entry(name: str, *values: int) -> dict[str, Any]:
    return {"name": name, "datatype": "INT64", "shape": [len(values)], "data": list(values)}


def ask(server: Server, a: list[int], b: list[int]) -> tuple[int, str]:
    status, _, document = server.ask("POST", INFER, {"inputs": [entry("a", *a), entry("b", *b)]})
    return status, document["error"] if status != 200 else document["outputs"][0]["data"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """One for each program."""
    folder = tmp_path_factory.mktemp("servers")
    with ExitStack() as stack:
        found: dict[str, Server] = {}
        for name, node in NODES.items():
            model = write_program(folder / name / "model", [node], INPUTS, OUTPUTS, record={})
            found[name] = stack.enter_context(serving(folder / name, "--model-dir", str(model), "--port", "0"))
        yield found


@pytest.mark.parametrize(
    ("node", "a", "b", "message"),
    [
        ("Div", [7], [0], "Div: .*Integer division by zero"),
        ("Mod", [7], [0], "Mod: .*Integer modulo by zero"),
        # these two end the whole process where they reach ONNX Runtime
        ("Div", [-(2**63)], [-1], "the model divides, so -9223372036854775808 must not be among its values"),
        ("Mod", [-(2**63)], [-1], "the model divides"),
        ("GatherElements", [1], [9], "GatherElements: .*Out of range value"),
        ("Expand", [1], [2**40], "the model refused the inputs: .*[Aa]lloc"),
        ("Div", [1, 2, 3], [10], "inputs 'a' and 'b' differ in length: 3 and 1 where the model has one 'batch'"),
    ],
)
def test_values_that_the_model_cannot_take_are_the_callers_mistake(
    servers: dict[str, Server], node: str, a: list[int], b: list[int], message: str
) -> None:
    server = servers[node]
    status, text = ask(server, a, b)
    assert status == 400
    assert re.search(message, text), text
    assert ask(server, [0], [0 if node == "GatherElements" else 1])[0] == 200
    assert server.process.poll() is None
    assert 'code="5' not in server.ask("GET", "/metrics")[2].decode()


def interplay(folder: Path, record: dict[str, object]) -> Path:
    """A model whose rows depend on one another: x less the mean over the batch; and slow enough to be waited for."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Expand", ["mean", "size"], ["m0"]),
        *[helper.make_node("MatMul", [f"m{at}", f"m{at}"], [f"m{at + 1}"]) for at in range(2)],
        helper.make_node("ReduceSum", ["m2"], ["total"], keepdims=0),
        helper.make_node("Mul", ["total", "zero"], ["nothing"]),
        helper.make_node("Add", ["centred", "nothing"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(np.array(value, dtype=kind), name)
        for name, value, kind in (("axes", [0], "i8"), ("size", [700, 700], "i8"), ("zero", 0, "f4"))
    ]
    tensor: tuple[str, list[int | str]] = ("FP32", ["batch", 1])
    return write_program(folder, nodes, {"x": tensor}, {"y": tensor}, weights=weights, record=record)


@pytest.mark.parametrize(
    ("record", "joined"),
    [
        ({"batches": True}, True),
        ({"batches": False, "batches_reason": "row 1 of 2 differs from the row alone"}, False),
        ({}, False),
    ],
)
def test_requests_are_joined_only_where_the_record_says_so(
    tmp_path: Path, record: dict[str, object], joined: bool
) -> None:
    model = interplay(tmp_path / "model", record)
    with serving(tmp_path, "--model-dir", str(model), "--port", "0") as server:
        answers: list[float] = []

        def client(value: float) -> None:
            tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [value]}
            answers.append(server.ask("POST", INFER, {"inputs": [tensor]})[2]["outputs"][0]["data"][0])

        threads = [threading.Thread(target=client, args=(float(value),)) for value in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # alone, every row is its own mean
        assert any(answers) is joined
        parameters = server.ask("GET", "/v2/models/m")[2]["parameters"]
        assert parameters == {"batches": False, **record}
        rows = {"name": "x", "datatype": "FP32", "shape": [50, 1], "data": list(range(50))}
        together = server.ask("POST", INFER, {"inputs": [rows]})[2]["outputs"][0]["data"]
        # and rows of one request stay together where they are not known to be independent
        assert (together == [at - 24.5 for at in range(50)]) is not joined


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("double")
    node = helper.make_node("Add", ["x", "x"], ["y"])
    tensor: tuple[str, list[int | str]] = ("FP32", ["batch", 2])
    model = write_program(folder / "model", [node], {"x": tensor}, {"y": tensor})
    with serving(folder, "--model-dir", str(model), "--port", "0", "--max-body-mib", "2") as found:
        yield found


def send(server: Server, body: bytes, **headers: str) -> tuple[int, Any]:
    connection: HTTPConnection = server.connect()
    connection.request("POST", INFER, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    return answer.status, content


TEXT = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}).encode()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(TEXT)),
        ("GZIP", gzip.compress(TEXT[:20]) + gzip.compress(TEXT[20:])),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", zlib.compress(TEXT, wbits=-15)),
        ("identity", TEXT),
    ],
    ids=["gzip", "two gzip members", "deflate", "bare deflate", "identity"],
)
def test_compressed_bodies_are_read(double: Server, encoding: str, body: bytes) -> None:
    status, document = send(double, body, content_encoding=encoding)
    assert (status, document["outputs"][0]["data"]) == (200, [2, 4])


def test_length_of_json_is_that_of_the_decompressed_body(double: Server) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
    head = json.dumps({"inputs": [tensor]}).encode()
    body = gzip.compress(head + np.array([1, 2], dtype="<f4").tobytes())
    headers = {"content_encoding": "gzip", "inference_header_content_length": str(len(head))}
    assert send(double, body, **headers)[1]["outputs"][0]["data"] == [2, 4]


@pytest.mark.parametrize(
    ("encoding", "body", "status", "message"),
    [
        ("br", TEXT, 415, "Content-Encoding 'br' is not known, expected gzip, deflate or none"),
        ("gzip, gzip", TEXT, 415, "is not known"),
        ("gzip", TEXT, 400, "the body is not gzip, as its Content-Encoding says"),
        ("gzip", gzip.compress(TEXT)[:-9], 400, "the gzip body ends too early"),
        ("gzip", b"", 400, "ends too early"),
        ("gzip", gzip.compress(b"") * 300, 400, "more than 256 gzip streams"),
        ("gzip", gzip.compress(bytes(64 << 20)), 413, "larger than the limit of 2097152 bytes"),
    ],
    ids=["unknown", "twice", "plain", "cut off", "empty", "many", "bomb"],
)
def test_encodings_that_cannot_be_read_are_refused(
    double: Server, encoding: str, body: bytes, status: int, message: str
) -> None:
    found, document = send(double, body, content_encoding=encoding)
    assert found == status
    assert message in document["error"]


def test_length_of_json_that_another_request_left_is_refused_in_words(double: Server) -> None:
    for length in (len(TEXT) - 10, len(TEXT) + 10, "\u00b2", "9" * 5000):
        status, document = send(double, TEXT, inference_header_content_length=str(length))
        assert status == 400
        assert "inference-header-content-length" in document["error"]


def test_without_rows_outputs_have_their_own_shape(tmp_path: Path) -> None:
    """ONNX Runtime gives what a reduction along axis -1 makes of no rows the shape of its input."""
    nodes = [
        helper.make_node("ArgMax", ["x"], ["class"], axis=-1, keepdims=0),
        helper.make_node("ReduceSum", ["x", "last"], ["sum"], keepdims=1),
    ]
    outputs: Tensors = {"class": ("INT64", ["batch"]), "sum": ("FP32", ["batch", 1])}
    last = numpy_helper.from_array(np.array([-1]), "last")
    folder = write_program(tmp_path / "model", nodes, {"x": ("FP32", ["batch", 3])}, outputs, weights=[last])
    model = load_model(folder, threads=1)
    for rows in (0, 1, 2):
        answers = model.run({"x": np.ones((rows, 3), dtype="float32")})
        assert {name: array.shape for name, array in answers.items()} == {"class": (rows,), "sum": (rows, 1)}
