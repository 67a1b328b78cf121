"""A server behind a gateway that misbehaves as its mode says: ``python stand_in_server.py PORT LOG MODE``.

It writes a line into LOG for every POST that it received, and then

- ``ok`` answers with its port in the header ``x-port``,
- ``500`` and ``400`` answer with that status,
- ``close`` closes the connection without an answer, ``half`` in the middle of one,
- ``die`` ends at once,
- ``slow`` answers after a second,
- ``busy`` blocks for a second and a half, its health checks included, and then answers.
"""

import asyncio
import os
import sys
import time

PORT, MODE = int(sys.argv[1]), sys.argv[3]
LOG = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while head := await reader.readuntil(b"\r\n\r\n"):
        lines = head.decode().lower().split("\r\n")
        length = next((int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")), 0)
        await reader.readexactly(length)
        mode = "ok"
        if lines[0].startswith("post"):
            os.write(LOG, f"{PORT}\n".encode())
            mode = MODE
        if await misbehave(mode, writer):
            return
        status = {"400": "400 Bad Request", "500": "500 Internal Server Error"}.get(mode, "200 OK")
        writer.write(f"HTTP/1.1 {status}\r\nx-port: {PORT}\r\ncontent-length: 2\r\n\r\nok".encode())
        await writer.drain()


async def misbehave(mode: str, writer: asyncio.StreamWriter) -> bool:
    """Return whether the connection is over."""
    if mode == "die":
        os._exit(1)
    if mode == "half":
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await writer.drain()
    if mode in ("half", "close"):
        writer.close()
        return True
    if mode == "slow":
        await asyncio.sleep(1)
    if mode == "busy":
        time.sleep(1.5)
    return False


async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await serve(reader, writer)
    except (OSError, asyncio.IncompleteReadError):
        writer.close()


async def main() -> None:
    async with await asyncio.start_server(quietly, "127.0.0.1", PORT) as server:
        await server.serve_forever()


asyncio.run(main())
