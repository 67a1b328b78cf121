"""One HTTP/1.1 connection: requests are parsed by httptools, answered in their order, each in one write.

Head and body of an answer are sent in one write, so that a killed server never leaves half an answer to a gateway: it
can retry on another server only while it has received nothing of the answer. It saves a system call, too.

Times are checked by :meth:`Connection.check` once a second, not by timers, which every request would pay for.
"""

import asyncio
import time
from collections import deque
from http import HTTPStatus
from typing import Protocol, cast

import httptools

from modelway.server.core.budget import FREE, Share
from modelway.server.core.refusal import Refusal
from modelway.server.rest.message import Head, Request, Response, refusal_response

#: of one request
_MAX_HEADERS = 100
_MAX_HEAD = 32 << 10
_MAX_AROUND = 1 << 20
#: seconds for a whole head
HEAD_SECONDS = 10.0
#: a body must bring so many bytes, or end, in each period of so many seconds
BODY_PROGRESS = 256 << 10
BODY_SECONDS = 10.0
#: seconds of an idle connection; longer than a gateway keeps one, so that the gateway and not the server closes it
_IDLE_SECONDS = 75.0
#: seconds in which the rest of a refused body is read and discarded, and between two reads
_LINGER_SECONDS = 10.0
_LINGER_PAUSE = 0.01
#: seconds in which a client must read something of its answer
_ANSWER_SECONDS = 30.0
#: bytes up to which the body of an answer is copied behind its head
_COPIED = 256 << 10
#: heads that are remembered, and bytes of each, at most
_KNOWN_HEADS, _KNOWN_BYTES = 512, 2 << 10

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
#: what a client of HTTP/2 begins with
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: headers that ask for another protocol, which a server may ignore
_UPGRADE = (b"connection", b"upgrade", b"http2-settings")
#: reasons for reading nothing more, as bits
_PIPELINED, _IN_TURN, _LINGERING = 1, 2, 4


class Application(Protocol):
    """What a connection needs of the server."""

    #: header lines of every answer
    common: bytes
    #: whether connections are closed after their next answer
    draining: bool
    #: heads of earlier requests, as they came, which are not parsed again; cleared now and then
    known_heads: dict[bytes, Head]

    def opened(self, connection: "Connection") -> bool:
        """Count a new connection; whether there may be one more."""

    def closed(self, connection: "Connection") -> None:
        """Forget a connection."""

    def accept(self, request: Request) -> None:
        """Set what answers a request whose head is complete.

        :raises Refusal: when nothing does
        """

    def accept_again(self, request: Request) -> None:
        """Accept a request whose head was accepted before."""

    def arrived(self, request: Request) -> None:
        """Count a request that is complete."""

    def answer(self, request: Request, connection: "Connection") -> None:
        """Answer a complete request, now or later, by :meth:`Connection.respond`."""

    def finished(self, request: Request, status: int) -> None:
        """Count the answer to a request; status 499 where the client is gone."""

    def speak_http2(self, connection: "Connection", transport: asyncio.Transport, data: bytes) -> None:
        """Hand a new connection over whose client speaks HTTP/2."""

    def read_in_turn(self, connection: "Connection") -> None:
        """Call :meth:`Connection.read_on` after those of the connections that came before."""


class Connection(asyncio.Protocol):
    """A client's connection; the parser calls the ``on_…`` methods."""

    def __init__(self, application: Application) -> None:
        """Serve the ``application``."""
        self._app = application
        self._parser = httptools.HttpRequestParser(self)
        #: requests in the order of their arrival; the last one may be incomplete
        self._queue: deque[Request] = deque()
        #: the last one of them while its body arrives
        self._incoming: Request | None = None
        self._answering = self._advancing = False
        self._not_reading = 0
        #: whether no further request is read: the last one closes the connection, or what came is not HTTP
        self._ends = False
        #: whether the parser has read whole requests, and nothing of the next one
        self._between = True
        #: when the head that is being read began; None: none is
        self._head_since: float | None = time.monotonic()
        #: bytes of that head in earlier reads
        self._head_bytes = 0
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_count = self._header_bytes = 0
        self._several_hosts = False
        #: bytes read since the body last made enough progress, and when that was
        self._body_bytes = 0
        self._body_since = 0.0
        #: bytes read that are in no body: sizes and extensions of chunks, trailers
        self._around = 0
        self._idle_since: float | None = None
        #: until when the rest of a refused body is discarded; None: it is read
        self._lingers_until: float | None = None
        #: whether the client must read before more is sent, and what the answer holds until then
        self._blocked = False
        self._unsent_share: Share | None = None
        self._unsent = 0
        self._unsent_since = 0.0

    # what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept a new connection."""
        self._transport = cast(asyncio.Transport, transport)
        if not self._app.opened(self):
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget all requests."""
        self._app.closed(self)
        self._ends = True
        for request in self._queue:
            request.release()
            self._app.finished(request, 499)
        self._queue.clear()
        self._free_unsent()

    def eof_received(self) -> bool:
        """End after the answers to what has arrived, when the client sends no more; return whether there are any."""
        self._ends = True
        if self._lingers_until is not None or self._incoming is not None:
            return False
        return bool(self._queue)

    def pause_writing(self) -> None:
        """Answer no further request until the client has read."""
        self._blocked = True

    def resume_writing(self) -> None:
        """Answer further."""
        self._blocked = False
        self._free_unsent()
        self._advance()

    def data_received(self, data: bytes) -> None:
        """Read a part of a request, or of several."""
        if self._ends:
            return self._discard()
        known = 0
        if self._between and not self._queue:
            known = data.find(b"\r\n\r\n") + 4
            head = self._app.known_heads.get(data[:known])
            if head is not None and len(data) - known == head.body_length:
                return self._repeated(head, data[known:])
            if self._idle_since is None and data.startswith(_HTTP2):
                return self._app.speak_http2(self, self._transport, data)
        self._parse(data)
        if self._between and len(self._queue) == 1:
            self._remember(data, known)
        self._advance()
        if len(self._queue) > 1:
            self._stop_reading(_PIPELINED)
        elif (incoming := self._incoming) is not None and incoming.size > FREE:
            # one part of all large bodies in each turn of the event loop, so that small requests do not wait for more
            self._stop_reading(_IN_TURN)
            self._app.read_in_turn(self)

    def _parse(self, data: bytes) -> None:
        before = self._head_since
        self._body_bytes += len(data)
        self._around += len(data)
        self._feed(data)
        if before is not None and before is self._head_since:
            # still the same head
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD:
                self._refuse_all(Refusal(431, f"the headers are larger than {_MAX_HEAD} bytes"))
        elif self._incoming is not None and self._around > _MAX_AROUND:
            self._refuse_all(Refusal(400, "more is sent around the body than in it"))

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                return self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade(data[upgrade.args[0] :])
            except httptools.HttpParserError as error:
                return self._invalid(error)

    def _repeated(self, head: Head, body: bytes) -> None:
        """Receive a request whose head came before, byte by byte, and was read by the parser then."""
        self._head_since = self._idle_since = None
        request = Request(head)
        self._queue.append(request)
        self._app.accept_again(request)
        request.add(body)
        request.complete = True
        self._app.arrived(request)
        self._advance()

    def _remember(self, data: bytes, end: int) -> None:
        """Keep the head of a complete request that came alone and in one part."""
        request, known = self._queue[0], self._app.known_heads
        head = request.head
        plain = head.keep_alive and not head.expects_continue and b"upgrade" not in head.headers
        alone = 4 < end <= _KNOWN_BYTES and len(data) - end == head.body_length
        if plain and alone and request.refusal is None and len(known) < _KNOWN_HEADS:
            known[data[:end]] = head

    # what the parser calls

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._between = False
        self._target, self._headers, self._header_count, self._header_bytes = b"", {}, 0, 0
        self._head_since, self._head_bytes, self._idle_since = time.monotonic(), 0, None
        self._several_hosts = False

    def on_url(self, part: bytes) -> None:
        """Receive a part of the target."""
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Receive a header, or a trailer, which nobody wants."""
        if self._incoming is not None:
            return
        self._header_count += 1
        self._header_bytes += len(name) + len(value)
        name = name.lower()
        if name in self._headers:
            self._several_hosts |= name == b"host"
            value = b"%s, %s" % (self._headers[name], value)
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        """Find out what answers the request."""
        parser = self._parser
        version = parser.get_http_version()
        keep_alive = version == "1.1" and parser.should_keep_alive()
        head = Head(parser.get_method().decode(), self._target, self._headers, keep_alive=keep_alive)
        request = Request(head)
        self._head_since, self._body_since, self._body_bytes, self._around = None, time.monotonic(), 0, 0
        self._queue.append(request)
        self._incoming = request
        if parser.should_upgrade() and request.head.method != "CONNECT":
            # comes again, as a request that asks for no upgrade
            return
        try:
            self._check_head(version)
            self._app.accept(request)
        except Refusal as refusal:
            request.refuse(refusal)
            head.keep_alive &= refusal.status not in (400, 431, 505)
            request.patient = "connection" not in refusal.headers and not request.continues

    def on_body(self, part: bytes) -> None:
        """Receive a part of the body."""
        # a chunk of one byte has five around it
        self._around -= 8 * len(part)
        if self._incoming is not None:
            self._incoming.add(part)

    def on_message_complete(self) -> None:
        """End the body."""
        request, parser = self._incoming, self._parser
        if request is None or (parser.should_upgrade() and request.head.method != "CONNECT"):
            return
        self._incoming = None
        request.complete = self._between = True
        self._app.arrived(request)
        self._ends |= not request.head.keep_alive

    # answers

    def respond(self, response: Response) -> None:
        """Send the answer to the oldest request."""
        if not self._queue:
            # the client is gone
            return
        self._answering = False
        self._send(self._queue.popleft(), response)
        self._advance()

    def _advance(self) -> None:
        """Answer the requests that have their turn."""
        if self._advancing:
            return
        self._advancing = True
        while self._queue and not self._answering and not self._blocked:
            request = self._queue[0]
            if not request.answerable:
                if request.continues and not request.size:
                    request.continues = False
                    self._transport.write(_CONTINUE)
                break
            if request.refusal is not None:
                self.respond(refusal_response(request.refusal))
            else:
                self._answering, request.alone = True, len(self._queue) == 1
                self._app.answer(request, self)
        self._advancing = False
        if self._not_reading & _PIPELINED and len(self._queue) <= 1:
            self._read_on(_PIPELINED)

    def _send(self, request: Request, response: Response) -> None:
        body, transport = response.body, self._transport
        close = (
            response.close
            or (self._app.draining and not self._queue)
            or not (request.head.keep_alive and request.complete)
        )
        head = b"%b%b%bcontent-length: %d\r\n%b\r\n" % (
            _STATUS_LINES[response.status],
            self._app.common,
            response.headers,
            len(body),
            b"connection: close\r\n" if close else b"",
        )
        if request.head.method == "HEAD":
            transport.write(head)
        elif len(body) <= _COPIED:
            transport.write(head + body)
        else:
            transport.writelines((head, body))
        self._app.finished(request, response.status)
        request.parts = []
        if request.share is not None:
            if self._blocked:
                self._unsent_share = request.share
            else:
                request.share.close()
        if close:
            self._close(linger=not request.complete)
        elif not self._queue:
            self._idle_since = time.monotonic()
            if self._ends:
                # the client sends no more
                self._close(linger=False)

    def _close(self, *, linger: bool) -> None:
        """Close after what was written.

        While a body arrives the connection stays open to discard the rest: closing one with unread data resets it, and
        clients and gateways lose the answer, too.
        """
        self._ends = True
        for request in self._queue:
            request.release()
            self._app.finished(request, 499)
        self._queue.clear()
        self._incoming = None
        if self._transport.is_closing():
            return
        if not linger:
            return self._transport.close()
        self._lingers_until = time.monotonic() + _LINGER_SECONDS
        self._transport.write_eof()
        self._read_on(self._not_reading)

    def _discard(self) -> None:
        # slowly: discarding a body must not keep the others waiting
        self._stop_reading(_LINGERING)
        asyncio.get_running_loop().call_later(_LINGER_PAUSE, self._read_on, _LINGERING)

    def _free_unsent(self) -> None:
        if self._unsent_share is not None:
            self._unsent_share.close()
            self._unsent_share = None

    # what is refused

    def _check_head(self, version: str) -> None:
        if version not in ("1.0", "1.1"):
            raise Refusal(505, f"HTTP {version} is not spoken here, send HTTP/1.1")
        if self._header_count > _MAX_HEADERS or self._header_bytes > _MAX_HEAD:
            raise Refusal(431, f"the headers are more than {_MAX_HEADERS} or larger than {_MAX_HEAD} bytes")
        if self._several_hosts or (version == "1.1" and b"host" not in self._headers):
            raise Refusal(400, "a request must have one Host header")

    def _invalid(self, error: Exception) -> None:
        if self._ends:
            # what follows a request after which the connection is closed
            return
        self._refuse_all(Refusal(400, f"this is not HTTP/1.1: {error}"))

    def _refuse_all(self, refusal: Refusal) -> None:
        """Refuse the request that is arriving, and read no further one."""
        if self._incoming is None:
            self._queue.append(Request(Head("", self._target, {}, keep_alive=False)))
            self._head_since = None
        self._queue[-1].refuse(refusal)
        self._queue[-1].patient = False
        self._ends = True

    def _without_upgrade(self, rest: bytes) -> bytes:
        """Return what to parse in place of a request that asks for another protocol, as if it did not ask.

        Java's client asks with every first one.
        """
        asked = self._queue[-1].head
        self._parser = httptools.HttpRequestParser(self)
        if asked.method == "CONNECT":
            return b""
        self._queue.pop()
        self._incoming = None
        head = [b"%b %b HTTP/1.1\r\n" % (asked.method.encode(), asked.target)]
        head += [b"%b: %b\r\n" % each for each in asked.headers.items() if each[0] not in _UPGRADE]
        return b"".join((*head, b"\r\n", rest))

    # time

    def check(self, now: float) -> None:
        """Cut the client off when it is too slow."""
        if self._lingers_until is not None:
            if now > self._lingers_until:
                self._transport.abort()
        elif self._transport.is_closing() or self._blocked:
            # closed or not, the client does not read its answer
            self._check_unsent(now)
        elif self._incoming is not None:
            self._check_body(now)
        elif self._queue:
            return
        elif self._head_since is not None:
            if now - self._head_since > HEAD_SECONDS:
                self._refuse_all(Refusal(408, f"the headers did not come within {HEAD_SECONDS:.0f} s"))
                self._advance()
        elif self._idle_since is not None and now - self._idle_since > _IDLE_SECONDS:
            self._close(linger=False)

    @property
    def arriving(self) -> bool:
        """Whether the end of a body is still to come."""
        return self._incoming is not None

    def drop(self) -> None:
        """End at once, whatever is unanswered."""
        self._transport.abort()

    def end(self) -> None:
        """Close, once what was written is sent."""
        if self._lingers_until is None:
            self._close(linger=False)

    def read_on(self) -> None:
        """Read a further part of a large body."""
        self._read_on(_IN_TURN)

    def _check_body(self, now: float) -> None:
        # not the client's fault while nothing is read from it
        if self._body_bytes >= BODY_PROGRESS or self._not_reading:
            self._body_bytes, self._body_since = 0, now
        elif now - self._body_since > BODY_SECONDS:
            text = f"the body brought less than {BODY_PROGRESS} bytes in {BODY_SECONDS:.0f} s"
            self._refuse_all(Refusal(408, text))
            self._advance()

    def _check_unsent(self, now: float) -> None:
        unsent = self._transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        elif now - self._unsent_since > _ANSWER_SECONDS:
            self._transport.abort()

    def _stop_reading(self, reason: int) -> None:
        if not self._not_reading and not self._transport.is_closing():
            self._transport.pause_reading()
        self._not_reading |= reason

    def _read_on(self, reason: int) -> None:
        before = self._not_reading
        self._not_reading &= ~reason
        if before and not self._not_reading and not self._transport.is_closing():
            self._transport.resume_reading()
