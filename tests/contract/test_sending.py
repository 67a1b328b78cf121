"""Blobs that are sent out of their files, where the registry, the kernel or the address is not the usual one."""

import errno
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from modelway.oci.blobs import FilePart
from modelway.oci.sending import BODY, PartsBody, PartsTransport

from tests.certificates import write_certificate

#: more than all buffers between two sockets of this machine have
LARGE = 64 << 20
#: seconds after which a peer that reads nothing closes: a test without a timeout fails then
AT_MOST = 20.0
Serve = Callable[[socket.socket, threading.Event], None]
Start = Callable[[Serve], int]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return what starts a peer that serves one connection, and returns its port."""
    threads: list[threading.Thread] = []
    over = threading.Event()

    def started(serve: Serve) -> int:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.settimeout(AT_MOST)

        def accept() -> None:
            with suppress(OSError), listening, listening.accept()[0] as connection:
                # Else what is sent may still wait when a close with unread bytes discards it.
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                serve(connection, over)

        threads.append(threading.Thread(target=accept))
        threads[-1].start()
        return int(listening.getsockname()[1])

    yield started
    over.set()
    for thread in threads:
        thread.join()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost that nobody signed but itself, and its key, in one file."""
    return write_certificate(tmp_path_factory.mktemp("certificate"), host="localhost")


@pytest.fixture
def trusting(certificate: Path) -> Iterator[PartsTransport]:
    transport = PartsTransport(verify=ssl.create_default_context(cafile=str(certificate)))
    yield transport
    transport.close()


def spoken(connection: socket.socket, scheme: str, certificate: Path) -> socket.socket:
    """Return a connection, with TLS where the scheme says so."""
    if scheme == "http":
        return connection
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context.wrap_socket(connection, server_side=True)


def large_file(folder: Path) -> Path:
    with (folder / "blob").open("wb") as file:
        file.truncate(LARGE)
    return folder / "blob"


def put(transport: PartsTransport, url: str, path: Path, *, write: float = 30.0) -> httpx.Response:
    size = path.stat().st_size
    body = PartsBody(parts=(FilePart(path=path, offset=0, size=size),), stop=None)
    timeout = httpx.Timeout(2 * AT_MOST, write=write)
    request = httpx.Request(
        "PUT", url, headers={"Content-Length": str(size)}, extensions={BODY: body, "timeout": timeout.as_dict()}
    )
    return transport.handle_request(request)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_registry_that_takes_no_more_bytes_ends_the_upload_in_time(
    scheme: str, start: Start, certificate: Path, trusting: PartsTransport, tmp_path: Path
) -> None:
    def reads_nothing(connection: socket.socket, over: threading.Event) -> None:
        with spoken(connection, scheme, certificate):
            over.wait(AT_MOST)

    with pytest.raises(httpx.WriteTimeout):
        put(trusting, f"{scheme}://localhost:{start(reads_nothing)}/", large_file(tmp_path), write=0.5)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_registry_that_answers_before_it_has_the_whole_body_is_heard(
    scheme: str, start: Start, certificate: Path, trusting: PartsTransport, tmp_path: Path
) -> None:
    def refuses(connection: socket.socket, _: threading.Event) -> None:
        with spoken(connection, scheme, certificate) as speaking:
            speaking.recv(1 << 16)
            speaking.sendall(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")

    answer = put(trusting, f"{scheme}://localhost:{start(refuses)}/", large_file(tmp_path))
    assert (answer.status_code, answer.headers["Retry-After"]) == (httpx.codes.TOO_MANY_REQUESTS, "7")


def test_a_file_that_the_kernel_cannot_send_is_read_and_sent(
    start: Start, trusting: PartsTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[bytes] = []

    def stores(connection: socket.socket, _: threading.Event) -> None:
        with connection.makefile("rb") as file:
            while file.readline().strip():
                pass
            received.append(file.read(path.stat().st_size))
        connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    def refused(*_: object) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    path = tmp_path / "blob"
    path.write_bytes(os.urandom(1 << 20))
    monkeypatch.setattr(os, "sendfile", refused)
    assert put(trusting, f"http://localhost:{start(stores)}/", path).status_code == httpx.codes.CREATED
    assert received == [path.read_bytes()]


@pytest.mark.parametrize(("url", "port"), [("http://[::1]/", 80), ("https://[2001:db8::5]/", 443)])
def test_the_end_of_an_address_is_not_its_port(url: str, port: int, trusting: PartsTransport) -> None:
    connection = trusting._connection(httpx.Request("PUT", url))
    assert (f"[{connection.host}]", connection.port) == (url.split("/")[2], port)
