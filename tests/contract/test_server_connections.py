"""What goes over one connection: how requests are kept apart, in which order they are answered, when it is closed."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from tests.model_server import Server, serving
from tests.tiny_model import WIDTH, infer_body, write_model

INFER = b"POST /v2/models/tiny/infer HTTP/1.1\r\nhost: x\r\n"
LIVE = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"
CHUNKED = INFER + b"transfer-encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    model = write_model(folder / "model", scale=2.0)
    with serving(folder, "--model-dir", str(model), "--port", "0", "--max-body-mib", "1") as found:
        yield found


class Client:
    """A connection whose bytes the test writes."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=60)

    def send(self, content: bytes) -> None:
        self.socket.sendall(content)

    def answer(self, method: str = "POST") -> tuple[int, dict[str, str], Any]:
        # unbuffered, so that nothing of the next answer is read
        response = HTTPResponse(self.socket, method=method)
        response.fp.close()
        response.fp = self.socket.makefile("rb", 0)
        response.begin()
        content = response.read()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, json.loads(content) if content else None

    def is_closed(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    found = Client(server)
    yield found
    found.socket.close()


def body(value: float, rows: int = 1) -> bytes:
    return json.dumps(infer_body(rows=rows, value=value)).encode()


def with_length(content: bytes, *lines: bytes) -> bytes:
    head = INFER + b"".join(line + b"\r\n" for line in lines)
    return head + b"content-length: %d\r\n\r\n" % len(content) + content


def data(answer: tuple[int, dict[str, str], Any]) -> float:
    status, _, document = answer
    assert status == 200, document
    found: float = document["outputs"][0]["data"][0]
    return found


@pytest.mark.parametrize(
    "request_bytes",
    [
        INFER + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        INFER + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
        INFER + b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc",
        INFER + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        INFER + b"content-length: 3, 3\r\n\r\nabc",
        INFER + b"content-length: +3\r\n\r\nabc",
        INFER + b"content-length: 0x3\r\n\r\nabc",
        INFER + b"content-length: \r\n\r\nabc",
        INFER + b"content-length: 99999999999999999999999\r\n\r\nabc",
        INFER + b"content-length : 3\r\n\r\nabc",
        INFER + b"transfer-encoding: gzip\r\n\r\nabc",
        INFER + b"transfer-encoding: chunked, gzip\r\n\r\nabc",
        INFER + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        INFER + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
        INFER + b"x: a\r\n folded\r\n\r\n",
        INFER + b"x: a\rb\r\n\r\n",
        INFER + b"x: a\0b\r\n\r\n",
        INFER + b": nameless\r\n\r\n",
        INFER + b"host: y\r\ncontent-length: 0\r\n\r\n",
        b"GET /v2/health/live HTTP/1.1\r\n\r\n",
        b"GET /v2/health/live HTTP/1.1\nhost: x\n\n",
        b"GET /v2/health/live HTTP/1.9\r\nhost: x\r\n\r\n",
        b"get /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v2/\x01 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        CHUNKED + b"3\nabc\n0\n\n",
        CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n",
        CHUNKED + b"ffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"0\r\ncontent-length: 3\r\n\r\n",
    ],
)
def test_what_two_servers_could_read_differently_is_refused_and_ends_the_connection(
    client: Client, request_bytes: bytes
) -> None:
    """Whatever follows is no request: it could have been put there by the client of a gateway."""
    client.send(request_bytes + LIVE)
    status, headers, document = client.answer()
    assert (status, headers["connection"]) == (400, "close")
    assert document["error"]
    client.socket.shutdown(socket.SHUT_WR)
    assert client.is_closed()


def test_a_version_of_http_that_is_not_spoken_is_505(client: Client) -> None:
    client.send(b"GET /v2/health/live HTTP/2.0\r\nhost: x\r\n\r\n")
    assert client.answer()[0] == 505
    assert client.is_closed()


@pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
def test_requests_on_one_connection_are_answered_in_their_order_however_they_are_cut(client: Client, size: int) -> None:
    """Pipelined: with a length, chunked, refused, without a body, and the same head again with another body."""
    chunks = b"".join(b"%x;some=extension\r\n%b\r\n" % (len(part), part) for part in (body(2.0)[:9], body(2.0)[9:]))
    requests = [
        with_length(body(1.0)),
        CHUNKED + chunks + b"0\r\ntrailer: x\r\n\r\n",
        with_length(b"{}"),
        LIVE,
        with_length(body(3.0)),
        with_length(body(4.0)),
        b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n",
        with_length(body(5.0)),
    ]
    content = b"".join(requests)
    for at in range(0, len(content), size):
        client.send(content[at : at + size])
    assert data(client.answer()) == 2.0
    assert data(client.answer()) == 4.0
    assert client.answer()[0] == 400
    assert client.answer()[2] == {"live": True}
    assert data(client.answer()) == 6.0
    assert data(client.answer()) == 8.0
    assert client.answer()[0] == 404
    assert data(client.answer()) == 10.0


def test_a_head_that_came_before_is_the_same_request_with_another_body(client: Client) -> None:
    for value in (1.0, 2.0, 3.0, 1.0):
        client.send(with_length(body(value)))
        assert data(client.answer()) == 2 * value
    # the same head, whose body is wrong, is too short at first, or is followed by another request
    client.send(with_length(body(4.0).replace(b"inputs", b"outputs")[: len(body(4.0))]))
    assert client.answer()[0] == 400
    whole = with_length(body(5.0))
    client.send(whole[:-3])
    client.send(whole[-3:] + whole + LIVE)
    assert [data(client.answer()), data(client.answer())] == [10.0, 10.0]
    assert client.answer()[2] == {"live": True}


def test_head_is_get_without_the_body(client: Client) -> None:
    for path in (b"/v2/health/live", b"/v2/models/tiny", b"/metrics", b"/nowhere"):
        client.send(b"HEAD %b HTTP/1.1\r\nhost: x\r\n\r\n" % path)
        status, headers, document = client.answer("HEAD")
        assert (status, document) == (404 if path == b"/nowhere" else 200, None)
        assert int(headers["content-length"]) > 10
    client.send(LIVE)
    assert client.answer()[2] == {"live": True}


def test_a_method_that_a_path_does_not_have_is_405(client: Client) -> None:
    client.send(b"DELETE /v2/models/tiny HTTP/1.1\r\nhost: x\r\n\r\n")
    status, headers, _ = client.answer()
    assert (status, headers["allow"]) == (405, "GET, HEAD")
    client.send(b"GET /v2/models/tiny/infer HTTP/1.1\r\nhost: x\r\n\r\n")
    assert client.answer()[1]["allow"] == "POST"
    client.send(b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n")
    assert client.answer()[0] == 404


@pytest.mark.parametrize(
    "target",
    [
        b"/v2/models/t%69ny/infer",
        b"http://x/v2/models/tiny/infer",
        b"/v2/models/tiny/infer?a=b",
        b"/v2/models/tiny/infer/",
    ],
)
def test_ways_to_write_a_target(client: Client, target: bytes) -> None:
    content = body(1.0)
    client.send(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (target, len(content)) + content)
    assert data(client.answer()) == 2.0


def test_expect_100_continue_is_answered_before_the_body_or_by_the_refusal(client: Client, server: Server) -> None:
    content = body(1.0)
    client.send(with_length(content, b"expect: 100-continue").removesuffix(content))
    assert client.socket.recv(25, socket.MSG_WAITALL) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(content)
    assert data(client.answer()) == 2.0
    # after an earlier answer, in its turn
    client.send(LIVE + with_length(content, b"expect: 100-continue").removesuffix(content))
    assert client.answer()[2] == {"live": True}
    assert client.socket.recv(25, socket.MSG_WAITALL) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(content)
    assert data(client.answer()) == 2.0
    # one that sends the body at once gets no such answer
    client.send(with_length(content, b"expect: 100-continue"))
    assert data(client.answer()) == 2.0
    client.send(INFER + b"expect: 100-continue\r\ncontent-length: 90000000\r\n\r\n")
    status, headers, _ = client.answer()
    assert (status, headers["connection"]) == (413, "close")
    other = Client(server)
    other.send(b"POST /nowhere HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n")
    assert other.answer()[0] == 404
    other.socket.close()


def test_a_refused_request_leaves_the_connection_usable_where_its_body_is_small(client: Client) -> None:
    for _ in range(2):
        client.send(b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n")
        client.send(b"123456789")
        status, headers, _ = client.answer()
        assert status == 404
        assert "connection" not in headers
    client.send(LIVE)
    assert client.answer()[2] == {"live": True}


@pytest.mark.parametrize("line", [b"connection: close\r\n", b""], ids=["asked for", "HTTP/1.0"])
def test_the_connection_is_closed_where_the_client_wants_it(client: Client, line: bytes) -> None:
    version = b"1.1" if line else b"1.0"
    client.send(b"GET /v2/health/live HTTP/%b\r\nhost: x\r\n%b\r\n" % (version, line) + LIVE)
    status, headers, _ = client.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert client.is_closed()


def test_a_client_that_sends_no_more_is_answered(client: Client) -> None:
    client.send(with_length(body(1.0)) + with_length(body(2.0)))
    client.socket.shutdown(socket.SHUT_WR)
    assert [data(client.answer()), data(client.answer())] == [2.0, 4.0]
    assert client.is_closed()


def test_a_wish_for_another_protocol_is_ignored(client: Client) -> None:
    """As Java's client sends with its first request, body and all."""
    lines = (b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAEAAEAAAAIAAAABAAMAAABk")
    for cut in (10_000, 1):
        request = with_length(body(1.0), *lines)
        for at in range(0, len(request), cut):
            client.send(request[at : at + cut])
        assert data(client.answer()) == 2.0
    client.send(LIVE)
    assert client.answer()[2] == {"live": True}


def test_every_answer_says_date_and_version(client: Client) -> None:
    for request in (LIVE, with_length(body(1.0)), b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n"):
        client.send(request)
        headers = client.answer()[1]
        assert headers["x-model-version"] == "1"
        assert headers["date"].endswith("GMT")


def test_many_small_requests_whose_answers_nobody_reads_wait(client: Client, server: Server) -> None:
    client.socket.settimeout(1)
    sent = 0
    try:
        while sent < 64 << 20:
            sent += client.socket.send(LIVE * 1000)
    except TimeoutError:
        pass
    assert sent < 64 << 20
    assert server.ask("POST", "/v2/models/tiny/infer", infer_body())[2]["outputs"][0]["shape"] == [1, WIDTH]


@pytest.mark.parametrize("after", [b"transfer-encoding: chunked\r\n\r\nZZ\r\n", b"content-length: 4\r\n\r\n"])
def test_a_request_that_was_refused_early_is_answered_though_its_body_is_broken(client: Client, after: bytes) -> None:
    client.send(b"POST /nowhere HTTP/1.1\r\nhost: x\r\n" + after)
    # the second one stalls until the server's limit
    assert client.answer()[0] in (400, 404, 408)
    assert client.is_closed()


def test_each_of_several_requests_may_ask_for_an_upgrade(client: Client) -> None:
    upgrade = (b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AA")
    client.send(b"".join(with_length(body(value), *upgrade) for value in (1, 2, 3)))
    assert [data(client.answer()) for _ in range(3)] == [2, 4, 6]


def test_an_id_that_is_no_text_is_refused(client: Client) -> None:
    document = {**infer_body(), "id": "\ud800"}
    client.send(with_length(json.dumps(document).replace("1.0", "NaN", 1).encode()))
    status, _, answer = client.answer()
    assert status == 400
    assert "id must be" in answer["error"]


def test_a_drain_answers_all_that_one_connection_has_sent(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", scale=2.0, work=4)
    with serving(tmp_path, "--model-dir", str(model), "--port", "0") as draining:
        client = Client(draining)
        client.send(with_length(body(1)) * 4)
        time.sleep(0.1)
        draining.process.send_signal(signal.SIGTERM)
        assert [data(client.answer()) for _ in range(4)] == [2] * 4
        assert client.is_closed()


def test_routes_of_a_platform_may_end_with_a_slash(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", scale=2.0)
    routes = {"AIP_HEALTH_ROUTE": "/", "AIP_PREDICT_ROUTE": "/predict/"}
    with serving(tmp_path, "--model-dir", str(model), "--port", "0", environ=routes) as server:
        assert server.ask("GET", "/")[0] == 200
        assert server.ask("POST", "/predict/", infer_body())[0] == 200
        assert server.ask("POST", "/predict", infer_body())[0] == 200
