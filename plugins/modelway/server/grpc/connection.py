"""One HTTP/2 connection: calls are received and answered, several at a time.

Frames, header compression, streams and windows are those of the ``h2`` package. What is written in one turn of the
event loop leaves in one write. Times are checked by :meth:`Connection.check` once a second, not by timers, which every
call would pay for; only a call with a deadline has a timer.
"""

import asyncio
import math
import time
from collections.abc import Iterable
from typing import Protocol, cast

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from modelway.server.core.budget import FREE
from modelway.server.core.refusal import Refusal
from modelway.server.grpc.call import Call
from modelway.server.grpc.framing import CallConnection
from modelway.server.grpc.status import CLIENT_LEFT, CallRefusal, Code, trailers

#: calls at a time on one connection
_MAX_CALLS = 256
#: bytes of the headers of one call
_MAX_HEAD = 32 << 10
#: bytes that a client may send ahead of what was read, of one call and of all calls of a connection
_CALL_WINDOW = 1 << 20
_WINDOW = 4 << 20
#: events of a second that bring no call further: pings, settings, windows, resets, empty frames
_MAX_NOISE = 10_000
#: seconds until the client has said that it speaks HTTP/2, and of a connection without a call
_PREFACE_SECONDS = 10.0
_IDLE_SECONDS = 300.0
#: seconds of a connection without a call whose client is to go elsewhere
_GOAWAY_SECONDS = 2.0
#: seconds of a drain in which a connection may become idle by itself
_PATIENCE_SECONDS = 2
#: a message must bring so many bytes, or end, in each period of so many seconds
_PROGRESS = 256 << 10
_PROGRESS_SECONDS = 10.0
#: seconds in which a client must read something of its answers
_ANSWER_SECONDS = 30.0
#: the highest number of a stream: a GOAWAY with it lets the client finish, and begin nothing here
_ANY_STREAM = 2**31 - 1

_OK = ((b"grpc-status", b"0"),)
_STATUS = (b":status", b"200")
_TYPE = (b"content-type", b"application/grpc")

Header = tuple[bytes, bytes]


class Application(Protocol):
    """What a connection needs of the server."""

    #: of every answer, besides those of gRPC
    headers: tuple[Header, ...]
    #: whether clients are to go elsewhere
    draining: bool

    def opened(self, connection: "Connection") -> bool:
        """Count a new connection; whether there may be one more."""

    def closed(self, connection: "Connection") -> None:
        """Forget a connection."""

    def wait_for_turn(self, connection: "Connection") -> None:
        """Call ``read_on`` of a connection whose large message is not alone."""

    def begin(self, call: Call) -> None:
        """Set limit and share of a call.

        :raises Refusal: when nothing answers it
        """

    def arrived(self, call: Call) -> None:
        """Count a call whose message is complete."""

    def answer(self, call: Call, connection: "Connection") -> None:
        """Answer a complete call, now or later, by :meth:`Connection.respond` or :meth:`Connection.refuse`."""

    def finished(self, call: Call, status: int) -> None:
        """Count the answer to a call, by its HTTP status; 499 where the client does not wait for it."""


class _Unsent:
    """The rest of an answer that waits for the client to read."""

    __slots__ = ("body", "call")

    def __init__(self, call: Call, body: memoryview) -> None:
        self.call, self.body = call, body


class Connection(asyncio.Protocol):
    """The server's side of one connection."""

    def __init__(self, app: Application) -> None:
        """Prepare the HTTP/2 state."""
        self._app = app
        self._h2 = CallConnection(max_head=_MAX_HEAD)
        self._h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: _MAX_CALLS,
                SettingCodes.INITIAL_WINDOW_SIZE: _CALL_WINDOW,
                SettingCodes.MAX_HEADER_LIST_SIZE: _MAX_HEAD,
            },
        )
        self._h2.max_inbound_frame_size = self._h2.local_settings.max_frame_size
        self._transport: asyncio.Transport
        self._calls: dict[int, Call] = {}
        self._unsent: dict[int, _Unsent] = {}
        #: whether the transport holds as much as it should
        self._blocked = False
        self._flushing = False
        self._greeted = False
        #: bytes that were read since the client was last allowed to send more
        self._read = 0
        self._noise = 0
        self._since = time.monotonic()
        #: what waited for the client when it last read something, and when that was
        self._waiting = (0, 0)
        self._waiting_since = 0.0
        self._goaway_sent = False
        #: seconds of a drain until a client that has always calls in flight is to go elsewhere nevertheless
        self._patience = _PATIENCE_SECONDS
        self._ends = False

    # the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept a new connection."""
        self._transport = cast(asyncio.Transport, transport)
        if not self._app.opened(self):
            self._transport.abort()
            return
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_WINDOW - self._h2.inbound_flow_control_window)
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        """Give up the calls whose client is gone."""
        self._ends = True
        for call in list(self._calls.values()):
            self._give_up(call)
        for rest in self._unsent.values():
            self._finish(rest.call, CLIENT_LEFT)
        self._unsent.clear()
        self._app.closed(self)

    def pause_writing(self) -> None:
        """Keep further answers until the client reads."""
        self._blocked = True

    def resume_writing(self) -> None:
        """Send what was kept."""
        self._blocked = False
        self._send_unsent()

    def data_received(self, data: bytes) -> None:
        """Read a part of what the client sends."""
        try:
            events = self._h2.receive_data(data)
        except ProtocolError:
            # h2 has written a GOAWAY that says which rule was broken
            return self._end()
        if len(data) > FREE:
            # one part of all large messages in each turn of the event loop, so that small calls do not wait for more
            self._transport.pause_reading()
            self._app.wait_for_turn(self)
        for event in events:
            self._handle(event)
            if self._ends:
                return
        if opened := self._h2.opened:
            self._h2.opened = 0
            self._make_noise(opened)
            self._send_unsent()
        self._schedule_flush()

    def eof_received(self) -> bool:
        """Close when the client sends no more."""
        return False

    def read_on(self) -> None:
        """Read a further part."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # what the client sends

    def _handle(self, event: Event) -> None:
        kind = type(event)
        if kind is DataReceived:
            self._receive_data(cast(DataReceived, event))
        elif kind is RequestReceived:
            self._begin(cast(RequestReceived, event))
        elif kind is StreamEnded:
            self._complete(cast(StreamEnded, event))
        elif kind is ConnectionTerminated:
            self._end()
        else:
            self._handle_noise(event)

    def _handle_noise(self, event: Event) -> None:
        """Handle what brings no call further, of which there must not be much."""
        if isinstance(event, StreamReset):
            self._reset(event.stream_id)
        elif isinstance(event, (RemoteSettingsChanged, WindowUpdated)):
            self._greeted = True
            self._send_unsent()
        self._make_noise()

    def _make_noise(self, events: int = 1) -> None:
        self._noise += events
        if self._noise > _MAX_NOISE and not self._ends:
            self._h2.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
            self._end()

    def _reset(self, stream: int) -> None:
        if (rest := self._unsent.pop(stream, None)) is not None:
            self._finish(rest.call, CLIENT_LEFT)
        if (call := self._calls.get(stream)) is not None:
            self._give_up(call)

    def _begin(self, event: RequestReceived) -> None:
        headers = cast(Iterable[Header], event.headers)
        call = Call(event.stream_id, headers)
        self._calls[call.stream] = call
        try:
            self._check(headers)
            self._app.begin(call)
        except Refusal as refusal:
            return self.refuse(call, refusal)
        if call.until != math.inf:
            delay = max(0.0, call.until - time.monotonic())
            call.timer = asyncio.get_running_loop().call_later(delay, self._expire, call)

    def _check(self, headers: Iterable[Header]) -> None:
        found = dict(headers)
        if found.get(b":method") != b"POST" or not found.get(b"content-type", b"").startswith(b"application/grpc"):
            text = "this is not gRPC: expected POST with the content-type application/grpc"
            raise CallRefusal(Code.UNIMPLEMENTED, text, status=400)

    def _receive_data(self, event: DataReceived) -> None:
        # also where the call is over: the rest of its message is discarded
        self._read += event.flow_controlled_length
        if self._read > _WINDOW // 2:
            self._h2.increment_flow_control_window(self._read)
            self._read = 0
        if not event.data:
            self._make_noise()
        call = self._calls.get(event.stream_id)
        if call is None or call.complete:
            return
        call.unread += event.flow_controlled_length
        if call.unread > _CALL_WINDOW // 2 and event.stream_ended is None:
            try:
                self._h2.increment_flow_control_window(call.unread, call.stream)
            except (ProtocolError, KeyError):
                # reset by the client in the same read, which is the next event
                return
            call.unread = 0
        try:
            call.add(event.data)
        except Refusal as refusal:
            self.refuse(call, refusal)

    def _complete(self, event: StreamEnded) -> None:
        call = self._calls.get(event.stream_id)
        if call is not None:
            call.complete = True
            self._app.arrived(call)
            self._app.answer(call, self)

    # answers

    def respond(self, call: Call, parts: list[bytes]) -> None:
        """Send the parts of the message that answers a call."""
        if not self._remove(call):
            # given up meanwhile; what it has needed since is free again
            return call.release()
        size = sum(map(len, parts))
        body = b"".join((b"\0", size.to_bytes(4, "big"), *parts))
        headers = (_STATUS, _TYPE, *self._app.headers)
        try:
            if not self._blocked and self._h2.answer(call.stream, headers, body, _OK):
                self._finish(call, 200)
            else:
                self._h2.send_headers(call.stream, headers)
                self._unsent[call.stream] = _Unsent(call, memoryview(body))
                self._send_unsent()
        except ProtocolError:
            # reset by the client meanwhile
            self._finish(call, CLIENT_LEFT)
        self._after_answer()

    def refuse(self, call: Call, refusal: Refusal) -> None:
        """Say why a call is not answered."""
        if not self._remove(call):
            # given up meanwhile; what it has needed since is free again
            return call.release()
        self._finish(call, refusal.status)
        try:
            headers = (_STATUS, _TYPE, *self._app.headers, *trailers(refusal))
            self._h2.send_headers(call.stream, headers, end_stream=True)
            if not call.complete:
                # the answer is whole, the rest of the message is not wanted
                self._h2.reset_stream(call.stream, ErrorCodes.NO_ERROR)
        except ProtocolError:
            pass
        self._after_answer()

    def _after_answer(self) -> None:
        if self._app.draining:
            # clients built on h2 read no answer that comes after it
            self._flush()
            self.drain()
        self._schedule_flush()

    def _send_unsent(self) -> None:
        """Send of each answer what its window takes, in turns, until the transport has enough."""
        while self._unsent and not self._blocked:
            before = len(self._unsent), sum(len(rest.body) for rest in self._unsent.values())
            for stream, rest in list(self._unsent.items()):
                try:
                    self._send_some(stream, rest)
                except ProtocolError:
                    del self._unsent[stream]
                    self._finish(rest.call, CLIENT_LEFT)
                self._flush()
                if self._blocked:
                    return
            if before == (len(self._unsent), sum(len(rest.body) for rest in self._unsent.values())):
                # all windows are closed
                break

    def _send_some(self, stream: int, rest: _Unsent) -> None:
        size = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size, len(rest.body))
        if size > 0:
            self._h2.send_data(stream, rest.body[:size].tobytes())
            rest.body = rest.body[size:]
        if not rest.body:
            self._h2.send_headers(stream, _OK, end_stream=True)
            del self._unsent[stream]
            self._finish(rest.call, 200)

    def _schedule_flush(self) -> None:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        data = self._h2.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    # the end of calls and of the connection

    def _remove(self, call: Call) -> bool:
        """Whether the call is still to be answered; from now on it is not."""
        self._since = time.monotonic()
        return self._calls.pop(call.stream, None) is call

    def _finish(self, call: Call, status: int) -> None:
        self._app.finished(call, status)
        call.release()

    def _give_up(self, call: Call) -> None:
        if self._remove(call):
            call.abandon()
            self._finish(call, CLIENT_LEFT)

    def _expire(self, call: Call) -> None:
        """End a call whose deadline has passed; its client does not wait for it."""
        if call.stream in self._calls:
            call.abandon()
            text = "the deadline of the call has passed"
            self.refuse(call, CallRefusal(Code.DEADLINE_EXCEEDED, text, status=CLIENT_LEFT))

    def drain(self) -> None:
        """Let the client go elsewhere, as soon as nothing of it is in flight here."""
        if not self._calls and not self._unsent:
            self._go_away()

    def _go_away(self) -> None:
        """Let the client finish its calls here, and begin none; it begins further ones on a new connection."""
        if self._goaway_sent or self._ends:
            return
        self._goaway_sent = True
        # past h2, which would end the connection with it
        self._transport.write(GoAwayFrame(stream_id=0, last_stream_id=_ANY_STREAM).serialize())

    def end(self) -> None:
        """Close, once what was written is sent; calls whose message is not complete are given up."""
        for call in list(self._calls.values()):
            if not call.complete:
                self.refuse(call, CallRefusal(Code.UNAVAILABLE, "the server ends", status=CLIENT_LEFT))
        if not self._ends:
            self._h2.close_connection()
            self._end()

    def drop(self) -> None:
        """End at once, whatever is unanswered."""
        self._transport.abort()

    def _end(self) -> None:
        self._ends = True
        self._flush()
        self._transport.close()
        for call in list(self._calls.values()):
            self._give_up(call)

    # time

    def check(self, now: float) -> None:
        """Cut the client off when it is too slow."""
        self._noise = 0
        if self._app.draining:
            self._patience -= 1
            if self._patience < 0:
                self._go_away()
        if self._unsent or self._transport.get_write_buffer_size():
            self._check_unsent(now)
        else:
            self._waiting = (0, 0)
            if not self._calls and now - self._since > self._idle_seconds:
                self.end()
        for call in list(self._calls.values()):
            if not call.complete:
                self._check_progress(call, now)

    @property
    def _idle_seconds(self) -> float:
        if not self._greeted:
            return _PREFACE_SECONDS
        # the client may not have read the GOAWAY yet
        return _GOAWAY_SECONDS if self._goaway_sent else _IDLE_SECONDS

    def _check_progress(self, call: Call, now: float) -> None:
        if call.progress >= _PROGRESS:
            call.progress, call.progress_since = 0, now
        elif now - call.progress_since > _PROGRESS_SECONDS:
            text = f"the message brought less than {_PROGRESS} bytes in {_PROGRESS_SECONDS:.0f} s"
            self.refuse(call, Refusal(408, text))

    def _check_unsent(self, now: float) -> None:
        waiting = self._transport.get_write_buffer_size(), sum(len(rest.body) for rest in self._unsent.values())
        if waiting != self._waiting:
            self._waiting, self._waiting_since = waiting, now
        elif now - self._waiting_since > _ANSWER_SECONDS:
            self._transport.abort()
