"""A closed loop of clients on one core: each sends its next request when the last one is answered."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import NamedTuple, cast

import uvloop

#: the number and the bytes of the next request, None where there is none any more
Next = Callable[[], tuple[int, bytes] | None]


class Answer(NamedTuple):
    """The answer to one request."""

    sent: float
    """The moment, of ``time.perf_counter``."""
    number: int
    head: bytes
    body: bytes


@dataclass
class Seen:
    """What the clients of one run saw."""

    #: seconds of each request
    times: list[float] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    #: seconds of the whole run
    seconds: float = 0.0
    #: what was not answered, or not with status 200
    wrong: list[str] = field(default_factory=list)

    @property
    def bodies(self) -> list[tuple[int, bytes]]:
        """The number of each request with the body of its answer."""
        return [(answer.number, answer.body) for answer in self.answers]


class _Client(asyncio.Protocol):
    def __init__(self, seen: Seen, more: Next) -> None:
        self._seen, self._more = seen, more
        self._read = b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio
        self._transport = cast(asyncio.Transport, transport)

    def start(self) -> None:
        request = self._more()
        if request is None:
            self._transport.close()
            self.done.set_result(None)
            return
        self._number, data = request
        self._began = time.perf_counter()
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, found, body = self._read.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        length = int(lower[lower.index(b"content-length:") + 15 :].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self._seen.times.append(time.perf_counter() - self._began)
        if not head.startswith(b"HTTP/1.1 200"):
            self._seen.wrong.append(f"{head[:40]!r}: {body[:200]!r}")
        self._seen.answers.append(Answer(self._began, self._number, lower, body))
        self._read = b""
        self.start()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self._seen.wrong.append(f"the connection was closed ({error})")
            self.done.set_result(None)


def run(port: int, *, clients: int, more: Next) -> Seen:
    """Send requests until ``more`` has none, and return what was seen; heads of answers are in lower case."""

    async def main() -> Seen:
        seen, loop = Seen(), asyncio.get_running_loop()
        connected = [
            (await loop.create_connection(lambda: _Client(seen, more), "127.0.0.1", port))[1] for _ in range(clients)
        ]
        began = time.perf_counter()
        for client in connected:
            client.start()
        await asyncio.gather(*(client.done for client in connected))
        seen.seconds = time.perf_counter() - began
        return seen

    return uvloop.run(main())


def in_turn(requests: Sequence[bytes], *, number: int) -> Next:
    """Return what gives out ``number`` requests, these in turn, each with its place among them."""
    left = islice(cycle(enumerate(requests)), number)
    return lambda: next(left, None)
