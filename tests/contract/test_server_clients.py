"""KServe's and Triton's own clients read the server's answers right, or are refused with a message.

They are installed in an environment of their own (tests/system/install_clients.sh, tests/clients).
"""

from collections.abc import Iterator

import pytest
from onnx import helper

from tests.client_environment import read_by, require_clients
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
    with serving(folder, "--model-dir", str(write_echo(folder / "model")), "--port", "0") as found:
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
