"""Where an ONNX program says that its weights are: read and changed in its bytes, without the package onnx.

A program's tensor may be a place in another file: its name, an offset and a length. So a program can be run with its
weights inside an archive or an image layer, where they are mapped into memory and never copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

#: by message, which fields lead to a tensor, and the message that is in each (onnx.proto)
_MESSAGES = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
}
_EXTERNAL = 13
_LENGTH_DELIMITED = 2
#: bytes of a field by its kind, where they are fixed
_FIXED = {1: 8, 5: 4}

#: the file that a tensor is in by the program, and the file and offset to read it from instead
Places = Mapping[str, tuple[str, int]]


def external_files(program: bytes) -> set[str]:
    """Return the files that a program's tensors are in.

    :raises ValueError: it is no ONNX program
    """
    found: set[str] = set()
    _rewritten(memoryview(program), "model", {}, found)
    return found


def relocated(program: bytes, places: Places) -> bytes:
    """Return the program with its tensors read from other places.

    :param places: by the file that the program names: the file instead, and where in it that file's bytes begin
    :raises ValueError: it is no ONNX program
    """
    return _rewritten(memoryview(program), "model", places, set())


def _rewritten(data: memoryview, kind: str, places: Places, found: set[str]) -> bytes:
    if kind == "tensor":
        return _tensor(data, places, found)
    inner, pieces = _MESSAGES[kind], []
    for number, begin, body, end in _fields(data):
        if body is None or number not in inner:
            pieces.append(bytes(data[begin:end]))
            continue
        pieces += _field(number, _rewritten(data[body:end], inner[number], places, found))
    return b"".join(pieces)


def _tensor(data: memoryview, places: Places, found: set[str]) -> bytes:
    pieces, external = [], {}
    for number, begin, body, end in _fields(data):
        if number == _EXTERNAL and body is not None:
            entry = {each: bytes(data[body:end][at:to]) for each, _, at, to in _fields(data[body:end])}
            external[entry.get(1, b"").decode()] = entry.get(2, b"").decode()
        else:
            pieces.append(bytes(data[begin:end]))
    if not external:
        return bytes(data)
    file = external.get("location", "")
    found.add(file)
    if file in places:
        external["location"], offset = places[file]
        external["offset"] = str(int(external.get("offset") or 0) + offset)
    for key, value in external.items():
        pieces += _field(_EXTERNAL, b"".join([*_field(1, key.encode()), *_field(2, value.encode())]))
    return b"".join(pieces)


def _field(number: int, body: bytes) -> list[bytes]:
    return [_varint(number << 3 | _LENGTH_DELIMITED), _varint(len(body)), body]


def _fields(data: memoryview) -> Iterator[tuple[int, int, int | None, int]]:
    """Yield the number of each field, where it and its content begin, and where it ends; None: it has no content."""
    place = 0
    while place < len(data):
        begin = place
        tag, place = _read_varint(data, place)
        number, wire, body = tag >> 3, tag & 7, None
        if wire == 0:
            _, place = _read_varint(data, place)
        elif wire == _LENGTH_DELIMITED:
            length, body = _read_varint(data, place)
            place = body + length
        elif wire in _FIXED:
            place += _FIXED[wire]
        else:
            raise ValueError("this is no ONNX program")
        if place > len(data):
            raise ValueError("this is no whole ONNX program")
        yield number, begin, body, place


def _read_varint(data: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data) and shift < 70:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError("this is no ONNX program")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
