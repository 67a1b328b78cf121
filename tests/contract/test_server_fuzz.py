"""Wrong requests of every kind over HTTP: each is refused, the server runs on, and a well-behaved client sees nothing.

The requests are the same in every run (tests/fuzzed_requests.py). OpenAPI's tests are those of schemathesis, which is
installed beside the clients (tests/system/install_clients.sh).
"""

import contextlib
import http.client
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.client_environment import PYTHON, require_clients
from tests.fuzzed_requests import neighbour, odd_bytes, odd_documents, text
from tests.model_server import Server, Tensors, serving, write_program
from tests.tiny_model import WIDTH, infer_body

INFER = "/v2/models/m/infer"
LENGTH = "inference-header-content-length"
MIB = 1 << 20
ROWS = np.arange(2 * WIDTH, dtype="<f4").reshape(2, WIDTH)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("fuzzed")
    tensor: Tensors = {"x": ("FP32", ["batch", WIDTH])}
    node = helper.make_node("Add", ["x", "x"], ["y"])
    model = write_program(folder / "model", [node], tensor, {"y": tensor["x"]})
    with serving(folder, "--model-dir", str(model), "--port", "0") as found:
        yield found


@pytest.fixture
def beside(server: Server) -> Iterator[None]:
    """A client that must not notice anything, and a server that must not end."""
    connection = server.connect()

    def ask(value: float) -> float:
        connection.request("POST", INFER, json.dumps(infer_body(value=value)))
        answer = json.loads(connection.getresponse().read())
        found: float = answer["outputs"][0]["data"][-1]
        return found

    with neighbour(ask):
        yield
    connection.close()
    assert server.process.poll() is None
    assert 'code="5' not in server.ask("GET", "/metrics")[2].decode()


class Sender:
    """Sends bodies on one connection, which a refusal may close."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection

    def send(self, body: Any, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        # refused before all was sent
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.request("POST", INFER, body, headers or {})
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.will_close:
            self._connection.close()
        length = int(answer.getheader(LENGTH) or len(content))
        document: dict[str, Any] = json.loads(content[:length])
        return answer.status, document

    def check(self, body: bytes, headers: dict[str, str] | None = None) -> int:
        """Send a wrong body: it is refused with one sentence, or was right after all."""
        status, document = self.send(body, headers)
        if status == 200:
            assert document["model_name"] == "m", body[:300]
        else:
            assert 400 <= status < 500, (status, document, body[:300])
            assert document["error"].strip()
            assert "\n" not in document["error"]
        return status


@pytest.fixture
def sender(server: Server) -> Iterator[Sender]:
    with contextlib.closing(server.connect()) as connection:
        yield Sender(connection)


def binary() -> tuple[dict[str, Any], bytes]:
    """The JSON and the data of a request with a binary tensor."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, WIDTH], "parameters": {"binary_data_size": ROWS.nbytes}}
    return {
        "id": "7",
        "inputs": [tensor],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
    }, ROWS.tobytes()


@pytest.mark.usefixtures("beside")
def test_json_with_odd_values(sender: Sender) -> None:
    document = {
        **infer_body(rows=2),
        "id": "7",
        "parameters": {"binary_data_output": False},
        "outputs": [{"name": "y"}],
    }
    statuses = [sender.check(text(odd)) for odd in odd_documents(document, seed=1, number=250)]
    assert statuses.count(400) > 100


@pytest.mark.usefixtures("beside")
def test_json_with_odd_bytes(sender: Sender) -> None:
    statuses = [sender.check(body) for body in odd_bytes(json.dumps(infer_body(rows=2)).encode(), seed=2, number=150)]
    assert statuses.count(400) > 50


@pytest.mark.usefixtures("beside")
def test_binary_requests_with_odd_heads_data_and_lengths(sender: Sender) -> None:
    document, data = binary()
    statuses = []
    for odd in odd_documents(document, seed=3, number=120):
        head = text(odd)
        statuses.append(sender.check(head + data, {LENGTH: str(len(head))}))
    head = text(document)
    for body in odd_bytes(head + data, seed=4, number=80):
        statuses.append(sender.check(body, {LENGTH: str(len(head))}))
    for length in ("0", "1", "-1", "1e3", "999", str(2**64), str(len(head) - 1), str(len(head) + 1)):
        statuses.append(sender.check(head + data, {LENGTH: length}))
    assert statuses.count(400) > 100


@pytest.mark.usefixtures("beside")
def test_values_that_are_no_numbers_are_answered(sender: Sender) -> None:
    values = np.array([[np.nan, np.inf, -np.inf, -0.0]], dtype="<f4")
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, WIDTH], "parameters": {"binary_data_size": values.nbytes}}
    head = json.dumps({"inputs": [tensor]}).encode()
    status, document = sender.send(head + values.tobytes(), {LENGTH: str(len(head))})
    assert (status, document["outputs"][0]["data"]) == (200, [None, "Infinity", "-Infinity", -0.0])


@pytest.mark.usefixtures("beside")
@pytest.mark.parametrize("way", ["declared", "chunked", "binary"])
def test_a_hundred_megabytes_are_refused(server: Server, way: str) -> None:
    parts = [bytes(MIB)] * 100
    headers = {"content-length": str(100 * MIB)} if way != "chunked" else {"transfer-encoding": "chunked"}
    if way == "binary":
        headers[LENGTH] = "100"
    connection = server.connect()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.request("POST", INFER, iter(parts), headers, encode_chunked=way == "chunked")
    # where the rest is reset before the answer is read, the client does not see it
    with contextlib.suppress(ConnectionResetError, http.client.BadStatusLine):
        assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.usefixtures("beside")
def test_slow_and_vanishing_clients(server: Server) -> None:
    start = f"POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n".encode()
    connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
    for at in range(len(start)):
        for number, connection in enumerate(connections):
            # a third stops somewhere, a third vanishes, the rest sends its body in drops
            if at < 40 or number % 3 == 2 or at % len(connections) != number:
                connection.send(start[at : at + 1])
    for connection in connections[1::3]:
        connection.close()
    for _ in range(5):
        for connection in connections[2::3]:
            connection.send(b"{")
    for number, connection in enumerate(connections):
        if number % 3 != 1:
            connection.close()


def test_openapi_document_is_kept(server: Server, tmp_path: Path) -> None:
    """Schemathesis sends what the document allows and what it does not, and compares the answers with it.

    Whether data fits its shape is not in a schema, so that a body that fits the schema may be refused.
    """
    require_clients()
    (tmp_path / "schemathesis.toml").write_text('[checks.negative_data_rejection]\nexpected-statuses = ["4xx"]\n')
    options = ("--phases", "coverage,fuzzing", "--max-examples", "10", "--exclude-checks", "positive_data_acceptance")
    done = subprocess.run(
        [
            *(str(PYTHON), "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{server.port}/openapi.json"),
            *("--no-color", "--generation-deterministic", *options),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "9 selected / 9 total" in done.stdout
    assert server.process.poll() is None


def test_openapi_document_names_the_models_own_tensors(server: Server) -> None:
    document = server.ask("GET", "/openapi.json")[2]
    infer = document["paths"][INFER]["post"]
    schema = infer["requestBody"]["content"]["application/json"]["schema"]
    tensor = schema["properties"]["inputs"]["items"]["anyOf"][0]["properties"]
    assert (tensor["name"], tensor["datatype"]) == ({"const": "x"}, {"const": "FP32"})
    assert tensor["shape"]["prefixItems"] == [{"type": "integer", "minimum": 0}, {"const": WIDTH}]
