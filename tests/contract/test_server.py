"""The server as a process: its URLs, its metrics, how it refuses and how it ends."""

import contextlib
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.model_server import Server, environ_of_server, serving, start
from tests.tiny_model import WIDTH, infer_body, write_model

INFER = "/v2/models/tiny/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    model = write_model(folder / "model", scale=2.0)
    options = ("--model-dir", str(model), "--version", "2", "--port", "0", "--max-body-mib", "1")
    with serving(folder, *options, environ={"AIP_PREDICT_ROUTE": "/predict", "AIP_HEALTH_ROUTE": "/ping"}) as found:
        yield found


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2", {"name": "modelway", "version": "1", "extensions": ["binary_tensor_data"]}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/ping", {"ready": True}),
        ("/v2/models/tiny/ready", {"name": "tiny", "ready": True}),
        ("/v2/models/tiny/versions/2/ready", {"name": "tiny", "ready": True}),
    ],
)
def test_health_and_server_metadata(server: Server, path: str, expected: dict[str, Any]) -> None:
    status, headers, document = server.ask("GET", path)
    assert (status, document) == (200, expected)
    assert headers["x-model-version"] == "2"


@pytest.mark.parametrize("path", ["/v2/models/tiny", "/v2/models/tiny/versions/2"])
def test_model_metadata(server: Server, path: str) -> None:
    tensor = {"datatype": "FP32", "shape": [-1, WIDTH]}
    expected = {
        "name": "tiny",
        "versions": ["2"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", **tensor}],
        "outputs": [{"name": "y", **tensor}],
        "parameters": {"batches": True},
    }
    assert server.ask("GET", path)[::2] == (200, expected)


@pytest.mark.parametrize("path", [INFER, "/v2/models/tiny/versions/2/infer", "/predict"])
def test_infer(server: Server, path: str) -> None:
    status, headers, document = server.ask("POST", path, infer_body(rows=2, value=1.5))
    assert status == 200
    assert headers["x-model-version"] == "2"
    assert document == {
        "model_name": "tiny",
        "model_version": "2",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, WIDTH], "data": [3.0] * (2 * WIDTH)}],
    }


def test_vertex_form_is_answered_on_its_route_alone(server: Server) -> None:
    rows = [[0.5] * WIDTH, [1.5] * WIDTH]
    expected = {"predictions": [[1.0] * WIDTH, [3.0] * WIDTH]}
    assert server.ask("POST", "/predict", {"instances": rows})[::2] == (200, expected)
    named = {"instances": [{"x": row} for row in rows], "parameters": {"ignored": 1}}
    assert server.ask("POST", "/predict", named)[::2] == (200, expected)
    # so large that another process reads it, and another thread writes it
    status, _, document = server.ask("POST", "/predict", {"instances": [[0.25] * WIDTH] * 8000})
    assert (status, document) == (200, {"predictions": [[0.5] * WIDTH] * 8000})
    status, _, document = server.ask("POST", INFER, {"instances": rows})
    assert (status, "inputs must be a list" in document["error"]) == (400, True)


@pytest.mark.parametrize(
    ("instances", "message"),
    [
        ([], "instances must be a list with a value for each row"),
        ({}, "instances must be a list"),
        ([[1.0, 2.0]], f"shape [1, 2] does not fit, expected [-1, {WIDTH}]"),
        ([[1.0] * WIDTH, [1.0]], "nested unevenly"),
        ([1.0], "shape [1] does not fit"),
        ([{"y": [1.0] * WIDTH}], "an instance must have the values of 'x', and no others"),
        ([["a"] * WIDTH], "FP32 data must be numbers"),
    ],
)
def test_instances_that_do_not_fit_are_refused(server: Server, instances: object, message: str) -> None:
    status, _, document = server.ask("POST", "/predict", {"instances": instances})
    assert (status, message in document["error"]) == (400, True), document


def test_binary_in_and_out(server: Server) -> None:
    array = np.arange(2 * WIDTH, dtype="<f4").reshape(2, WIDTH)
    entry = {"name": "x", "datatype": "FP32", "shape": [2, WIDTH], "parameters": {"binary_data_size": array.nbytes}}
    head = json.dumps({"id": "7", "parameters": {"binary_data_output": True}, "inputs": [entry]}).encode()
    connection = server.connect()
    connection.request("POST", INFER, head + array.tobytes(), {"Inference-Header-Content-Length": str(len(head))})
    response = connection.getresponse()
    body = response.read()
    length = int(response.getheader("Inference-Header-Content-Length") or 0)
    connection.close()
    assert json.loads(body[:length])["id"] == "7"
    assert np.array_equal(np.frombuffer(body[length:], dtype="<f4").reshape(2, WIDTH), array * 2)


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v2/models/other", 404, "there is no model 'other' here, this server has 'tiny'"),
        ("GET", "/v2/models/tiny/versions/3", 404, "there is no version '3' of 'tiny' here, this server has '2'"),
        ("POST", "/v2/models/other/infer", 404, "there is no model 'other' here"),
        ("POST", "/v2/models/tiny/versions/3/infer", 404, "there is no version '3'"),
        ("GET", "/elsewhere", 404, "GET /elsewhere: Not Found"),
        ("GET", INFER, 405, "Method Not Allowed"),
        ("POST", INFER, 400, "the body is not JSON"),
    ],
)
def test_refusals_are_json_with_one_sentence(server: Server, method: str, path: str, status: int, message: str) -> None:
    code, _, document = server.ask(method, path, b"" if method == "POST" else None)
    assert code == status
    assert message in document["error"]


@pytest.mark.parametrize("chunked", [False, True])
def test_body_over_the_limit_is_413(server: Server, chunked: bool) -> None:
    parts = (b"x" * 65536 for _ in range(400))
    connection = server.connect()
    if chunked:
        connection.request("POST", INFER, parts, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    else:
        connection.request("POST", INFER, b"x" * (30 << 20))
    response = connection.getresponse()
    assert response.status == 413
    assert "limit of 1048576 bytes" in json.loads(response.read())["error"]
    connection.close()


def test_metrics_carry_model_and_version(server: Server) -> None:
    def value(name: str, extra: str = "") -> float:
        text = server.ask("GET", "/metrics")[2].decode()
        found = re.search(rf'^{name}{{{extra}model="tiny",model_version="2"}} (\S+)$', text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    names = [
        ("modelway_requests_total", 'code="200",'),
        ("modelway_requests_total", 'code="400",'),
        ("modelway_request_seconds_count", ""),
    ]
    before = [value(*name) for name in names]
    for _ in range(3):
        server.ask("POST", INFER, infer_body())
    server.ask("POST", INFER, b"{}")
    assert [value(*name) - old for name, old in zip(names, before, strict=True)] == [3, 1, 4]
    assert value("modelway_requests_in_flight") == 0
    assert value("modelway_batch_rows_count") >= 3


def test_answers_that_are_not_finite_are_counted_once_each_and_sent(server: Server) -> None:
    def invalid() -> int:
        text = server.ask("GET", "/metrics")[2].decode()
        found = re.search(r"^modelway_invalid_answers_total{.*} (\S+)$", text, re.MULTILINE)
        assert found is not None
        return int(float(found[1]))

    before = invalid()
    server.ask("POST", INFER, infer_body(rows=3))
    assert invalid() == before
    # the second one is encoded aside of the event loop
    for rows in (2, 3000):
        status, _, document = server.ask("POST", INFER, infer_body(rows=rows, value=3e38))
        assert (status, document["outputs"][0]["data"]) == (200, [None] * rows * WIDTH)
    assert invalid() == before + 2


def _is_counted(server: Server) -> bool:
    before = server.ask("GET", "/v2/models/tiny/sketches")[2]["rows"]
    server.ask("POST", INFER, infer_body())
    return bool(server.ask("GET", "/v2/models/tiny/sketches")[2]["rows"] > before)


def test_sketches_show_what_came_in_and_out(server: Server) -> None:
    # Rows of a second are counted up to a limit, which the tests before may have reached.
    while not _is_counted(server):
        time.sleep(0.1)
    before = server.ask("GET", "/v2/models/tiny/sketches")[2]
    server.ask("POST", INFER, infer_body(rows=2, value=-7.0))
    status, headers, after = server.ask("GET", "/v2/models/tiny/versions/2/sketches")
    assert (status, headers["x-model-version"], after["model_version"]) == (200, "2", "2")
    assert after["rows_seen"] - before["rows_seen"] == 2
    assert [each["position"] for each in after["inputs"]] == [[at] for at in range(WIDTH)]
    assert {each["min"] for each in after["inputs"]} == {-7.0}
    assert {each["min"] for each in after["outputs"]} == {-14.0}
    assert before["predictions"] == after["predictions"]
    assert sum(each["count"] for each in after["classes"]) - sum(each["count"] for each in before["classes"]) == 2
    server.ask("POST", INFER, {"id": "seven", **infer_body(rows=2)})
    found = server.ask("GET", "/v2/models/tiny/sketches")[2]["predictions"]
    # Of equal scores the first is the class.
    assert [each[2:] for each in found[-2:]] == [["seven/0", 0], ["seven/1", 0]]


def test_a_share_of_the_requests_is_written_and_bounded(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", scale=3.0)
    folder = tmp_path / "samples"
    options = ("--model-dir", str(model), "--port", "0", "--sample-share", "1")
    with serving(tmp_path, *options, environ={"MODELWAY_SAMPLE_DIR": str(folder)}) as server:
        server.ask("POST", INFER, {"id": "seven", **infer_body(value=2.0)})
        server.ask("POST", INFER, b"{}")
        end = time.monotonic() + 60
        while not (text := (folder / "samples.jsonl").read_text()) and time.monotonic() < end:
            time.sleep(0.05)
    (found,) = map(json.loads, text.splitlines())
    assert (found["id"], found["model_name"], found["model_version"]) == ("seven", "tiny", "1")
    assert found["inputs"] == [{"name": "x", "shape": [1, WIDTH], "data": [2.0] * WIDTH}]
    assert found["outputs"] == [{"name": "y", "shape": [1, WIDTH], "data": [6.0] * WIDTH}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sample-dir", "/proc/nowhere"), "/proc/nowhere: samples cannot be written"),
        (("--sample-share", "2"), "--sample-share must be a number from 0 to 1, got '2'"),
        (("--max-wait", "0"), "--max-wait must be a whole number from 1"),
        (("--version", "1\r\nx: y"), "--version must be printable ASCII"),
    ],
)
def test_settings_that_cannot_be_used_end_with_one_clear_line(
    tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    model = write_model(tmp_path / "model", scale=1.0)
    process = start(tmp_path, "--model-dir", str(model), "--port", "0", *options)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, len(errors.strip().splitlines())) == (2, 1)
    assert message in errors


def test_many_clients_get_their_own_answers(server: Server) -> None:
    wrong: list[object] = []

    def client(number: int) -> None:
        connection = server.connect()
        for at in range(40):
            value = float(number * 100 + at)
            connection.request("POST", INFER, json.dumps(infer_body(rows=1 + at % 3, value=value)))
            document = json.loads(connection.getresponse().read())
            if document["outputs"][0]["data"] != [2 * value] * (WIDTH * (1 + at % 3)):
                wrong.append(document)
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_drain_answers_what_is_in_flight_and_what_still_comes(tmp_path: Path) -> None:
    """One slow request runs at SIGTERM; open connections and a new one send more; all are answered, then status 0."""
    model = write_model(tmp_path / "model", scale=3.0, work=8)
    with serving(tmp_path, "--model-dir", str(model), "--port", "0") as server:
        open_before = [server.connect() for _ in range(3)]
        for connection in open_before:
            connection.request("GET", "/v2/health/ready")
            assert json.loads(connection.getresponse().read()) == {"ready": True}
        slow = server.connect()
        slow.request("POST", INFER, json.dumps(infer_body()))
        while not re.search(rb"in_flight{.*} 1.0", server.ask("GET", "/metrics")[2]):
            time.sleep(0.005)
        server.process.send_signal(signal.SIGTERM)
        while server.ask("GET", "/v2/health/ready")[0] != 503:
            time.sleep(0.005)
        assert server.ask("GET", "/v2/health/live")[0] == 200
        late = [*open_before, server.connect()]
        for connection in late:
            connection.request("POST", INFER, json.dumps(infer_body()))
        for connection in (slow, *late):
            response = connection.getresponse()
            assert response.status == 200
            assert response.getheader("connection") == "close"
            assert json.loads(response.read())["outputs"][0]["data"] == [3.0] * WIDTH
            connection.close()
        assert server.process.wait(10) == 0


def test_the_first_process_of_a_container_drains_on_a_read_only_file_system(tmp_path: Path) -> None:
    """One request runs at SIGTERM and is answered; a signal that is not handled would be ignored."""
    if subprocess.run(["unshare", "--user", "--pid", "--mount", "--fork", "true"], capture_output=True).returncode:
        pytest.skip("namespaces are not allowed here")
    model = write_model(tmp_path / "model", scale=3.0, work=8)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    read_only = "mount --make-rprivate / && mount -o remount,bind,ro /"
    program = [sys.executable, "-m", "modelway.server", "--model-dir", str(model)]
    inner = f"{read_only}; touch {tmp_path}/x 2>/dev/null && exit 9; exec {shlex.join(program)}"
    process = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--pid", "--mount", "--fork", "sh", "-c", inner],
        env={**environ_of_server(), "AIP_HTTP_PORT": str(port)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        server = Server(process, port)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            assert process.poll() is None, process.communicate()[1]
            with contextlib.suppress(OSError):
                if server.ask("GET", "/v2/health/ready")[0] == 200:
                    break
            time.sleep(0.02)
        first = psutil.Process(process.pid).children()[0]
        slow = server.connect()
        slow.request("POST", INFER, json.dumps(infer_body()))
        while not re.search(rb"in_flight{.*} 1.0", server.ask("GET", "/metrics")[2]):
            time.sleep(0.005)
        first.send_signal(signal.SIGTERM)
        assert json.loads(slow.getresponse().read())["outputs"][0]["data"] == [3.0] * WIDTH
        slow.close()
        assert process.wait(20) == 0
    finally:
        for each in psutil.Process(process.pid).children() if process.poll() is None else []:
            each.kill()
        process.kill()
        process.communicate()


def test_a_server_that_is_still_loading_ends_at_once_as_the_first_process_too(tmp_path: Path) -> None:
    """It handles the signal before it loads what takes a second."""
    process = start(tmp_path, "--model-dir", str(write_model(tmp_path / "model", scale=3.0)), "--port", "0")
    proc = Path(f"/proc/{process.pid}")
    try:
        while True:
            # The libraries first: what is not there now was not there when the signal was not handled.
            loaded = "onnxruntime" in (proc / "maps").read_text()
            caught = re.search(r"^SigCgt:\s+(\w+)$", (proc / "status").read_text(), re.MULTILINE)
            assert caught is not None
            if int(caught[1], 16) >> (signal.SIGTERM - 1) & 1:
                break
            assert not loaded
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_drain_is_limited(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", scale=3.0, work=40)
    with serving(tmp_path, "--model-dir", str(model), "--port", "0", "--drain-limit", "0.5") as server:
        connection = server.connect()
        connection.request("POST", INFER, json.dumps(infer_body()))
        while not re.search(rb"in_flight{.*} 1.0", server.ask("GET", "/metrics")[2]):
            time.sleep(0.005)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 1
        assert time.monotonic() - began < 5
        connection.close()


def test_idle_server_ends_soon_with_status_0(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", scale=1.0)
    with serving(tmp_path, "--model-dir", str(model), "--port", "0") as server:
        idle = server.connect()
        idle.connect()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(5) == 0
        idle.close()


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", scale=1.0)
    environ = {
        "MODELWAY_MODEL_DIR": str(model),
        "MODELWAY_MODEL_NAME": "other",
        "MODELWAY_MODEL_VERSION": "9",
        "PORT": "0",
    }
    with serving(tmp_path, environ=environ) as server:
        assert server.ask("GET", "/v2/models/other")[2]["versions"] == ["9"]


def damage(model: Path, kind: str) -> None:
    if kind == "broken":
        (model / "model" / "model.onnx").write_bytes(b"not a model")
    elif kind == "no model":
        (model / "model" / "model.onnx").unlink()
    elif kind == "no weights":
        (model / "model" / "model.safetensors").unlink()
    elif kind == "no signature":
        (model / "outputs" / "model.yml").unlink()
    elif kind == "other signature":
        path = model / "outputs" / "model.yml"
        path.write_text(path.read_text().replace("FP32", "FP64"))
    elif kind == "unknown datatype":
        path = model / "outputs" / "model.yml"
        path.write_text(path.read_text().replace("FP32", "FLOAT"))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("broken", "model.onnx: ONNX Runtime cannot load it"),
        ("no model", "model.onnx: there is no such file"),
        ("no weights", "model.onnx: ONNX Runtime cannot load it.*model.safetensors"),
        ("no signature", "model.yml: cannot be read"),
        ("other signature", "model.yml says"),
        ("unknown datatype", "datatype 'FLOAT' is not one of BOOL"),
    ],
)
def test_model_that_cannot_be_served_ends_with_one_clear_line(tmp_path: Path, kind: str, message: str) -> None:
    model = write_model(tmp_path / "model", scale=1.0)
    damage(model, kind)
    process = start(tmp_path, "--model-dir", str(model), "--port", "0")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert len(errors.strip().splitlines()) == 1
    assert re.search(message, errors)


def test_port_that_is_taken_ends_the_server(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", scale=1.0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start(tmp_path, "--model-dir", str(model), "--port", str(taken.getsockname()[1]))
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "address already in use" in errors
