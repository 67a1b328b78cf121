"""A model server that costs next to nothing: ``python echo.py PORT VERSION`` answers a request with its own body.

The answer names the version in ``x-model-version``; a GET is answered with 200, as a health check expects.
"""

import asyncio
import sys
from typing import cast

import uvloop

VERSION = sys.argv[2].encode()


class Echo(asyncio.Protocol):
    """One connection, with one request after another."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)
        self._read = b""

    def data_received(self, data: bytes) -> None:
        """Answer all requests that are whole."""
        self._read += data
        while True:
            head, found, rest = self._read.partition(b"\r\n\r\n")
            if not found:
                return
            lower = head.lower()
            at = lower.find(b"content-length:")
            length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(rest) < length:
                return
            body, self._read = rest[:length], rest[length:]
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nx-model-version: %s\r\ncontent-length: %d\r\n\r\n%s" % (VERSION, length, body)
            )


async def main() -> None:
    """Serve until ended."""
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
