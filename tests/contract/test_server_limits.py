"""What one client can take of the server: memory, the time of others, connections, its end."""

import contextlib
import json
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.model_server import Server, serving
from tests.tiny_model import WIDTH, infer_body, write_model

BENCH = Path(__file__).parents[2] / "bench" / "serving"
INFER = "/v2/models/tiny/infer"
HEAD = f"POST {INFER} HTTP/1.1\r\nhost: x\r\n".encode()
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    model = write_model(folder / "model", scale=2.0)
    limits = ("--max-body-mib", "8", "--max-json-mib", "2", "--max-in-flight-mib", "8", "--max-rows", "100000")
    with serving(folder, "--model-dir", str(model), "--port", "0", *limits) as found:
        yield found


def connect(server: Server, start: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    # a server that refuses need not read the rest
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(start)
    return connection


def answer(connection: socket.socket) -> tuple[int, Any]:
    """Return the answer on a connection that the server closes."""
    content = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            content += part
    connection.close()
    head, _, body = content.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_clients_that_do_their_worst_take_little_memory_and_change_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    import abuse

    found = abuse.measure(seconds=4, clients=2, plugins=BENCH.parents[1] / "plugins", niceness=0)
    assert found["beside"]["wrong"] == 0, found
    assert found["beside"]["requests"] > 0
    assert found["memory_mib"] <= abuse.TARGET_MIB, found
    assert sum(sum(answers.values()) for answers in found["attacks"].values()) >= 20, found
    assert not any(status.startswith("5") for kind in found["attacks"].values() for status in kind), found


def test_large_json_is_parsed_aside_and_answered(server: Server) -> None:
    rows = 20_000
    status, _, document = server.ask("POST", INFER, infer_body(rows=rows, value=0.5))
    assert (status, document["outputs"][0]["shape"]) == (200, [rows, WIDTH])
    assert set(document["outputs"][0]["data"]) == {1.0}
    child = psutil.Process(server.process.pid).children()[0]
    # one that dies is replaced
    child.kill()
    while child.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert server.ask("POST", INFER, infer_body(rows=rows))[0] == 200
    bad = infer_body(rows=rows)
    bad["inputs"][0]["data"][-1] = "x"  # type: ignore[index]
    status, _, document = server.ask("POST", INFER, bad)
    assert status == 400
    assert "FP32 data must be numbers" in document["error"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"inputs":[' + b" " * (3 * MIB), "the JSON is larger than the limit of 2097152 bytes"),
        (b'{"inputs":[' + b"[]," * (600 << 10), "more than 131072 JSON values"),
        (json.dumps(infer_body(rows=100_001)).encode(), "100001 rows in one request, the limit is 100000"),
    ],
    ids=["bytes", "values", "rows"],
)
def test_json_over_a_limit_is_413(server: Server, body: bytes, message: str) -> None:
    if b"FP32" in body:
        # as binary, since it has too many values for JSON
        tensor = {"name": "x", "datatype": "FP32", "shape": [100_001, WIDTH]}
        size = 100_001 * WIDTH * 4
        head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": size}}]}).encode()
        body = head + bytes(size)
        start = HEAD + b"inference-header-content-length: %d\r\n" % len(head)
    else:
        start = HEAD
    start += b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    status, document = answer(connect(server, start + body))
    assert status == 413
    assert message in document["error"]


def test_bodies_in_flight_are_bounded_together_and_small_ones_pass(server: Server) -> None:
    # Closed by the server in any case: while the first body is still on its way, the second is answered with 400.
    start = HEAD + b"connection: close\r\ncontent-length: %d\r\ninference-header-content-length: 9\r\n\r\n" % (7 * MIB)
    first = connect(server, start + b" " * (6 * MIB))
    try:
        end = time.monotonic() + 60
        while True:
            status, document = answer(connect(server, start + b" " * (7 * MIB)))
            if status == 429 or time.monotonic() > end:
                break
            if select.select([first], [], [], 0)[0]:
                # read more slowly than the second, so that it was the one to be refused
                assert answer(first)[0] == 429
                first = connect(server, start + b" " * (6 * MIB))
        assert (status, "try again" in document["error"]) == (429, True)
        assert server.ask("POST", INFER, infer_body())[0] == 200
    finally:
        first.close()


@pytest.mark.parametrize(
    ("start", "more", "status"),
    [
        (HEAD + b"x-long: ", b"y" * 200_000, 431),
        (HEAD + b"x: y\r\n" * 200 + b"\r\n", b"", 431),
        (HEAD + b"x-long: " + b"y" * 40_000 + b"\r\n\r\n", b"", 431),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\n \r\n0\r\nx: ", b"y" * (2 * MIB), 400),
    ],
    ids=["without end", "many", "long", "trailer"],
)
def test_large_headers_are_refused(server: Server, start: bytes, more: bytes, status: int) -> None:
    connection = connect(server, start)
    with contextlib.suppress(OSError):
        for at in range(0, len(more), 50_000):
            connection.sendall(more[at : at + 50_000])
            time.sleep(0.01)
    assert answer(connection)[0] == status
    assert server.ask("GET", "/v2/health/live")[0] == 200


def test_heads_and_bodies_that_do_not_come_are_cut_off(server: Server) -> None:
    """Each sends a little all the time."""
    ends = {
        "head": connect(server, HEAD),
        "body": connect(server, HEAD + b"content-length: 100000\r\n\r\n"),
        "chunks": connect(server, HEAD + b"transfer-encoding: chunked\r\n\r\n"),
    }
    drops = {"head": b"x: y\r\n", "body": b" ", "chunks": b"1\r\n \r\n"}
    found: dict[str, int] = {}
    end = time.monotonic() + 40
    while ends and time.monotonic() < end:
        for kind, connection in list(ends.items()):
            connection.settimeout(0.2)
            try:
                connection.sendall(drops[kind])
                if connection.recv(1, socket.MSG_PEEK):
                    found[kind] = answer(ends.pop(kind))[0]
            except TimeoutError:
                continue
            except OSError:
                # cut off, and the answer was lost since more was sent
                found[kind] = 408
                ends.pop(kind).close()
    assert found == dict.fromkeys(drops, 408)


def test_half_sent_bodies_hold_no_drain(tmp_path: Path) -> None:
    """One that stops and one that continues drop by drop; the limit of the drain is not reached."""
    model = write_model(tmp_path / "model", scale=2.0)
    with serving(tmp_path, "--model-dir", str(model), "--port", "0", "--drain-limit", "10") as server:
        start = HEAD + b"content-length: 100000\r\n\r\n{"
        stopped, dripping = connect(server, start), connect(server, start)
        complete = connect(server, HEAD + b"content-length: 1\r\n\r\n")
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        # one that comes to its end in time is answered
        time.sleep(0.5)
        complete.sendall(b"x")
        assert answer(complete)[0] == 400
        while server.process.poll() is None:
            with contextlib.suppress(OSError):
                dripping.sendall(b" ")
            time.sleep(0.1)
        assert server.process.returncode == 0
        stopped.close()
        dripping.close()


def test_answers_that_nobody_reads_are_no_memory(server: Server) -> None:
    body = json.dumps(infer_body(rows=20_000)).encode()
    request = HEAD + b"content-length: %d\r\n\r\n" % len(body) + body
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    held = [connect(server, request) for _ in range(30)]
    time.sleep(2)
    assert process.memory_info().rss - before < 60 * MIB
    assert server.ask("POST", INFER, infer_body())[0] == 200
    for connection in held:
        connection.close()
