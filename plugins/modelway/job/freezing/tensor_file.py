"""Safetensors files, written tensor by tensor: 8 bytes little-endian header length, JSON header, raw tensors.

Text, of which the format has no type, is written as the bytes of its UTF-8.

Every such file of the job is written here. ``safetensors.numpy.save`` writes the memory behind an array as it is: a
view comes back with other numbers, and what is beside it in memory gets into the file. It also needs all bytes at once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.job.durable import durable_file

if TYPE_CHECKING:
    import numpy

#: the format's names of numpy's types, in the order in which the library lays out a file, last first
_NAMES = {
    **{"bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "uint16": "U16", "float16": "F16"},
    **{"bfloat16": "BF16", "int32": "I32", "uint32": "U32", "float32": "F32", "float64": "F64"},
    **{"int64": "I64", "uint64": "U64"},
}
_ORDER = list(_NAMES)
#: the key of the file's metadata that names the tensors which are text
_TEXT = "text"
#: the header's length is a multiple of this, so that tensors are aligned for processors
_ALIGNMENT = 8


@dataclass(frozen=True)
class Later:
    """A tensor that is read when it is written, so that not all of them are in memory at once."""

    dtype: str
    """numpy's name of its type"""
    shape: tuple[int, ...]
    read: Callable[[], numpy.ndarray[Any, Any]]


def write_tensors(
    path: Path, tensors: Mapping[str, numpy.ndarray[Any, Any] | Later], *, synced: bool = True
) -> dict[str, tuple[int, int]]:
    """Write tensors by name, whole or not at all; return where each begins in the file and its length, in bytes.

    :param synced: whether they are on the disk afterwards
    :raises ValueError: the format has no type for a tensor, or a tensor differs from its declaration
    """
    text_names = sorted(name for name, tensor in tensors.items() if _is_text(tensor))
    tensors = {name: _text_bytes(tensor) if name in text_names else tensor for name, tensor in tensors.items()}
    order = sorted(tensors, key=lambda name: (-_rank(name, _kind(tensors[name])), name))
    header: dict[str, Any] = {"__metadata__": {_TEXT: json.dumps(text_names)}} if text_names else {}
    end = 0
    for name in order:
        kind, shape = _kind(tensors[name]), tuple(tensors[name].shape)
        begin, end = end, end + math.prod(shape) * _item_bytes(kind)
        header[name] = {"dtype": _NAMES[kind], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with durable_file(path, synced=synced) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            tensor = tensors[name]
            array = tensor.read() if isinstance(tensor, Later) else tensor
            if _kind(array) != _kind(tensor) or array.shape != tuple(tensor.shape):
                raise ValueError(f"the tensor '{name}' is {array.dtype} {list(array.shape)}, not as declared")
            file.write(_contiguous(array).data)
    base = 8 + len(text)
    places = {name: header[name]["data_offsets"] for name in tensors}
    return {name: (base + begin, end - begin) for name, (begin, end) in places.items()}


def has_type(kind: str) -> bool:
    """Return whether the format has a type for numpy's type of this name."""
    return kind in _NAMES


def tensor_bytes(tensor: numpy.ndarray[Any, Any] | Later) -> int:
    """Return how many bytes a tensor takes in a file.

    :raises ValueError: the format has no type for it
    """
    _rank("", kind := _kind(tensor))
    return math.prod(tensor.shape) * _item_bytes(kind)


def read_tensors(path: Path) -> dict[str, numpy.ndarray[Any, Any]]:
    """Return the tensors of a file by name, text as :func:`write_tensors` wrote it."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        text_names = json.loads((file.metadata() or {}).get(_TEXT, "[]"))
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    return {name: _text_of(array) if name in text_names else array for name, array in found.items()}


def _is_text(tensor: Any) -> bool:
    if isinstance(tensor, Later) or tensor.dtype.kind not in "OSU":
        return False
    return tensor.dtype.kind != "O" or all(isinstance(each, str) for each in tensor.flat)


def _text_bytes(tensor: Any) -> numpy.ndarray[Any, Any]:
    """Return text as the bytes of its UTF-8, with as many bytes for each as the longest has, zeros behind."""
    import numpy

    encoded = numpy.char.encode(numpy.asarray(tensor).astype(str), "utf-8")
    return numpy.ascontiguousarray(encoded).reshape(*tensor.shape, 1).view(numpy.uint8)


def _text_of(array: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
    import numpy

    found: numpy.ndarray[Any, Any] = numpy.char.decode(array.view(f"S{array.shape[-1]}")[..., 0], "utf-8")
    return found


def _contiguous(array: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
    """Return the array's own bytes, row by row and little-endian, as one flat array of bytes."""
    import numpy

    little = array.astype(array.dtype.newbyteorder("<"), copy=False) if array.dtype.byteorder == ">" else array
    return numpy.ascontiguousarray(little).reshape(-1).view(numpy.uint8)


def _rank(name: str, kind: str) -> int:
    if name == "__metadata__":
        raise ValueError("a tensor cannot be named '__metadata__': the format uses this name itself")
    if kind not in _NAMES:
        raise ValueError(f"the tensor '{name}' is {kind}, of which the format has no type")
    return _ORDER.index(kind)


def _kind(tensor: numpy.ndarray[Any, Any] | Later) -> str:
    return tensor.dtype if isinstance(tensor, Later) else str(tensor.dtype.name)


def _item_bytes(kind: str) -> int:
    return 1 if kind in ("bool", "uint8", "int8") else int("".join(filter(str.isdigit, kind))) // 8
