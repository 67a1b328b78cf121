"""One call as it arrives: what its headers ask for, and as much of its message as has come."""

import asyncio
import math
import re
import time
import zlib
from collections.abc import Iterable

from modelway.server.core.batcher import Waiting
from modelway.server.core.budget import FREE, Share
from modelway.server.core.refusal import Refusal
from modelway.server.grpc.status import CallRefusal, Code

#: bytes before each message: whether it is compressed, and its length
PREFIX = 5
#: ``wbits`` of zlib for each grpc-encoding
_ENCODINGS = {b"gzip": 31, b"deflate": 15}
#: seconds of each unit of a grpc-timeout
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")


class Call:
    """A stream of HTTP/2 with the one message of a unary call."""

    __slots__ = (
        "began",
        "complete",
        "counted",
        "encoding",
        "limit",
        "path",
        "progress",
        "progress_since",
        "share",
        "size",
        "stream",
        "work",
        "timer",
        "unread",
        "until",
        "_parts",
    )

    def __init__(self, stream: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Start with the headers, which HTTP/2 has in lower case."""
        self.stream = stream
        self.began = self.progress_since = time.monotonic()
        self.path, self.encoding, self.until = b"", b"identity", math.inf
        for name, value in headers:
            if name == b":path":
                self.path = bytes(value)
            elif name == b"grpc-encoding":
                self.encoding = bytes(value)
            elif name == b"grpc-timeout" and (found := _TIMEOUT.fullmatch(value)):
                self.until = self.began + int(found[1]) * _UNITS[found[2]]
        #: bytes of the message that are accepted, its prefix included; set when the method is known
        self.limit = 0
        #: the memory that it holds
        self.share: Share | None = None
        self.size = 0
        self._parts: list[bytes] = []
        #: bytes since the message last made enough progress
        self.progress = 0
        #: bytes since the client was last allowed to send more of this call
        self.unread = 0
        self.complete = False
        #: whether metrics and drain count it
        self.counted = False
        #: what ends the work for it: a task, or a request of the batcher
        self.work: asyncio.Task[None] | Waiting | None = None
        #: ends the call at its deadline
        self.timer: asyncio.TimerHandle | None = None

    def add(self, part: bytes) -> None:
        """Receive a part of the message.

        :raises Refusal: 413 over the limit, 429 when the requests in flight hold too much
        """
        self.size += len(part)
        self.progress += len(part)
        if self.size > self.limit:
            raise Refusal(413, f"the message is larger than the limit of {self.limit - PREFIX} bytes")
        if self.share is not None:
            self.share.need(self.size)
        if self._parts and len(self._parts[-1]) + len(part) <= FREE:
            # many small parts take more memory than their bytes
            self._parts[-1] += part
        else:
            self._parts.append(part)

    @property
    def compressed(self) -> bool:
        """Whether the message must be decompressed."""
        return bool(self._parts) and self._parts[0][:1] != b"\0"

    def message(self) -> memoryview:
        """Return the message of a complete call, once.

        :raises Refusal: 400 when it is not one whole message, 413 when it is too large without its compression, 415
            for a compression that is not known; UNIMPLEMENTED for several messages
        """
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        length = int.from_bytes(body[1:PREFIX], "big")
        if len(body) < PREFIX or len(body) < PREFIX + length:
            raise Refusal(400, f"the call has {len(body)} bytes, which is less than one message")
        if len(body) > PREFIX + length:
            text = f"the call has {len(body)} bytes, of which its one message is {PREFIX + length}"
            raise CallRefusal(Code.UNIMPLEMENTED, text, status=400)
        message = memoryview(body)[PREFIX:]
        if body[0] == 0:
            return message
        if body[0] != 1 or self.encoding == b"identity":
            raise Refusal(400, "the message is marked as compressed, and grpc-encoding does not say how")
        return memoryview(_decompressed(message, self.encoding, self.limit - PREFIX))

    def release(self) -> None:
        """Free what it holds; a second call changes nothing."""
        self._parts = []
        if self.share is not None:
            self.share.close()
        if self.timer is not None:
            self.timer.cancel()

    def abandon(self) -> None:
        """Free what it holds, and do not work for it any longer."""
        self.release()
        if isinstance(self.work, Waiting):
            self.work.abandon()
        elif self.work is not None:
            self.work.cancel()


def _decompressed(message: memoryview, encoding: bytes, limit: int) -> bytes:
    if encoding not in _ENCODINGS:
        raise Refusal(415, f"grpc-encoding {encoding[:40].decode('latin-1')!r} is not known, expected gzip or deflate")
    stream = zlib.decompressobj(_ENCODINGS[encoding])
    try:
        found = stream.decompress(message, limit + 1)
    except zlib.error as error:
        raise Refusal(400, f"the message is not {encoding.decode()}, as grpc-encoding says: {error}") from error
    if len(found) > limit:
        raise Refusal(413, f"the message is larger than the limit of {limit} bytes")
    if not stream.eof:
        raise Refusal(400, f"the {encoding.decode()} message ends too early")
    return found
