"""The listener of gRPC beside that of REST: same event loop, same batcher, same drain, same counters.

It has a port of its own where one is named, and is given the connections to REST's port that begin with HTTP/2.
"""

import asyncio
import time

from modelway.server.core.budget import Budget
from modelway.server.core.drain import Drain
from modelway.server.core.metrics import Metrics
from modelway.server.core.turns import Turns
from modelway.server.grpc.call import PREFIX, Call
from modelway.server.grpc.connection import Connection, Header
from modelway.server.grpc.service import INFER, Service

#: connections at a time
MAX_CONNECTIONS = 2048


class GrpcListener:
    """Accepts connections, and counts calls for metrics, drain and memory."""

    def __init__(
        self,
        service: Service,
        *,
        port: int,
        version: str,
        model: str | None = None,
        metrics: Metrics,
        drain: Drain,
        budget: Budget,
    ) -> None:
        """Combine the parts.

        :param port: of its own, where it is started; 0 lets the system choose; :meth:`start` sets the choice
        :param version: sent with every answer as ``x-model-version``
        :param model: sent as ``x-model-name``
        """
        self.port = port
        names = (("x-model-version", version), ("x-model-name", model))
        self.headers: tuple[Header, ...] = tuple((key.encode(), value.encode()) for key, value in names if value)
        self.draining = False
        self._service, self._metrics, self._drain, self._budget = service, metrics, drain, budget
        self._connections: set[Connection] = set()
        #: with large messages, which are read in turn
        self._turns = Turns()
        self._listener: asyncio.Server | None = None

    async def start(self, host: str) -> None:
        """Accept connections.

        :raises OSError: when the address cannot be listened on
        """
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: Connection(self), host, self.port, backlog=MAX_CONNECTIONS)
        self.port = self._listener.sockets[0].getsockname()[1]

    def adopt(self, transport: asyncio.Transport, data: bytes) -> None:
        """Serve a connection that came by the port of REST, of which ``data`` was read."""
        connection = Connection(self)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if not transport.is_closing():
            connection.data_received(data)

    def check(self, now: float) -> None:
        """Cut off the clients that are too slow; called once a second."""
        for connection in list(self._connections):
            connection.check(now)

    def drain(self) -> None:
        """Let the clients go elsewhere."""
        self.draining = True
        for connection in list(self._connections):
            connection.drain()

    def end(self, *, at_once: bool) -> None:
        """Close all connections, once what was written is sent or at once, and accept no more."""
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            if at_once:
                connection.drop()
            else:
                connection.end()

    @property
    def connected(self) -> bool:
        """Whether connections are open."""
        return bool(self._connections)

    # what connections need

    def opened(self, connection: Connection) -> bool:
        """Count a new connection; whether there may be one more."""
        if len(self._connections) >= MAX_CONNECTIONS:
            return False
        self._connections.add(connection)
        return True

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)

    def wait_for_turn(self, connection: Connection) -> None:
        """Let one connection after another read, one in each turn of the event loop."""
        self._turns.wait(connection)

    def begin(self, call: Call) -> None:
        """Set limit and share of a call, and count it where it is one of infer.

        :raises Refusal: UNIMPLEMENTED for a method that there is not
        """
        call.limit = PREFIX + self._service.limit(call.path)
        if call.path == INFER:
            call.counted = True
            call.share = self._budget.share()
            self._metrics.in_flight.inc()
            self._drain.enter()

    def arrived(self, call: Call) -> None:
        """Count a call whose message is complete."""
        if call.counted:
            self._drain.arrived()

    def answer(self, call: Call, connection: Connection) -> None:
        """Answer a complete call."""
        self._service.answer(call, connection)

    def finished(self, call: Call, status: int) -> None:
        """Count the answer to a call, by its HTTP status."""
        if call.counted:
            call.counted = False
            self._metrics.in_flight.dec()
            self._metrics.count(status, time.monotonic() - call.began, grpc=True)
            self._drain.leave(complete=call.complete)
