"""KServe's and Triton's own clients read the server's answers right, or are refused in words.

They lie in an environment of their own (tests/system/install_clients.sh, tests/clients).
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from onnx import helper

from tests.model_server import Server, Tensors, serving, write_program

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-clients" / "bin" / "python"
#: twice [[nan, inf], [-inf, 0.5]]
DOUBLED = ["nan", "inf", "-inf", "1.0"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not (ROOT / ".venv-clients" / ".installed").exists():
        assert os.environ.get("CI") != "true", "the clients are not installed"
        pytest.skip("the clients are not installed: make services")
    folder = tmp_path_factory.mktemp("server")
    tensor: Tensors = {"x": ("FP32", ["batch", 2])}
    model = write_program(folder / "model", [helper.make_node("Add", ["x", "x"], ["y"])], tensor, {"y": tensor["x"]})
    with serving(folder, "--model-dir", str(model), "--port", "0", "--version", "7") as found:
        yield found


def asked(name: str, server: Server) -> dict[str, Any]:
    done = subprocess.run(
        [str(PYTHON), str(ROOT / "tests" / "clients" / name), str(server.port)],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_triton(server: Server) -> None:
    found = asked("ask_triton.py", server)
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
    found = asked("ask_kserve.py", server)
    for way in ("JSON", "binary"):
        assert found.pop(f"{way}, no rows") == []
    # it writes null for NaN and for the infinities, so that they come as NaN: its own loss, before the server
    lost = {f"JSON, {out}" for out in (None, False, True)}
    assert found == {way: ["nan", "nan", "nan", "1.0"] if way in lost else DOUBLED for way in found}
