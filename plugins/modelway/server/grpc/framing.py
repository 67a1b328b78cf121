"""What is otherwise than in h2: what every call has costs little, and long frames are refused early.

Most of a small call is the same as in the call before: its headers, an answer of three frames, two windows that the
client opens again. h2 does all else, and all of these where something is unusual about them.
"""

import struct
from collections.abc import Iterable, Sequence

from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.frame_buffer import FrameBuffer
from h2.stream import StreamClosedBy, StreamState
from hpack import Decoder, Encoder
from hpack.struct import HeaderTuple
from hyperframe.frame import Frame

Headers = Sequence[tuple[bytes, bytes]]

#: blocks that are remembered, at most
_KNOWN = 16
#: headers of such a block, at most
_MAX_HEADERS = 32
#: a field that is written in full, and changes no table
_LITERAL = b"\0"
#: "the table has no entries from now on", which suits every limit that a client may set
_NO_TABLE = b"\x20"
#: of the lowest byte whose highest bit says that a field stands in the table
_INDEXED = 0x80


#: bytes before each frame, of which the first three are its length
_FRAME_HEAD = 9


_WINDOW_UPDATE = b"\0\0\x04\x08"
_WINDOW_UPDATE_SIZE = 13
_MAX_WINDOW = 2**31 - 1
_DATA, _HEADERS = 0, 1
_END_STREAM, _END_HEADERS = 1, 4


class CallConnection(H2Connection):
    """The server's side of HTTP/2, whose calls are answered in one step where that can be."""

    def __init__(self, *, max_head: int) -> None:
        """Start as h2 does.

        :param max_head: bytes of the headers of one call
        """
        config = H2Configuration(
            client_side=False,
            header_encoding=None,
            # our own are right, and of a client's only those matter that a call reads
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            validate_inbound_headers=False,
            normalize_inbound_headers=False,
        )
        super().__init__(config)
        self.encoder, self.decoder = PlainEncoder(), RememberingDecoder()
        self.decoder.max_header_list_size = max_head
        self.incoming_buffer = BoundedBuffer(self)
        #: windows that the client has opened, of which there is no event
        self.opened = 0

    def answer(self, stream_id: int, headers: Headers, body: bytes, trailers: Headers) -> bool:
        """Send a whole answer; False where windows or the size of a frame do not allow it at once."""
        stream, size = self.streams.get(stream_id), len(body)
        if stream is None or self.state_machine.state is ConnectionState.CLOSED:
            return False
        machine = stream.state_machine
        room = min(self.outbound_flow_control_window, stream.outbound_flow_control_window, self.max_outbound_frame_size)
        if machine.state is not StreamState.HALF_CLOSED_REMOTE or size > room:
            return False
        head, tail = self.encoder.encode(headers), self.encoder.encode(trailers)
        self.outbound_flow_control_window -= size
        machine.state, machine.stream_closed_by = StreamState.CLOSED, StreamClosedBy.SEND_END_STREAM
        frames = (
            _frame_head(_HEADERS, _END_HEADERS, stream_id, len(head)),
            head,
            _frame_head(_DATA, 0, stream_id, size),
            body,
            _frame_head(_HEADERS, _END_HEADERS | _END_STREAM, stream_id, len(tail)),
            tail,
        )
        self._data_to_send += b"".join(frames)
        return True

    def open_window(self, stream_id: int, increment: int) -> bool:
        """Let more be sent on a stream, or on all for 0; False for what h2 must look at."""
        if stream_id == 0:
            if not 0 < increment <= _MAX_WINDOW - self.outbound_flow_control_window:
                return False
            self.outbound_flow_control_window += increment
        elif increment == 0 or stream_id > self.highest_inbound_stream_id:
            return False
        elif (stream := self.streams.get(stream_id)) is not None and not stream.closed:
            if increment > _MAX_WINDOW - stream.outbound_flow_control_window:
                return False
            stream.outbound_flow_control_window += increment
        self.opened += 1
        return True


class BoundedBuffer(FrameBuffer):
    """Refuses a frame that is too long by its head; h2 would first wait for all of its up to 16 MiB.

    Frames that open a window go to the connection at once.
    """

    def __init__(self, connection: CallConnection) -> None:
        """Start with the preface of a client, which comes first."""
        super().__init__(server=True)
        self._connection = connection

    def __next__(self) -> Frame:
        """Return the next whole frame that h2 must look at.

        :raises FrameTooLargeError: for a length over the limit
        """
        data = self._data
        while data.startswith(_WINDOW_UPDATE) and len(data) >= _WINDOW_UPDATE_SIZE and not self._headers_buffer:
            stream, increment = struct.unpack_from(">II", data, 5)
            if not self._connection.open_window(stream & _MAX_WINDOW, increment & _MAX_WINDOW):
                break
            del data[:_WINDOW_UPDATE_SIZE]
        if len(data) >= _FRAME_HEAD:
            self._validate_frame_length(int.from_bytes(data[:3], "big"))
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
        elif len(self._known) < _KNOWN and len(headers) <= _MAX_HEADERS:
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


def _frame_head(kind: int, flags: int, stream: int, size: int) -> bytes:
    return struct.pack(">BHBBI", size >> 16, size & 0xFFFF, kind, flags, stream)
