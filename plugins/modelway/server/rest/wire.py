"""The connections: answers are sent in one write, and a client that is too slow or too large is cut off.

Head and body of an answer are sent in one write, so that a killed server never leaves half an answer to a gateway: it
can retry on another server only while it has received nothing of the answer. It saves a system call, too.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: connections at a time; the gateway opens a thousand at most
MAX_CONNECTIONS = 2048
#: of one request
_MAX_HEADERS = 100
_MAX_HEAD = 32 << 10
_MAX_AROUND = 1 << 20
#: seconds for a whole head
HEAD_SECONDS = 10.0
#: a body must bring so many bytes, or end, in each period of so many seconds
BODY_PROGRESS = 256 << 10
BODY_SECONDS = 10.0
#: seconds in which the rest of a refused body is read and discarded, and between two reads
_LINGER_SECONDS = 10.0
_LINGER_PAUSE = 0.01
#: seconds in which a client must read something of its answer
_ANSWER_SECONDS = 30.0


class _Joining:
    """A transport that collects what is written in one turn of the event loop."""

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, linger: Callable[[], bool]
    ) -> None:
        self._transport, self._loop, self._linger = transport, loop, linger
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        self._flush()
        if not self._linger():
            self._transport.close()

    def close_now(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            data, self._parts = b"".join(self._parts), []
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with limits, over a transport that joins writes.

    Times are checked by :func:`check_all` once a second, not by timers, which every request would pay for.
    """

    #: when the head that is being read began; None: none is
    _head_since: float | None = None
    #: bytes of that head in earlier reads
    _head_bytes = 0
    #: whether the end of a body is still to come, whether answered already or not
    _in_body = False
    #: bytes read since the body last made enough progress, and when that was
    _body_bytes = 0
    _body_since = 0.0
    #: bytes read that are in no body: sizes and extensions of chunks, trailers
    _around = 0
    #: until when the rest of a refused body is discarded; None: it is read
    _lingers_until: float | None = None
    #: bytes that waited for the client, and since when
    _unsent = 0
    _unsent_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a new connection."""
        super().connection_made(cast(asyncio.Transport, _Joining(transport, self.loop, self._linger)))
        self._head_since = time.monotonic()
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read a part of a request."""
        if self._lingers_until is not None:
            # slowly: discarding a body must not keep the others waiting
            self.flow.pause_reading()
            self.loop.call_later(_LINGER_PAUSE, self.flow.resume_reading)
            return
        before = self._head_since
        self._body_bytes += len(data)
        self._around += len(data)
        super().data_received(data)
        if before is not None and before is self._head_since:
            # still the same head
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD:
                self._cut_off(431, f"the headers are larger than {_MAX_HEAD} bytes")
        elif self._around > _MAX_AROUND:
            self._cut_off(400, "more is sent around the body than in it")

    def on_body(self, body: bytes) -> None:
        """Receive a part of the body."""
        # a chunk of one byte has five around it
        self._around -= 8 * len(body)
        super().on_body(body)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._head_since, self._head_bytes = time.monotonic(), 0

    def on_headers_complete(self) -> None:
        """Start the answer to a request whose head is complete."""
        self._body_since, self._body_bytes, self._around, self._head_since = time.monotonic(), 0, 0, None
        self._in_body = True
        app = self.app
        if len(self.headers) > _MAX_HEADERS or sum(len(name) + len(value) for name, value in self.headers) > _MAX_HEAD:
            self.app = _headers_too_large
        try:
            super().on_headers_complete()
        finally:
            self.app = app

    def on_message_complete(self) -> None:
        """End the body."""
        self._in_body = False
        super().on_message_complete()

    def check(self, now: float) -> None:
        """Cut the client off when it is too slow."""
        if self._lingers_until is not None:
            if now > self._lingers_until:
                self.transport.abort()
        elif self.transport.is_closing():
            # closed, but the client does not read the rest of its answer
            self._check_unsent(now)
        elif self._head_since is not None and (self.cycle is None or self.cycle.response_complete):
            if now - self._head_since > HEAD_SECONDS:
                self._cut_off(408, f"the headers did not come within {HEAD_SECONDS:.0f} s")
        elif self._in_body:
            self._check_body(now)
        else:
            self._check_unsent(now)

    def _linger(self) -> bool:
        """Whether the connection stays open to discard the rest of a body.

        Closing a connection with unread data resets it, and clients and gateways lose the answer, too.
        """
        if not self._in_body or self._lingers_until is not None or self.transport.is_closing():
            return False
        self._lingers_until = time.monotonic() + _LINGER_SECONDS
        self.transport.write_eof()
        self.flow.resume_reading()
        return True

    @property
    def arriving(self) -> bool:
        """Whether the end of a body is still to come."""
        return self._in_body and not self.cycle.response_complete

    def _check_body(self, now: float) -> None:
        # not the client's fault while nothing is read from it
        answered = self.cycle.response_complete
        if not answered and (self._body_bytes >= BODY_PROGRESS or self.flow.read_paused):
            self._body_bytes, self._body_since = 0, now
        elif now - self._body_since > BODY_SECONDS:
            self._cut_off(408, f"the body brought less than {BODY_PROGRESS} bytes in {BODY_SECONDS:.0f} s")

    def _check_unsent(self, now: float) -> None:
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        elif now - self._unsent_since > _ANSWER_SECONDS:
            self.transport.abort()

    def _cut_off(self, status: int, text: str) -> None:
        waiting = self.cycle is not None and not self.cycle.response_started
        if waiting != self._in_body or self.pipeline:
            # what is written now would be read as the answer to an earlier request, or after this one's
            return self._close_now()
        body = b'{"error":"%s"}' % text.encode()
        head = b"HTTP/1.1 %d \r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, len(body)) + body)
        self._close_now()
        self._head_since = None

    def _close_now(self) -> None:
        cast(_Joining, self.transport).close_now()


def check_all(connections: Iterable[Any]) -> None:
    """Cut off all clients that are too slow."""
    now = time.monotonic()
    for connection in list(connections):
        connection.check(now)


def drop_arriving(connections: Iterable[Any]) -> None:
    """Cut off all requests whose body is not complete."""
    for connection in list(connections):
        if connection.arriving:
            connection.transport.abort()


async def _headers_too_large(scope: Scope, receive: Receive, send: Send) -> None:
    body = b'{"error":"the headers are more than %d or larger than %d bytes"}' % (_MAX_HEADERS, _MAX_HEAD)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 431, "headers": headers})
    await send({"type": "http.response.body", "body": body})
