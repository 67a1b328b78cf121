"""Sends a blob's bytes out of its files: by the kernel where the connection is plain, else in large pieces.

The HTTP client takes a body piece by piece, through several generators, which costs more CPU than the network does.
"""

import errno
import http.client
import os
import socket
import ssl
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

import httpx

from modelway.errors import ImageInvalid, RegistryRefused
from modelway.oci.blobs import FilePart
from modelway.oci.manifest import LARGEST_DOCUMENT

#: the extension of a request whose body is sent from here
BODY = "modelway.body"
#: what the kernel sends before it is checked again whether to give up
_SLICE = 16 << 20
#: what is read and sent at once where the kernel does not do both
_PIECE = 256 * 1024
#: what the kernel says of files that it cannot send by itself, such as of some file systems in user space
_NOT_BY_KERNEL = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


@dataclass(frozen=True, kw_only=True)
class PartsBody:
    """A body of a request: bytes and parts of files."""

    parts: Sequence[bytes | FilePart]
    stop: threading.Event | None
    """When it is set, sending is given up."""


def refuse_stopped(stop: threading.Event | None) -> None:
    """Give an upload up once another one of its image has failed.

    :raises RegistryRefused: ``stop`` is set
    """
    if stop is not None and stop.is_set():
        raise RegistryRefused("the upload is given up, as another one of the image failed")


class PartsTransport(httpx.BaseTransport):
    """Sends bodies that are parts of files itself, each on a connection of its own, and leaves all else to httpx."""

    def __init__(self, *, verify: ssl.SSLContext) -> None:
        self._verify, self._other = verify, httpx.HTTPTransport(verify=verify)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        body = request.extensions.get(BODY)
        return self._send(request, body) if isinstance(body, PartsBody) else self._other.handle_request(request)

    def close(self) -> None:
        """Close the connections."""
        self._other.close()

    def _send(self, request: httpx.Request, body: PartsBody) -> httpx.Response:
        timeouts = request.extensions.get("timeout", {})
        with _translated(), closing(self._connection(request)) as connection:
            connection.connect()
            connection.putrequest(request.method, request.url.raw_path.decode(), True, True)
            for name, value in request.headers.raw:
                connection.putheader(name, value)
            connection.endheaders()
            # A registry that has seen enough answers and closes: its answer says why.
            with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                _send_parts(connection.sock, body, timeout=timeouts.get("write"))
            connection.sock.settimeout(timeouts.get("read"))
            answer = connection.getresponse()
            content = answer.read(LARGEST_DOCUMENT + 1)
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() != "transfer-encoding"]
        return httpx.Response(
            answer.status, headers=headers, content=content, extensions={"reason_phrase": answer.reason.encode()}
        )

    def _connection(self, request: httpx.Request) -> http.client.HTTPConnection:
        host, timeout = request.url.host, request.extensions.get("timeout", {}).get("connect")
        # Named always: the end of an IPv6 address would be read as the port.
        if request.url.scheme == "https":
            port = request.url.port or http.client.HTTPS_PORT
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=self._verify)
        return http.client.HTTPConnection(host, request.url.port or http.client.HTTP_PORT, timeout=timeout)


def _send_parts(connection: socket.socket, body: PartsBody, *, timeout: float | None) -> None:
    _limit(connection, timeout)
    for part in body.parts:
        if isinstance(part, bytes):
            connection.sendall(part)
            continue
        try:
            file = os.open(part.path, os.O_RDONLY)
        except OSError as error:
            raise _unreadable(part, str(error.strerror)) from error
        try:
            sent = _send_file(connection, file, part, body.stop)
        finally:
            os.close(file)
        if sent != part.size:
            raise _unreadable(part, f"{sent} bytes instead of {part.size}")


def _limit(connection: socket.socket, timeout: float | None) -> None:
    """Have a connection that takes no byte for so long raise an error."""
    if isinstance(connection, ssl.SSLSocket):
        # One without Python's timeout sends again and again, whatever the kernel's says.
        connection.settimeout(timeout)
        return
    # A timeout of Python's makes the connection one that never waits, which the kernel's sending does not bear.
    connection.settimeout(None)
    seconds = timeout or 0.0
    limit = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def _send_file(connection: socket.socket, file: int, part: FilePart, stop: threading.Event | None) -> int:
    """Send a part of a file and return how many bytes were there."""
    send = _sent_in_pieces if isinstance(connection, ssl.SSLSocket) else _sent_by_kernel
    done = 0
    while done < part.size:
        refuse_stopped(stop)
        try:
            number = send(connection, file, part.offset + done, min(_SLICE, part.size - done))
        except OSError as error:
            if error.errno == errno.EIO:
                raise _unreadable(part, str(error.strerror)) from error
            raise
        if not number:
            break
        done += number
    return done


def _sent_by_kernel(connection: socket.socket, file: int, offset: int, size: int) -> int:
    try:
        return os.sendfile(connection.fileno(), file, offset, size)
    except OSError as error:
        if error.errno not in _NOT_BY_KERNEL:
            raise
        return _sent_in_pieces(connection, file, offset, size)


def _sent_in_pieces(connection: socket.socket, file: int, offset: int, size: int) -> int:
    data = os.pread(file, min(size, _PIECE), offset)
    connection.sendall(data)
    return len(data)


def _unreadable(part: FilePart, what: str) -> ImageInvalid:
    # Whoever made the part finds out which file of the model it is.
    return ImageInvalid(f"a file cannot be sent ({what})", where=str(part.path), do="Build the image again")


@contextmanager
def _translated() -> Iterator[None]:
    """Raise httpx's errors, as it does for all other requests."""
    try:
        yield
    except (TimeoutError, BlockingIOError) as error:
        raise httpx.WriteTimeout("it takes no bytes, or does not answer, in time") from error
    except (OSError, http.client.HTTPException) as error:
        raise httpx.NetworkError(str(error) or error.__class__.__name__) from error
