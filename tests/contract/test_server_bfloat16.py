"""BF16, for which numpy has no type: one value in JSON, in binary tensors and over gRPC, rounded to the nearest."""

import json
import math
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from modelway.server.core.bfloat16 import bits, rounded, values
from modelway.server.core.refusal import CannotServe
from modelway.server.core.runtime import load_model
from onnx import TensorProto, helper

from tests.inference_messages import connected
from tests.model_server import Server, Tensors, serving, write_program

INFER = "/v2/models/m/infer"
INPUTS: Tensors = {"x": ("BF16", ["batch", 2]), "scale": ("FP32", ["batch", 2])}
OUTPUTS: Tensors = {"y": ("BF16", ["batch", 2]), "exact": ("FP32", ["batch", 2])}
#: y = x * scale, rounded to BF16; exact is not
NODES = [
    helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
    helper.make_node("Mul", ["wide", "scale"], ["exact"]),
    helper.make_node("Cast", ["exact"], ["y"], to=TensorProto.BFLOAT16),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("bfloat16")
    model = write_program(folder / "model", NODES, INPUTS, OUTPUTS)
    with serving(folder, "--model-dir", str(model), "--port", "0", "--grpc-port", "0") as found:
        yield found


def entry(name: str, kind: str, data: Sequence[object]) -> dict[str, Any]:
    return {"name": name, "datatype": kind, "shape": [len(data) // 2, 2], "data": list(data)}


def ask(server: Server, x: Sequence[object], scale: Sequence[float]) -> tuple[int, Any]:
    status, _, document = server.ask("POST", INFER, {"inputs": [entry("x", "BF16", x), entry("scale", "FP32", scale)]})
    return status, document


def test_the_metadata_names_it(server: Server) -> None:
    document = server.ask("GET", "/v2/models/m")[2]
    assert document["inputs"][0] == {"name": "x", "datatype": "BF16", "shape": [-1, 2]}
    assert document["outputs"][0] == {"name": "y", "datatype": "BF16", "shape": [-1, 2]}


def test_json_values_are_rounded_to_the_nearest(server: Server) -> None:
    # 1 + 2**-8 lies between two values of BF16 and becomes the even one; 3.14159 the nearest, 3.140625.
    status, document = ask(server, [1 + 2**-8, 3.14159, None, "-Infinity"], [1.0, 1.0, 1.0, 1.0])
    assert status == 200, document
    y, exact = (output["data"] for output in document["outputs"])
    assert y == exact == [1.0, 3.140625, None, "-Infinity"]
    # The answer is rounded as well: 3.140625 * 1.01 = 3.17203…
    status, document = ask(server, [3.140625, 2], [1.01, 1.0])
    y, exact = (output["data"] for output in document["outputs"])
    assert y == [3.171875, 2.0]
    assert math.isclose(exact[0], 3.140625 * 1.01, rel_tol=1e-6)


@pytest.mark.parametrize("value", [3.4e38, -(2.0**128), 10**39])
def test_a_number_beyond_the_largest_is_refused(server: Server, value: float) -> None:
    status, document = ask(server, [value, 0], [1.0, 1.0])
    assert (status, document["error"]) == (400, "input 'x': a value is out of the range of BF16")


def binary(x: bytes, rows: int) -> tuple[bytes, dict[str, str]]:
    head = json.dumps(
        {
            "inputs": [
                {"name": "x", "datatype": "BF16", "shape": [rows, 2], "parameters": {"binary_data_size": len(x)}},
                entry("scale", "FP32", [1.0] * 2 * rows),
            ],
            "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
        }
    ).encode()
    return head + x, {"Inference-Header-Content-Length": str(len(head))}


def test_binary_tensors_have_two_bytes_a_value(server: Server) -> None:
    x = struct.pack("<6H", 0x3F80, 0xC000, 0x7F80, 0x7FC1, 0x0001, 0x8000)
    body, headers = binary(x, 3)
    connection = server.connect()
    connection.request("POST", INFER, body, headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    assert response.status == 200, content
    at = int(response.headers["Inference-Header-Content-Length"])
    assert json.loads(content[:at])["outputs"][0]["parameters"] == {"binary_data_size": 12}
    found = struct.unpack("<6H", content[at:])
    # Not-a-number stays one, with any payload.
    assert [*found[:3], *found[4:]] == [0x3F80, 0xC000, 0x7F80, 0x0001, 0x8000]
    assert found[3] & 0x7F80 == 0x7F80
    assert found[3] & 0x7F
    body, headers = binary(x[:-1], 3)
    connection.request("POST", INFER, body, headers)
    response = connection.getresponse()
    assert response.status == 400
    assert b"11 bytes of binary data, BF16 of shape [3, 2] needs 12" in response.read()
    connection.close()


def test_no_rows_are_answered_with_none(server: Server) -> None:
    body, headers = binary(b"", 0)
    connection = server.connect()
    connection.request("POST", INFER, body, headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    assert response.status == 200, content
    assert json.loads(content[: int(response.headers["Inference-Header-Content-Length"])])["outputs"][0]["shape"] == [
        0,
        2,
    ]


def test_grpc_takes_and_gives_raw_values_and_has_no_typed_ones(server: Server) -> None:
    shape = {"shape": [1, 2]}
    tensors = [
        {"name": "x", "datatype": "BF16", **shape},
        {"name": "scale", "datatype": "FP32", **shape},
    ]
    raw = [struct.pack("<2H", 0x3F80, 0xC000), struct.pack("<2f", 2.0, 2.0)]
    with connected(server) as client:
        answer = client.call("ModelInfer", model_name="m", inputs=tensors, raw_input_contents=raw)
        assert [output.datatype for output in answer.outputs] == ["BF16", "FP32"]
        assert struct.unpack("<2H", answer.raw_output_contents[0]) == (0x4000, 0xC080)
        typed = [{**tensor, "contents": {"fp32_contents": [1.0, 2.0]}} for tensor in tensors]
        with pytest.raises(grpc.RpcError, match="BF16 has no typed contents, send it in raw_input_contents"):
            client.call("ModelInfer", model_name="m", inputs=typed)


def test_a_program_that_calculates_in_it_is_refused_with_what_to_do(tmp_path: Path) -> None:
    tensors: Tensors = {"x": ("BF16", ["batch", 2])}
    outputs: Tensors = {"y": ("BF16", ["batch", 2])}
    model = write_program(tmp_path / "m", [helper.make_node("Add", ["x", "x"], ["y"])], tensors, outputs)
    with pytest.raises(CannotServe, match="cannot load it: .*Add.*'x' is BF16: cast it to FP32 within the program"):
        load_model(model, threads=1)


def test_text_and_scalars_may_stand_beside_it(tmp_path: Path) -> None:
    inputs: Tensors = {
        "x": ("BF16", ["batch"]),
        "half": ("BF16", []),
        "scale": ("FP32", []),
        "text": ("BYTES", ["batch"]),
    }
    outputs: Tensors = {"y": ("FP32", ["batch"]), "one": ("FP32", []), "same": ("BYTES", ["batch"])}
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["half"], ["one"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "scale"], ["y"]),
        helper.make_node("Identity", ["text"], ["same"]),
    ]
    arrays = {
        "x": np.float32([1, 2]),
        "half": rounded(np.asarray(np.float32(1.0 + 2**-8))),
        "scale": np.asarray(np.float32(3)),
        "text": np.array(["a", "b"], dtype=object),
    }
    assert arrays["half"].shape == ()
    model = load_model(write_program(tmp_path / "m", nodes, inputs, outputs, record={}), threads=1)
    found = model.run(arrays)
    assert {name: (array.shape, array.tolist()) for name, array in found.items()} == {
        "y": ((2,), [3.0, 6.0]),
        "one": ((), 1.0),
        "same": ((2,), ["a", "b"]),
    }


def test_scalars_may_stand_beside_an_output_of_it(tmp_path: Path) -> None:
    inputs: Tensors = {"x": ("BF16", ["batch"]), "scale": ("FP32", [])}
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["scale"], ["one"], to=TensorProto.BFLOAT16),
        helper.make_node("Mul", ["wide", "scale"], ["product"]),
        helper.make_node("Cast", ["product"], ["y"], to=TensorProto.BFLOAT16),
    ]
    outputs: Tensors = {"y": ("BF16", ["batch"]), "one": ("BF16", [])}
    model = load_model(write_program(tmp_path / "m", nodes, inputs, outputs, record={}), threads=1)
    found = model.run({"x": np.float32([1, 2]), "scale": np.asarray(np.float32(3))})
    assert {name: (array.shape, array.tolist()) for name, array in found.items()} == {
        "y": ((2,), [3.0, 6.0]),
        "one": ((), 3.0),
    }


def test_an_output_of_it_beside_text_is_refused_when_the_model_is_loaded(tmp_path: Path) -> None:
    inputs: Tensors = {"x": ("FP32", ["batch"]), "text": ("BYTES", ["batch"])}
    outputs: Tensors = {"y": ("BF16", ["batch"]), "same": ("BYTES", ["batch"])}
    nodes = [
        helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16),
        helper.make_node("Identity", ["text"], ["same"]),
    ]
    model = write_program(tmp_path / "m", nodes, inputs, outputs)
    with pytest.raises(
        CannotServe, match="'y' is BF16, which ONNX Runtime does not give beside text, the input 'text'"
    ):
        load_model(model, threads=1)


def test_a_program_of_torch_with_it_is_refused(tmp_path: Path) -> None:
    tensors: Tensors = {"x": ("BF16", ["batch", 2])}
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    model = write_program(
        tmp_path / "m", nodes, tensors, {"y": ("BF16", ["batch", 2])}, record={"platform": "torch_export"}
    )
    with pytest.raises(CannotServe, match="'x' is BF16, which is served of ONNX programs only"):
        load_model(model, threads=1)


def test_all_values_come_back_and_those_between_are_rounded() -> None:
    every = np.arange(1 << 16, dtype="<u2")
    wide = values(every)
    numbers = ~np.isnan(wide)
    assert (bits(wide)[numbers] == every[numbers]).all()
    assert np.isnan(values(bits(wide)[~numbers])).all()
    torch = pytest.importorskip("torch")
    some = np.random.default_rng(0).standard_normal(10_000, dtype=np.float32) * np.float32(1e3)
    expected = torch.from_numpy(some).to(torch.bfloat16).to(torch.float32).numpy()
    np.testing.assert_array_equal(rounded(some), expected)
