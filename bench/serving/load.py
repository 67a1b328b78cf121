"""A closed loop of clients on one core: each sends its next request when the last one is answered."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import uvloop


@dataclass
class Seen:
    """What the clients of one run saw."""

    #: seconds of each request
    times: list[float] = field(default_factory=list)
    #: number of the sample and the body of each answer
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    #: seconds of the whole run
    seconds: float = 0.0


class _Client(asyncio.Protocol):
    def __init__(self, requests: Sequence[bytes], order: "itertools.count[int]", limit: int, seen: Seen) -> None:
        self._requests, self._order, self._limit, self._seen = requests, order, limit, seen
        self._read = b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio
        self._transport = cast(asyncio.Transport, transport)

    def start(self) -> None:
        number = next(self._order)
        if number >= self._limit:
            self._transport.close()
            self.done.set_result(None)
            return
        self._sample = number % len(self._requests)
        self._began = time.perf_counter()
        self._transport.write(self._requests[self._sample])

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
            raise SystemExit(f"answered {head[:40]!r}: {body[:200]!r}")
        self._seen.answers.append((self._sample, body))
        self._read = b""
        self.start()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the server closed the connection"))


def run(port: int, requests: Sequence[bytes], *, clients: int, number: int) -> Seen:
    """Send ``number`` requests, the samples in turn, and return what was seen."""

    async def main() -> Seen:
        seen, order = Seen(), itertools.count()
        loop = asyncio.get_running_loop()
        connected = [
            (await loop.create_connection(lambda: _Client(requests, order, number, seen), "127.0.0.1", port))[1]
            for _ in range(clients)
        ]
        began = time.perf_counter()
        for client in connected:
            client.start()
        await asyncio.gather(*(client.done for client in connected))
        seen.seconds = time.perf_counter() - began
        return seen

    return uvloop.run(main())
