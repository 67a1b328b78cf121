"""A closed loop of clients that notes of each request when it was sent, how long it took and who answered."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import uvloop


@dataclass
class Seen:
    """What the clients of one run saw."""

    #: seconds of each request
    times: list[float] = field(default_factory=list)
    #: moment at which each was sent, and the version that answered
    answers: list[tuple[float, str]] = field(default_factory=list)
    #: seconds of the whole run
    seconds: float = 0.0
    #: requests without a right answer
    wrong: list[str] = field(default_factory=list)


class _Client(asyncio.Protocol):
    def __init__(self, seen: Seen, more: Callable[[], int | None]) -> None:
        self._seen, self._more = seen, more
        self.done = asyncio.get_running_loop().create_future()
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def start(self) -> None:
        number = self._more()
        if number is None:
            self._transport.close()
            self.done.set_result(None)
            return
        self._body = b"%012d" % number + b"x" * 500
        self._began = time.perf_counter()
        head = b"POST /v2/models/tiny/infer HTTP/1.1\r\nhost: bench\r\ncontent-length: %d\r\n\r\n" % len(self._body)
        self._transport.write(head + self._body)

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, found, body = self._read.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        if len(body) < int(lower[lower.index(b"content-length:") + 15 :].split(b"\r\n", 1)[0]):
            return
        self._seen.times.append(time.perf_counter() - self._began)
        if not head.startswith(b"HTTP/1.1 200") or body != self._body:
            self._seen.wrong.append(f"{head[:40]!r}: {body[:80]!r}")
        version = lower.partition(b"x-model-version: ")[2].split(b"\r\n", 1)[0].decode()
        self._seen.answers.append((self._began, version))
        self._read = b""
        self.start()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self._seen.wrong.append(f"the connection was closed ({error})")
            self.done.set_result(None)


def run(port: int, *, clients: int, more: Callable[[], int | None]) -> Seen:
    """Send requests until ``more`` returns None in place of a request's number."""

    async def main() -> Seen:
        seen = Seen()
        loop = asyncio.get_running_loop()
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
