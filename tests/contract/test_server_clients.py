"""KServe's and Triton's own clients read the server's answers right, or are refused with a message.

They are installed in an environment of their own (tests/system/install_clients.sh, tests/clients).
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from onnx import helper

from tests.client_environment import read_by, require_clients
from tests.inference_messages import SCHEMA
from tests.model_server import KINDS, Server, Tensors, serving, write_echo, write_program

#: twice [[nan, inf], [-inf, 0.5]]
DOUBLED = ["nan", "inf", "-inf", "1.0"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    require_clients()
    folder = tmp_path_factory.mktemp("server")
    tensor: Tensors = {"x": ("FP32", ["batch", 2])}
    model = write_program(folder / "model", [helper.make_node("Add", ["x", "x"], ["y"])], tensor, {"y": tensor["x"]})
    with serving(folder, "--model-dir", str(model), "--port", "0", "--version", "7") as found:
        yield found


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that answers tensors of every datatype as they came."""
    require_clients()
    folder = tmp_path_factory.mktemp("echo")
    model = write_echo(folder / "model")
    with serving(folder, "--model-dir", str(model), "--port", "0", "--grpc-port", "0") as found:
        yield found


def test_triton(server: Server) -> None:
    found = read_by("ask_triton.py", server.port)
    ways = ("JSON", "binary", "gzip, JSON", "gzip, binary", "deflate, JSON", "deflate, binary", "version")
    assert {way: found[way] for way in ways} == dict.fromkeys(ways, DOUBLED)
    assert found["no rows"] == []
    assert found["classes"].startswith(
        "[400] output 'y': the classification extension (class_count in Triton's client)"
    )
    assert found["BF16"] == "[400] input 'x': datatype 'BF16', expected 'FP32'"
    # it writes the length of one request's JSON into the caller's headers, and sends it with the next request
    assert found["headers, binary"] == DOUBLED
    for situation in ("headers again, 1", "headers again, 50"):
        assert found[situation].startswith("[400] ")
        assert "inference-header-content-length" in found[situation]


def test_kserve(server: Server) -> None:
    found = read_by("ask_kserve.py", server.port)
    for way in ("JSON", "binary"):
        assert found.pop(f"{way}, no rows") == []
    # it writes null for NaN and for the infinities, so that they come as NaN: its own loss, before the server
    lost = {f"JSON, {out}" for out in (None, False, True)}
    assert found == {way: ["nan", "nan", "nan", "1.0"] if way in lost else DOUBLED for way in found}


def test_every_datatype_by_triton_over_http(echo: Server) -> None:
    found = read_by("datatypes_triton_http.py", echo.port)
    assert found == {"wrong": {"JSON": {}, "binary": {}}, "datatypes": list(KINDS)}


def test_every_datatype_by_kserve_over_http(echo: Server) -> None:
    found = read_by("datatypes_kserve_http.py", echo.port)
    assert found == {"wrong": {"JSON": {}, "binary": {}}, "states": [True, True, True]}


def test_every_datatype_by_triton_over_grpc(echo: Server) -> None:
    found = read_by("datatypes_triton_grpc.py", echo.grpc_port)
    errors = found.pop("errors")
    assert found == {
        "wrong": {"None": {}, "gzip": {}, "deflate": {}},
        "large": {},
        "id": "7",
        "outputs": ["OUT_FP64", "OUT_BYTES"],
        "datatypes": list(KINDS),
        "shape": [-1, 3],
        "server": ["modelway", True, True],
        "model": [True, True],
        "no rows": {"FP32": [0, 3], "BYTES": [0, 3]},
    }
    assert errors == {
        "model": ["StatusCode.NOT_FOUND", "there is no model 'other' here, this server has 'm'"],
        "version": ["StatusCode.NOT_FOUND", "there is no version '8' of 'm' here, this server has '1'"],
        "classes": ["StatusCode.INVALID_ARGUMENT", errors["classes"][1]],
        "inputs": ["StatusCode.INVALID_ARGUMENT", "missing from inputs: 'BOOL' (BOOL [-1, 3])"],
    }
    assert "the classification extension (class_count in Triton's client) is not offered" in errors["classes"][1]


def test_every_datatype_by_kserve_over_grpc(echo: Server) -> None:
    found = read_by("datatypes_kserve_grpc.py", echo.grpc_port, "raw")
    assert found == {"wrong": {}, "datatypes": found["datatypes"], "states": [True, True, True]}
    assert set(found["datatypes"]) == set(KINDS)


def test_typed_contents_of_every_datatype_by_kserve_over_grpc(tmp_path: Path) -> None:
    """FP16 has none: the protocol has raw contents for it alone."""
    require_clients()
    kinds = [kind for kind in KINDS if kind != "FP16"]
    model = write_echo(tmp_path / "model", kinds=kinds)
    with serving(tmp_path, "--model-dir", str(model), "--port", "0", "--grpc-port", "0") as server:
        found = read_by("datatypes_kserve_grpc.py", server.grpc_port, "typed")
    assert found == {"wrong": {}, "datatypes": found["datatypes"], "states": [True, True, True]}
    assert set(found["datatypes"]) == set(kinds)


@pytest.mark.parametrize("client", ["kserve", "triton"])
def test_messages_have_the_numbers_that_the_clients_stubs_have(client: str) -> None:
    require_clients()
    found = read_by("schema.py", client)
    ours = {
        name: {field: [number, kind] for field, (number, kind) in fields.items()}
        for name, fields in SCHEMA.items()
        if not name.startswith("HealthCheck")
    }
    assert set(ours) <= set(found)
    for name, fields in ours.items():
        assert fields.items() <= found[name].items(), name
