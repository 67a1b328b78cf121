"""Protobuf's wire format: the fields of a message are found without copying it, and written.

Only what the protocol's messages need: varints, fixed numbers and what has a length; no groups.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from modelway.server.core.tensors import Array

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_VARINT_BYTES = 10
#: bytes of varints that are decoded in one step, which no other thread can interrupt
_STEP = 256 << 10


class Malformed(ValueError):
    """Bytes that are no message; the text says why."""


class Reader:
    """Reads one message and the messages within it, of which all fields together are limited."""

    def __init__(self, *, max_fields: int) -> None:
        """Set the limit: each field costs time and memory, however short it is."""
        self._limit = self._left = max_fields

    def fields(self, message: memoryview) -> Iterator[tuple[int, int, memoryview]]:
        """Yield number, wire type and bytes of each field; those of a varint as they are.

        :raises Malformed: when the message ends inside a field, or has more fields than are allowed
        """
        at, size = 0, len(message)
        while at < size:
            self._left -= 1
            if self._left < 0:
                raise Malformed(f"it has more than {self._limit} fields")
            key, at = varint(message, at)
            kind = key & 7
            if kind == LENGTH:
                length, at = varint(message, at)
                end = at + length
            elif kind == VARINT:
                _, end = varint(message, at)
            elif kind == FIXED32:
                end = at + 4
            elif kind == FIXED64:
                end = at + 8
            else:
                raise Malformed(f"a field has the wire type {kind}")
            if end > size or key < 8:
                raise Malformed("it ends inside a field" if end > size else "a field has the number 0")
            yield key >> 3, kind, message[at:end]
            at = end


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return the number at a position of the message, and the position behind it.

    :raises Malformed: when it is longer than a varint can be, or the message ends inside
    """
    try:
        byte = message[at]
        if byte < 0x80:
            return byte, at + 1
        value, shift = byte & 0x7F, 7
        while True:
            at += 1
            byte = message[at]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, at + 1
            shift += 7
            if shift == 7 * _VARINT_BYTES:
                raise Malformed("a number is longer than 10 bytes")
    except IndexError:
        raise Malformed("it ends inside a number") from None


def text(value: memoryview) -> str:
    """Return a string field.

    :raises Malformed: when it is not UTF-8
    """
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        raise Malformed("a string is not UTF-8") from None


def signed(value: int) -> int:
    """Return the int32 or int64 that a varint stands for."""
    return value - (1 << 64) if value >> 63 else value


def numbers(packed: memoryview, *, most: int) -> list[int]:
    """Return a few packed int64.

    :raises Malformed: as :func:`varint`, and for more than ``most``
    """
    found: list[int] = []
    at = 0
    while at < len(packed):
        if len(found) == most:
            raise Malformed(f"a list has more than {most} numbers")
        value, at = varint(packed, at)
        found.append(signed(value))
    return found


def count(packed: memoryview) -> int:
    """Return the number of packed varints."""
    return int(np.count_nonzero(np.frombuffer(packed, dtype=np.uint8) < 0x80))


def varints(packed: memoryview) -> Iterator[Array]:
    """Yield packed varints as arrays of uint64, some thousands at a time.

    :raises Malformed: when one is longer than a varint can be, or cut off
    """
    data = np.frombuffer(packed, dtype=np.uint8)
    at = 0
    while at < data.size:
        step = data[at : at + _STEP]
        ends = np.flatnonzero(step < 0x80)
        if not ends.size:
            raise Malformed("it ends inside a number")
        starts = np.concatenate(([0], ends[:-1] + 1))
        lengths = ends - starts + 1
        if lengths.max() > _VARINT_BYTES:
            raise Malformed("a number is longer than 10 bytes")
        values = step[starts].astype(np.uint64) & 0x7F
        for place in range(1, int(lengths.max())):
            longer = np.flatnonzero(lengths > place)
            values[longer] |= (step[starts[longer] + place].astype(np.uint64) & 0x7F) << np.uint64(7 * place)
        yield values
        at += int(ends[-1]) + 1


def number_field(number: int, value: int) -> bytes:
    """Return a varint field; nothing for 0, as protobuf writes it."""
    return _varint(number << 3) + _varint(value) if value else b""


def bytes_field(number: int, value: bytes, *, always: bool = False) -> bytes:
    """Return a field with a length; nothing for an empty one, unless it is one of a list (``always``)."""
    return b"%b%b%b" % (_varint(number << 3 | LENGTH), _varint(len(value)), value) if value or always else b""


def text_field(number: int, value: str) -> bytes:
    """Return a string field; nothing for an empty one."""
    return bytes_field(number, value.encode())


def texts_field(number: int, values: Iterable[str]) -> bytes:
    """Return a repeated string field."""
    return b"".join(bytes_field(number, value.encode(), always=True) for value in values)


def numbers_field(number: int, values: Sequence[int]) -> bytes:
    """Return a repeated int64 field."""
    return bytes_field(number, b"".join(_varint(value & 0xFFFF_FFFF_FFFF_FFFF) for value in values))


def head(number: int, size: int) -> bytes:
    """Return what stands before ``size`` bytes of a field with a length."""
    return _varint(number << 3 | LENGTH) + _varint(size)


def _varint(value: int) -> bytes:
    if value < 0x80:
        return _SMALL[value]
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


_SMALL = tuple(bytes((value,)) for value in range(0x80))
