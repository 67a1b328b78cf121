"""What is otherwise than in h2: equal headers cost little when they come and go again, long frames are refused early.

Each part takes the place of h2's own in a connection.
"""

from collections.abc import Iterable

from h2.frame_buffer import FrameBuffer
from hpack import Decoder, Encoder
from hpack.struct import HeaderTuple
from hyperframe.frame import Frame

#: blocks that are remembered, at most
_KNOWN = 16
#: headers of such a block, at most
_HEADERS = 32
#: a field that is written in full, and changes no table
_LITERAL = b"\0"
#: "the table has no entries from now on", which suits every limit that a client may set
_NO_TABLE = b"\x20"
#: of the lowest byte whose highest bit says that a field stands in the table
_INDEXED = 0x80


#: bytes before each frame, of which the first three are its length
_FRAME_HEAD = 9


class BoundedBuffer(FrameBuffer):
    """Refuses a frame that is too long by its head; h2 would first wait for all of its up to 16 MiB."""

    def __next__(self) -> Frame:
        """Return the next whole frame.

        :raises FrameTooLargeError: for a length over the limit
        """
        if len(self._data) >= _FRAME_HEAD:
            self._validate_frame_length(int.from_bytes(self._data[:3], "big"))
        return super().__next__()


class PlainEncoder(Encoder):
    """Writes each header in full: a block depends on nothing before it, so that equal ones are made once."""

    def __init__(self) -> None:
        """Start without a table."""
        super().__init__()
        self._known: dict[tuple[object, ...], bytes] = {}
        self._began = False

    def encode(self, headers: Iterable[tuple[bytes, bytes]], huffman: bool = True) -> bytes:  # type: ignore[override]
        """Return the block of these headers, whose names are in lower case."""
        key = tuple(headers)
        block = self._known.get(key)
        if block is None:
            block = b"".join(_field(name, value) for name, value in key)
            if len(self._known) < _KNOWN:
                self._known[key] = block
        if self._began:
            return block
        self._began = True
        return _NO_TABLE + block


class RememberingDecoder(Decoder):
    """Decodes a block once that refers to the table alone, as those of a client's later calls do.

    Such a block changes no table, and means the same until another one has changed it.
    """

    def __init__(self) -> None:
        """Start with an empty table."""
        super().__init__()
        self._known: dict[bytes, list[HeaderTuple]] = {}

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """Return the headers of a block."""
        found = self._known.get(data)
        if found is not None:
            return found
        headers = list(super().decode(data, raw))
        if not data or min(data) < _INDEXED:
            self._known.clear()
        elif len(self._known) < _KNOWN and len(headers) <= _HEADERS:
            self._known[bytes(data)] = headers
        return headers


def _field(name: bytes, value: bytes) -> bytes:
    return b"".join((_LITERAL, _length(len(name)), name, _length(len(value)), value))


def _length(size: int) -> bytes:
    """Return a length in HPACK's form, whose first byte has seven bits for it."""
    if size < 0x7F:
        return bytes((size,))
    parts = bytearray((0x7F,))
    size -= 0x7F
    while size >= 0x80:
        parts.append(size & 0x7F | 0x80)
        size >>= 7
    parts.append(size)
    return bytes(parts)
