"""How the server ends: on SIGTERM it stops being ready, answers the requests that still come, and then exits."""

import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelway.server.rest.wire import check_all, drop_arriving


class Drain:
    """Whether the server is draining, and whether that is done."""

    def __init__(self, *, limit: float, quiet: float) -> None:
        """Set the limits (seconds): of the whole drain, and of the silence that ends it."""
        self._limit, self._quiet = limit, quiet
        self._began: float | None = None
        self._last_request = time.monotonic()
        self._in_flight = 0
        self._arriving = 0
        #: requests that were not answered when the limit was reached
        self.cut_off = 0

    @property
    def began(self) -> bool:
        """Whether the drain has started."""
        return self._began is not None

    def begin(self) -> None:
        """Start draining; a second call changes nothing."""
        if self._began is None:
            self._began = time.monotonic()

    def remaining(self) -> float:
        """Seconds that are left of the limit."""
        return self._limit if self._began is None else max(0.0, self._began + self._limit - time.monotonic())

    def done(self) -> bool:
        """Whether nothing is in flight and no request came for a while, or the limit is reached.

        An incomplete body is waited for during a fifth of the limit: half-sent ones must not hold the rest up.
        """
        if self._began is None:
            return False
        now = time.monotonic()
        if self.remaining() == 0.0:
            self.cut_off = self._in_flight
            return True
        silent = now - max(self._began, self._last_request) >= self._quiet
        arrived = self._arriving == 0 or now - self._began >= self._limit / 5
        return self._in_flight == 0 and silent and arrived

    def enter(self) -> None:
        """Record that a request begins to arrive."""
        self._arriving += 1

    def arrived(self) -> None:
        """Record that a request has arrived completely."""
        self._arriving -= 1
        self._in_flight += 1
        self._last_request = time.monotonic()

    def leave(self, *, complete: bool) -> None:
        """Record that a request is answered, ``complete`` or before it had arrived completely."""
        if complete:
            self._in_flight -= 1
            self._last_request = time.monotonic()
        else:
            self._arriving -= 1


class Gate:
    """ASGI wrapper around the application: counts requests for the drain and sets the headers of every answer."""

    def __init__(self, app: ASGIApp, *, drain: Drain, version: str) -> None:
        """Wrap ``app``; ``version`` goes into the header ``x-model-version``."""
        self._app, self._drain = app, drain
        self._header = (b"x-model-version", version.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Probes do not keep a draining server alive."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], self._header]
                # makes a client with a keep-alive connection use another one before this one is closed
                if self._drain.began:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        if scope["method"] != "POST":
            return await self._app(scope, receive, answer)
        complete = False

        async def arriving() -> Message:
            nonlocal complete
            message = await receive()
            if not complete and message["type"] == "http.request" and not message.get("more_body", False):
                complete = True
                self._drain.arrived()
            return message

        self._drain.enter()
        try:
            await self._app(scope, arriving, answer)
        finally:
            self._drain.leave(complete=complete)


class DrainingServer(uvicorn.Server):
    """uvicorn that drains before it closes its connections, and then ends with status 0."""

    def __init__(self, config: uvicorn.Config, *, drain: Drain, listening: Callable[[int], None]) -> None:
        """Set the drain; ``listening`` is called with the port once connections are accepted."""
        super().__init__(config)
        self._drain = drain
        self._listening = listening

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start the drain at the first signal, end at once at a second one."""
        if self._drain.began:
            self.should_exit = self.force_exit = True
        self._drain.begin()

    async def main_loop(self) -> None:
        """Serve until drained."""
        self._listening(self.servers[0].sockets[0].getsockname()[1])
        await super().main_loop()

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end; called ten times a second."""
        if counter % 10 == 0:
            check_all(self.server_state.connections)
        if self._drain.done():
            drop_arriving(self.server_state.connections)
            self.config.timeout_graceful_shutdown = int(self._drain.remaining())
            return True
        return await super().on_tick(counter)
