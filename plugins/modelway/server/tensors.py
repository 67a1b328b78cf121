"""One tensor of a request or an answer: its JSON form and Triton's binary form, checked against what is expected."""

import math
import struct
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from modelway.server.refusal import Refusal
from modelway.server.signature import TensorSpec

Array = NDArray[Any]

#: kinds of numpy array (``dtype.kind``) that JSON data may turn into, by kind of the tensor
_ACCEPTED = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}
_WORDS = {"b": "true or false", "i": "whole numbers", "u": "whole numbers", "f": "numbers"}


def check_shape(spec: TensorSpec, shape: object) -> tuple[int, ...]:
    """Return ``shape`` as a tuple when the model takes it.

    :raises Refusal: 400, with the shape that is expected
    """
    if not isinstance(shape, list) or not all(type(length) is int and length >= 0 for length in shape):
        raise Refusal(400, f"input '{spec.name}': shape must be a list of whole numbers, such as {list(spec.shape)}")
    fits = len(shape) == len(spec.shape) and all(want in (-1, got) for want, got in zip(spec.shape, shape, strict=True))
    if not fits:
        raise Refusal(400, f"input '{spec.name}': shape {shape} does not fit, expected {list(spec.shape)} (-1: any)")
    return tuple(shape)


def from_json(spec: TensorSpec, shape: tuple[int, ...], data: object) -> Array:
    """Return the array of JSON ``data``, which is nested as ``shape`` says or flat in row-major order.

    :raises Refusal: 400, for values of another type, a wrong number of values, or values out of range
    """
    if not isinstance(data, list):
        raise Refusal(400, f"input '{spec.name}': data must be a list of {math.prod(shape)} values")
    array = _strings(spec, data) if spec.datatype == "BYTES" else _numbers(spec, data)
    if array.size != math.prod(shape) or (array.ndim > 1 and array.shape != shape):
        raise Refusal(
            400,
            f"input '{spec.name}': data holds {array.size} values nested as {list(array.shape)}, "
            f"shape {list(shape)} needs {math.prod(shape)}, flat or nested that way",
        )
    return array.reshape(shape)


def from_binary(spec: TensorSpec, shape: tuple[int, ...], block: memoryview) -> Array:
    """Return the array of a little-endian row-major block of bytes.

    :raises Refusal: 400, when the block has another length than shape and datatype ask for
    """
    if spec.datatype == "BYTES":
        texts = _unpack_strings(spec, block)
        if len(texts) != math.prod(shape):
            raise Refusal(
                400, f"input '{spec.name}': {len(texts)} strings, shape {list(shape)} needs {math.prod(shape)}"
            )
        return _objects(texts).reshape(shape)
    expected = math.prod(shape) * spec.dtype.itemsize
    if len(block) != expected:
        raise Refusal(
            400,
            f"input '{spec.name}': {len(block)} bytes of binary data, "
            f"{spec.datatype} of shape {list(shape)} needs {expected}",
        )
    if spec.datatype == "BOOL" and block.tobytes().strip(b"\x00\x01"):
        raise Refusal(400, f"input '{spec.name}': binary BOOL data must be bytes of 0 and 1")
    return np.frombuffer(block, dtype=spec.dtype).reshape(shape)


def to_binary(array: Array) -> bytes:
    """Return the little-endian row-major bytes of an array; strings are prefixed with their length (uint32)."""
    if array.dtype.kind not in "OUS":
        return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
    texts = [_encoded(text) for text in array.ravel()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def to_json(array: Array) -> Array | list[str]:
    """Return the flat row-major values in a form that orjson writes; not-a-number becomes null, as JSON has none."""
    if array.dtype.kind in "OUS":
        return [_encoded(text).decode() for text in array.ravel()]
    return np.ascontiguousarray(array).ravel()


def _numbers(spec: TensorSpec, data: list[Any]) -> Array:
    try:
        array = np.array(data)
    except ValueError as error:
        raise Refusal(400, f"input '{spec.name}': data is nested unevenly") from error
    if array.size == 0:
        return array.astype(spec.dtype)
    if spec.dtype.kind in "iu" and array.dtype.kind in "fO":
        # numpy makes floats of integers that no one integer type holds together
        array = _integers(spec, data)
    if array.dtype.kind not in _ACCEPTED[spec.dtype.kind]:
        raise Refusal(400, f"input '{spec.name}': {spec.datatype} data must be {_WORDS[spec.dtype.kind]}")
    with np.errstate(over="ignore"):
        typed = array.astype(spec.dtype)
    lossless = np.isfinite(typed).all() if spec.dtype.kind == "f" else np.array_equal(typed, array)
    if not lossless:
        raise Refusal(400, f"input '{spec.name}': a value is out of the range of {spec.datatype}")
    return typed


def _integers(spec: TensorSpec, data: list[Any]) -> Array:
    objects = np.array(data, dtype=object)
    if not all(type(value) is int for value in objects.ravel()):
        raise Refusal(400, f"input '{spec.name}': {spec.datatype} data must be {_WORDS[spec.dtype.kind]}")
    try:
        return objects.astype(spec.dtype)
    except OverflowError as error:
        raise Refusal(400, f"input '{spec.name}': a value is out of the range of {spec.datatype}") from error


def _strings(spec: TensorSpec, data: list[Any]) -> Array:
    try:
        array = np.array(data, dtype=object)
    except ValueError as error:
        raise Refusal(400, f"input '{spec.name}': data is nested unevenly") from error
    if not all(isinstance(text, str) for text in array.ravel()):
        raise Refusal(400, f"input '{spec.name}': BYTES data must be strings, all nested alike")
    return array


def _unpack_strings(spec: TensorSpec, block: memoryview) -> list[str]:
    texts, at = [], 0
    while at < len(block):
        if at + 4 > len(block):
            raise Refusal(400, f"input '{spec.name}': binary BYTES data ends inside a length")
        (length,) = struct.unpack_from("<I", block, at)
        at += 4
        if at + length > len(block):
            raise Refusal(400, f"input '{spec.name}': binary BYTES data ends inside a string")
        try:
            texts.append(bytes(block[at : at + length]).decode())
        except UnicodeDecodeError as error:
            raise Refusal(400, f"input '{spec.name}': binary BYTES data must be UTF-8") from error
        at += length
    return texts


def _objects(texts: list[str]) -> Array:
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array


def _encoded(text: object) -> bytes:
    return text if isinstance(text, bytes) else cast(str, text).encode()
