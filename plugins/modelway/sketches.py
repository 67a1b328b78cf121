"""How the values of a model's inputs and outputs are distributed, in counts of a fixed size, for a later comparison.

A number x, cut to eight binary digits, falls into the bucket of its sign and ``floor(8 * log2(|x|))``, which is 9 %
wide, so that a quantile is off by half of that, and by 0.8 %. The buckets are the same everywhere: counts of several
servers, hours or versions add up. The server counts what it answers, and freezing the rows of the evaluation: a monitor
compares the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]

PER_DOUBLING = 8
#: buckets of one sign reach from 2 ** -32 to 2 ** 32; what is beyond counts in the last one
_REACH = 32 * PER_DOUBLING
#: the bucket of zero lies between those of both signs
_ZERO = 2 * _REACH
_BUCKETS = 2 * _ZERO + 1
#: where values that are not finite are counted
_MISSING = _BUCKETS
#: positions of a row that are features of their own, of all inputs together and of all outputs; the values of a longer
#: row are one feature together
MAX_FEATURES = 128
#: values of one row that are counted where they are one feature
MAX_VALUES = 1024
#: different strings of a feature that are counted, and characters of each; the rest counts as others
_MAX_STRINGS, _MAX_STRING = 64, 64
#: an output with so many values a row at most is one with a score for each class
MAX_CLASSES = 64
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


class Tensor(Protocol):
    """One input or output; -1 in ``shape`` stands for any length."""

    @property
    def name(self) -> str:
        """The name of the tensor."""

    @property
    def datatype(self) -> str:
        """As the Open Inference Protocol has it; BYTES is text."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The batch first, where it is one."""


class Counts:
    """Counts of the rows of all inputs and outputs; of an output with scores also how often each class is the best."""

    def __init__(self, *, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Start with nothing."""
        self._inputs, self._outputs = _sketches(inputs), _sketches(outputs)
        self._classes = {spec.name: np.zeros(spec.shape[1], dtype=np.int64) for spec in outputs if scores_classes(spec)}

    def add(self, inputs: Mapping[str, Sequence[Array]], outputs: Mapping[str, Sequence[Array]]) -> None:
        """Count the rows of several calls together, which takes a tenth of the time."""
        for sketches, side in ((self._inputs, inputs), (self._outputs, outputs)):
            for name, arrays in side.items():
                sketches[name].add(arrays)
        for name, counts in self._classes.items():
            if arrays := outputs.get(name, ()):
                values = np.concatenate(arrays, axis=None) if len(arrays) > 1 else arrays[0]
                found = best_classes(values.reshape(-1, len(counts)))
                counts += np.bincount(found[found >= 0], minlength=len(counts))

    def documents(self) -> dict[str, Any]:
        """Return all counts as plain JSON."""
        return {
            "buckets_per_doubling": PER_DOUBLING,
            "inputs": [each for sketch in self._inputs.values() for each in sketch.documents()],
            "outputs": [each for sketch in self._outputs.values() for each in sketch.documents()],
            "classes": [
                {"name": name, "count": int(counts.sum()), "strings": {str(at): int(n) for at, n in enumerate(counts)}}
                for name, counts in self._classes.items()
            ],
        }


def scores_classes(spec: Tensor) -> bool:
    """Return whether each row of an output is a score for each of some classes."""
    return (
        spec.datatype != "BYTES" and len(spec.shape) == 2 and spec.shape[0] == -1 and 2 <= spec.shape[1] <= MAX_CLASSES
    )


def best_classes(array: Array) -> Array:
    """Return the class with the highest score of each row; -1 where a score is not finite."""
    if not array.size:
        return np.zeros(0, dtype=np.int64)
    rows = array.astype(np.float64, copy=False)
    return np.where(np.isfinite(rows).all(axis=1), rows.argmax(axis=1), -1)


class _Numbers:
    """Counts of one tensor of numbers: a row of buckets for each feature."""

    def __init__(self, spec: Tensor, most: int) -> None:
        self._name = spec.name
        lengths = spec.shape[1:]
        width = int(np.prod(lengths)) if spec.shape[:1] == (-1,) and -1 not in lengths else 0
        self._each = 0 < width <= most
        self._lengths = lengths if self._each else ()
        features = width if self._each else 1
        self._counts = np.zeros((features, _BUCKETS + 1), dtype=np.int64)
        self._begins = np.arange(features) * (_BUCKETS + 1)
        self._sums = np.zeros(features)
        self._least = np.full(features, np.inf)
        self._most = np.full(features, -np.inf)

    def add(self, arrays: Sequence[Array]) -> None:
        arrays = arrays if self._each else [some(array) for array in arrays]
        values = np.concatenate(arrays, axis=None) if len(arrays) > 1 else arrays[0]
        if not values.size:
            return
        values = values.reshape(-1, len(self._counts))
        if values.dtype != np.float32:
            values = values.astype(np.float64)
        np.add.at(self._counts.reshape(-1), (_buckets(values) + self._begins).reshape(-1), 1)
        sums = values.sum(axis=0, dtype=np.float64)
        least, most = values.min(axis=0), values.max(axis=0)
        if not np.isfinite(sums).all():
            known = np.isfinite(values)
            sums = np.where(known, values, 0).sum(axis=0, dtype=np.float64)
            least = np.where(known, values, np.inf).min(axis=0)
            most = np.where(known, values, -np.inf).max(axis=0)
        self._sums += sums
        self._least, self._most = np.minimum(self._least, least), np.maximum(self._most, most)

    def documents(self) -> list[dict[str, Any]]:
        return [self._document(at) for at in range(len(self._counts))]

    def _document(self, at: int) -> dict[str, Any]:
        counts = self._counts[at, :_BUCKETS]
        total = int(counts.sum())
        position = [int(each) for each in np.unravel_index(at, self._lengths)] if self._lengths else []
        found: dict[str, Any] = {"name": self._name, "position": position, "count": total}
        found["missing"] = int(self._counts[at, _MISSING])
        if total:
            least, most = float(self._least[at]), float(self._most[at])
            found |= {"mean": float(self._sums[at]) / total, "min": least, "max": most}
            reached = np.cumsum(counts)
            found["quantiles"] = {
                str(q): float(np.clip(_middle(int(np.searchsorted(reached, q * total))), least, most))
                for q in _QUANTILES
            }
            found["buckets"] = {str(each - _ZERO): int(counts[each]) for each in np.flatnonzero(counts)}
        return found


class _Strings:
    """Counts of one tensor of strings, all values together."""

    def __init__(self, spec: Tensor) -> None:
        self._name = spec.name
        self._counts: Counter[str] = Counter()
        self._others = 0

    def add(self, arrays: Sequence[Array]) -> None:
        for text in chain.from_iterable(map(some, arrays)):
            short = short_text(text)
            if short in self._counts or len(self._counts) < _MAX_STRINGS:
                self._counts[short] += 1
            else:
                self._others += 1

    def documents(self) -> list[dict[str, Any]]:
        counts = dict(self._counts)
        total = sum(counts.values()) + self._others
        return [{"name": self._name, "position": [], "count": total, "strings": counts, "others": self._others}]


def _sketches(specs: Sequence[Tensor]) -> dict[str, _Numbers | _Strings]:
    most = MAX_FEATURES // max(1, len(specs))
    return {spec.name: _Strings(spec) if spec.datatype == "BYTES" else _Numbers(spec, most) for spec in specs}


def _buckets(values: Array) -> Array:
    """Return the bucket of each value: negative ones, zero, positive ones, each from small to large, or missing.

    :param values: of float32 or float64
    """
    bits: Array = np.ascontiguousarray(values).view(f"u{values.itemsize}")
    return _table(values.dtype.name).take(bits >> (16 if values.itemsize == 4 else 45))


@cache
def _table(dtype: str) -> Array:
    """Return the buckets of all floats by their sign, exponent and seven digits of their fraction.

    A logarithm of each value would take several times as long as to read it here.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        if dtype == "float32":
            values = (np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
        else:
            values = (np.arange(1 << 19, dtype=np.uint64) << np.uint64(45)).view(np.float64)
        sizes = np.abs(values)
        exponents = np.floor(PER_DOUBLING * np.log2(sizes))
    # Zero and what is not finite have none.
    exponents = np.clip(np.nan_to_num(exponents), -_REACH, _REACH - 1).astype(np.int64)
    found = np.where(values > 0, _ZERO + 1 + _REACH + exponents, _ZERO - 1 - _REACH - exponents)
    # Of two bytes, so that the processor's cache has room for all.
    return np.where(np.isfinite(values), np.where(sizes == 0, _ZERO, found), _MISSING).astype(np.uint16)


def _middle(bucket: int) -> float:
    """Return a value in the middle of a bucket."""
    if bucket == _ZERO:
        return 0.0
    exponent = abs(bucket - _ZERO) - 1 - _REACH
    return float(np.sign(bucket - _ZERO) * 2 ** ((exponent + 0.5) / PER_DOUBLING))


def short_text(text: object) -> str:
    """Return what is counted of a text: its first characters, of which none has more than four bytes."""
    if isinstance(text, bytes):
        text = text[: 4 * _MAX_STRING].decode(errors="replace")
    return str(text)[:_MAX_STRING]


def some(array: Array) -> Array:
    """Return the values of a tensor, evenly chosen where there are many."""
    flat = array.ravel()
    most = MAX_VALUES * max(1, len(array) if array.ndim else 1)
    return flat[:: -(-flat.size // most)] if flat.size > most else flat
