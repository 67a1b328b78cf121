"""One tensor of a request or an answer: its JSON form and Triton's binary form, checked against what is expected."""

import math
import reprlib
import struct
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from modelway.server.core import bfloat16
from modelway.server.core.refusal import Refusal
from modelway.server.core.signature import TensorSpec

Array = NDArray[Any]

#: types of JSON values that each kind of numpy array (``dtype.kind``) is made of; null stands for not-a-number
_ACCEPTED: dict[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": frozenset({int, float, type(None)}),
    "O": frozenset({str}),
}
_EXPECTED = {
    "b": "true or false",
    "i": "whole numbers",
    "u": "whole numbers",
    "f": "numbers, null, or the strings " + ", ".join(f'"{word}"' for word in ("NaN", "Infinity", "-Infinity")),
    "O": "strings",
}
#: strings for the values that JSON has no number for; protobuf's JSON has the same ones
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
#: a length of this or more does not fit into memory, and overflows in numpy
_LENGTHS = 1 << 31
_FLOATS = frozenset({float})
#: codes of the struct module, and how many values it is given
_CODES = {"FP32": "f", "FP64": "d"}
_PACKED = 4096
#: how many values are written as JSON in one step, which no other thread can interrupt
_PIECE = 8192


def check_shape(spec: TensorSpec, shape: object) -> tuple[int, ...]:
    """Return ``shape`` as a tuple if the model accepts it.

    :raises Refusal: 400, with the shape that is expected
    """
    if type(shape) is list and len(shape) == len(spec.shape):
        for want, got in zip(spec.shape, shape, strict=True):
            if type(got) is not int or (got != want and want != -1) or not 0 <= got < _LENGTHS:
                break
        else:
            return tuple(shape)
    lengths = isinstance(shape, list) and len(shape) <= 64
    if not lengths or not all(type(length) is int and 0 <= length < _LENGTHS for length in cast(list[Any], shape)):
        raise Refusal(400, f"input '{spec.name}': shape must be a list of whole numbers, such as {list(spec.shape)}")
    raise Refusal(400, f"input '{spec.name}': shape {short(shape)} does not fit, expected {list(spec.shape)} (-1: any)")


def from_json(spec: TensorSpec, shape: tuple[int, ...], data: object) -> Array:
    """Return the array of JSON ``data``, which is nested as ``shape`` says or flat in row-major order.

    :raises Refusal: 400, for values of another type, a wrong number of values, or values out of range
    """
    values = _flat(spec, shape, data)
    kind = spec.dtype.kind
    # before an array is made: numpy makes every element of a mixed list as wide as its longest string
    types = set(map(type, values))
    if kind == "f" and str in types:
        values = _parse_non_finite(spec, shape, values)
    elif not types <= _ACCEPTED[kind]:
        raise _wrong_type(spec, shape, types)
    if kind == "O":
        return _objects(values).reshape(shape)
    try:
        if types == _FLOATS and len(values) <= _PACKED and (code := _CODES.get(spec.datatype)) is not None:
            # a third of the time of numpy's; a number out of range is an OverflowError
            return np.frombuffer(struct.pack(f"<{len(values)}{code}", *values), dtype=spec.dtype).reshape(shape)
        array, finite = _converted(spec, values)
    except OverflowError as error:
        raise _out_of_range(spec) from error
    if not finite and not np.isfinite(array).all():
        _check_infinities(spec, values, array)
    return array.reshape(shape)


def _converted(spec: TensorSpec, values: list[Any]) -> tuple[Array, bool]:
    """Return the array of values of its datatype, and whether all are known to be finite."""
    with np.errstate(over="ignore"):
        array = np.array(values, dtype=spec.dtype)
        if spec.is_bfloat16:
            array = bfloat16.rounded(array)
        # a sum of squares is not finite when a value is not, and costs less than looking at each
        return array, spec.dtype.kind != "f" or math.isfinite(array.dot(array))


def from_binary(spec: TensorSpec, shape: tuple[int, ...], block: memoryview) -> Array:
    """Return the array of a little-endian row-major block of bytes.

    :raises Refusal: 400, when the block has another length than shape and datatype require
    """
    if spec.datatype == "BYTES":
        return _objects(_unpack_strings(spec, shape, block)).reshape(shape)
    expected = math.prod(shape) * (bfloat16.SIZE if spec.is_bfloat16 else spec.dtype.itemsize)
    if len(block) != expected:
        raise Refusal(
            400,
            f"input '{spec.name}': {len(block)} bytes of binary data, "
            f"{spec.datatype} of shape {list(shape)} needs {expected}",
        )
    if spec.datatype == "BOOL" and len(block) and np.frombuffer(block, dtype=np.uint8).max() > 1:
        raise Refusal(400, f"input '{spec.name}': binary BOOL data must be bytes of 0 and 1")
    if spec.is_bfloat16:
        return bfloat16.values(np.frombuffer(block, dtype="<u2")).reshape(shape)
    return np.frombuffer(block, dtype=spec.dtype).reshape(shape)


def to_binary(spec: TensorSpec, array: Array) -> bytes:
    """Return the little-endian row-major bytes of an array; strings are prefixed with their length (uint32)."""
    if spec.is_bfloat16:
        return bfloat16.bits(array).tobytes()
    if array.dtype.kind not in "OUS":
        return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
    texts = [_encoded(text) for text in array.ravel()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def to_json(array: Array) -> object:
    """Return the flat row-major values in a form that orjson writes; values that are not finite become null."""
    return _in_pieces(array, _plain)


def to_json_with_infinities(array: Array) -> object:
    """As :func:`to_json`, but infinities become "Infinity" and "-Infinity", and only not-a-number null.

    JSON has no number for them, and null for an infinity would be read as not-a-number.
    """
    return _in_pieces(array, _with_infinities)


def short(value: object) -> str:
    """Return a value of a request for a message, truncated: it may be as long as the body."""
    return _REPR.repr(value)


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 100
_REPR.maxlist = _REPR.maxtuple = 16


def _in_pieces(array: Array, values: Callable[[Array], Array | list[Any]]) -> object:
    flat = array.ravel()
    if flat.size <= _PIECE:
        return values(flat)
    pieces = (
        orjson.dumps(values(flat[at : at + _PIECE]), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
        for at in range(0, flat.size, _PIECE)
    )
    return orjson.Fragment(b"[" + b",".join(pieces) + b"]")


def _plain(flat: Array) -> Array | list[Any]:
    return [_encoded(text).decode() for text in flat] if flat.dtype.kind in "OUS" else flat


def _with_infinities(flat: Array) -> Array | list[Any]:
    if flat.dtype.kind != "f":
        return _plain(flat)
    values: list[Any] = flat.tolist()
    for at in np.flatnonzero(np.isinf(flat)):
        values[at] = "Infinity" if values[at] > 0 else "-Infinity"
    return values


def _flat(spec: TensorSpec, shape: tuple[int, ...], data: object) -> list[Any]:
    """Return the values of ``data`` in row-major order, without making an array of unchecked values."""
    needed = math.prod(shape)
    if not isinstance(data, list):
        raise Refusal(400, f"input '{spec.name}': data must be a list of {needed} values")
    nested = bool(data) and isinstance(data[0], list)
    values = _unnested(spec, shape, data) if nested else data
    if len(values) != needed:
        raise _not_as_shaped(spec, shape, f"holds {len(values)} values")
    return values


def _unnested(spec: TensorSpec, shape: tuple[int, ...], data: list[Any]) -> list[Any]:
    level: list[Any] = data
    if not shape or len(data) != shape[0]:
        raise _not_as_shaped(spec, shape, f"is nested as a list of {len(data)}")
    for length in shape[1:]:
        if not all(type(part) is list and len(part) == length for part in level):
            raise _not_as_shaped(spec, shape, "is nested unevenly or otherwise")
        level = list(chain.from_iterable(level))
    return level


def _parse_non_finite(spec: TensorSpec, shape: tuple[int, ...], values: list[Any]) -> list[Any]:
    try:
        return [_NOT_FINITE[value] if type(value) is str else _number(value) for value in values]
    except (KeyError, TypeError) as error:
        raise _wrong_type(spec, shape, set(map(type, values))) from error


def _number(value: object) -> object:
    if type(value) not in _ACCEPTED["f"]:
        raise TypeError
    return value


def _check_infinities(spec: TensorSpec, values: list[Any], array: Array) -> None:
    """Refuse a number that became infinite on its way into the datatype."""
    if any(type(values[at]) is int or math.isfinite(values[at]) for at in np.flatnonzero(np.isinf(array))):
        raise _out_of_range(spec)


def _unpack_strings(spec: TensorSpec, shape: tuple[int, ...], block: memoryview) -> list[str]:
    needed = math.prod(shape)
    texts: list[str] = []
    at = 0
    while at < len(block):
        if len(texts) == needed:
            raise Refusal(400, f"input '{spec.name}': more strings than the {needed} of shape {list(shape)}")
        if at + 4 > len(block):
            raise Refusal(400, f"input '{spec.name}': binary BYTES data ends inside a length")
        (length,) = struct.unpack_from("<I", block, at)
        at += 4
        if at + length > len(block):
            raise Refusal(400, f"input '{spec.name}': binary BYTES data ends inside a string")
        try:
            texts.append(str(block[at : at + length], "utf-8"))
        except UnicodeDecodeError as error:
            raise Refusal(400, f"input '{spec.name}': binary BYTES data must be UTF-8") from error
        at += length
    if len(texts) != needed:
        raise Refusal(400, f"input '{spec.name}': {len(texts)} strings, shape {list(shape)} needs {needed}")
    return texts


def _objects(texts: Sequence[str]) -> Array:
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array


def _encoded(text: object) -> bytes:
    return text if isinstance(text, bytes) else cast(str, text).encode()


def _not_as_shaped(spec: TensorSpec, shape: tuple[int, ...], found: str) -> Refusal:
    return Refusal(
        400,
        f"input '{spec.name}': data {found} where shape {list(shape)} needs {math.prod(shape)}, "
        "flat or nested that way",
    )


def _wrong_type(spec: TensorSpec, shape: tuple[int, ...], types: set[type]) -> Refusal:
    if list in types:
        return _not_as_shaped(spec, shape, "is nested unevenly or deeper")
    # The parser reads whole numbers of more than 64 bits as ones with a fraction, too.
    written = ", within its range and written without a point or exponent" if types <= {int, float} else ""
    return Refusal(400, f"input '{spec.name}': {spec.datatype} data must be {_EXPECTED[spec.dtype.kind]}{written}")


def _out_of_range(spec: TensorSpec) -> Refusal:
    return Refusal(400, f"input '{spec.name}': a value is out of the range of {spec.datatype}")
