"""The listening process: sockets, signals, what happens each second, and the end after a drain."""

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Protocol

import uvloop

from modelway.server.core.drain import Drain
from modelway.server.core.turns import Turns
from modelway.server.rest.connection import Connection
from modelway.server.rest.infer import failure_response
from modelway.server.rest.message import Head, Request
from modelway.server.rest.routes import Routes

#: connections at a time; the gateway opens a thousand at most
MAX_CONNECTIONS = 2048
#: seconds between two inspections of the drain
_TICK = 0.1


class Beside(Protocol):
    """Another protocol, on a port of its own or on connections that are handed over, in the same event loop."""

    async def start(self, host: str) -> None:
        """Accept connections.

        :raises OSError: when the address cannot be listened on
        """

    def adopt(self, transport: asyncio.Transport, data: bytes) -> None:
        """Serve a connection of which ``data`` was read."""

    def check(self, now: float) -> None:
        """Cut off the clients that are too slow; called once a second."""

    def drain(self) -> None:
        """Let the clients go elsewhere."""

    def end(self, *, at_once: bool) -> None:
        """Close all connections, once what was written is sent or at once."""

    @property
    def connected(self) -> bool:
        """Whether connections are open."""


class Listener:
    """Accepts connections, and is what they need of the server (``connection.Application``)."""

    def __init__(
        self,
        routes: Routes,
        *,
        drain: Drain,
        version: str,
        model: str | None = None,
        every_second: Callable[[], None],
        beside: Beside | None = None,
        http2: Callable[[], Beside],
    ) -> None:
        """Serve ``routes``.

        :param version: for the header ``x-model-version``
        :param model: for the header ``x-model-name``
        :param every_second: called once a second
        :param beside: what is served besides on a port of its own, and drained with it
        :param http2: returns what serves the connections of clients that speak HTTP/2; called in another thread
        """
        self._routes, self._drain, self._every_second = routes, drain, every_second
        self._names = f"x-model-version: {version}\r\n" + (f"x-model-name: {model}\r\n" if model else "")
        self._beside, self._http2 = beside, http2
        self._making: asyncio.Future[Beside] | None = None
        self._connections: set[Connection] = set()
        self._turns = Turns()
        self._ends_now = False
        self.common = b""
        #: heads of earlier requests, as they came
        self.known_heads: dict[bytes, Head] = {}
        self.draining = False

    def run(self, *, host: str, port: int, listening: Callable[[int], None]) -> None:
        """Serve until the drain is done.

        :param listening: called with the port once connections are accepted
        :raises OSError: when the address cannot be listened on
        """
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve(host, port, listening))

    async def _serve(self, host: str, port: int, listening: Callable[[int], None]) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        self._set_common()
        server = await loop.create_server(lambda: Connection(self), host, port, backlog=MAX_CONNECTIONS)
        if self._beside is not None:
            await self._beside.start(host)
        listening(_port(server.sockets))
        ticks = 0
        while not self._drain.done() and not self._ends_now:
            await asyncio.sleep(_TICK)
            ticks += 1
            if ticks % round(1 / _TICK) == 0:
                self._tick()
        server.close()
        for connection in list(self._connections):
            if connection.arriving or self._ends_now:
                connection.drop()
            else:
                connection.end()
        if self._beside is not None:
            self._beside.end(at_once=self._ends_now)
        while self._connected and self._drain.remaining() and not self._ends_now:
            await asyncio.sleep(_TICK / 2)

    def _signalled(self) -> None:
        """Start the drain at the first signal, end at once at a second one."""
        self._ends_now = self._drain.began
        self._drain.begin()
        self.draining = True
        if self._beside is not None:
            self._beside.drain()

    @property
    def _connected(self) -> bool:
        return bool(self._connections) or (self._beside is not None and self._beside.connected)

    def _tick(self) -> None:
        self._set_common()
        self.known_heads.clear()
        now = time.monotonic()
        for connection in list(self._connections):
            connection.check(now)
        if self._beside is not None:
            self._beside.check(now)
        self._every_second()

    def _set_common(self) -> None:
        self.common = f"date: {formatdate(usegmt=True)}\r\n{self._names}".encode()

    # what connections call

    def opened(self, connection: Connection) -> bool:
        """Count a new connection; whether there may be one more."""
        self._connections.add(connection)
        return len(self._connections) <= MAX_CONNECTIONS

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)

    def speak_http2(self, connection: Connection, transport: asyncio.Transport, data: bytes) -> None:
        """Hand a connection over; the first one waits for the modules of HTTP/2."""
        transport.pause_reading()
        if self._making is None:
            self._making = asyncio.get_running_loop().run_in_executor(None, self._http2)

        def adopt(made: asyncio.Future[Beside]) -> None:
            if transport.is_closing():
                return
            self.closed(connection)
            if self._beside is None:
                self._beside = made.result()
                if self.draining:
                    self._beside.drain()
            transport.resume_reading()
            made.result().adopt(transport, data)

        self._making.add_done_callback(adopt)

    def accept(self, request: Request) -> None:
        """Set what answers a request whose head is complete.

        :raises Refusal: when nothing does
        """
        self._enter(request)
        self._routes.accept(request)

    def accept_again(self, request: Request) -> None:
        """Accept a request whose head was accepted before."""
        self._enter(request)
        self._routes.begin(request)

    def _enter(self, request: Request) -> None:
        # probes do not keep a draining server alive
        if request.head.method == "POST":
            request.counted = True
            self._drain.enter()

    def arrived(self, request: Request) -> None:
        """Count a request that is complete."""
        if request.counted:
            self._drain.arrived()

    def answer(self, request: Request, connection: Connection) -> None:
        """Answer a complete request, now or later."""
        route = request.head.route
        assert route is not None
        request.alone &= len(self._connections) == 1
        try:
            route.answer(request, connection.respond)
        except Exception as error:
            connection.respond(failure_response(error))

    def finished(self, request: Request, status: int) -> None:
        """Count the answer to a request."""
        self._routes.finished(request, status)
        if request.counted:
            self._drain.leave(complete=request.complete)
            request.counted = False

    def read_in_turn(self, connection: Connection) -> None:
        """Let one connection after another read, one in each turn of the event loop."""
        self._turns.wait(connection)


def _port(sockets: "tuple[socket.socket, ...]") -> int:
    port: int = sockets[0].getsockname()[1]
    return port


def say(text: str) -> None:
    """Write a line into the log."""
    print(f"modelway.server: {text}", file=sys.stderr, flush=True)
