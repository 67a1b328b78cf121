"""How the values of a model's inputs and outputs are distributed, in counts of a fixed size, for a later comparison.

A number x falls into the bucket of its sign and ``floor(8 * log2(|x|))``, which is 9 % wide, so that a quantile is off
by half of that at most. The buckets are the same everywhere: counts of several servers, hours or versions add up. The
server counts what it answers, and freezing the rows of the evaluation: a monitor compares the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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
#: positions of a row that are features of their own, of all inputs together and of all outputs; the values of a longer
#: row are one feature together
MAX_FEATURES = 128
#: values of one row that are counted where they are one feature
_MAX_VALUES = 1024
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
            for array in outputs.get(name, ()):
                found = best_classes(array.reshape(-1, len(counts)))
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
        self._counts = np.zeros((features, _BUCKETS), dtype=np.int64)
        self._missing = np.zeros(features, dtype=np.int64)
        self._sums = np.zeros(features)
        self._least = np.full(features, np.inf)
        self._most = np.full(features, -np.inf)

    def add(self, arrays: Sequence[Array]) -> None:
        shape = (-1, len(self._counts))
        parts = [array.reshape(shape) if self._each else some(array)[:, None] for array in arrays]
        values = np.concatenate(parts).astype(np.float64)
        if not values.size:
            return
        known = np.isfinite(values)
        self._missing += (~known).sum(axis=0)
        self._sums += np.where(known, values, 0).sum(axis=0)
        self._least = np.fmin(self._least, np.where(known, values, np.inf).min(axis=0, initial=np.inf))
        self._most = np.fmax(self._most, np.where(known, values, -np.inf).max(axis=0, initial=-np.inf))
        features = np.broadcast_to(np.arange(len(self._counts)), values.shape)[known]
        np.add.at(self._counts, (features, _buckets(values[known])), 1)

    def documents(self) -> list[dict[str, Any]]:
        return [self._document(at) for at in range(len(self._counts))]

    def _document(self, at: int) -> dict[str, Any]:
        counts = self._counts[at]
        total = int(counts.sum())
        position = [int(each) for each in np.unravel_index(at, self._lengths)] if self._lengths else []
        found: dict[str, Any] = {"name": self._name, "position": position, "count": total}
        found["missing"] = int(self._missing[at])
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
            short = (text.decode(errors="replace") if isinstance(text, bytes) else str(text))[:_MAX_STRING]
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
    """Return the bucket of each finite value: negative ones, zero, positive ones, each from small to large by value."""
    sizes = np.abs(values)
    with np.errstate(divide="ignore"):
        exponents = np.clip(np.floor(PER_DOUBLING * np.log2(sizes)), -_REACH, _REACH - 1)
    exponents = np.where(sizes == 0, 0, exponents).astype(np.int64)
    return np.where(
        values > 0, _ZERO + 1 + _REACH + exponents, np.where(values < 0, _ZERO - 1 - _REACH - exponents, _ZERO)
    )


def _middle(bucket: int) -> float:
    """Return a value in the middle of a bucket."""
    if bucket == _ZERO:
        return 0.0
    exponent = abs(bucket - _ZERO) - 1 - _REACH
    return float(np.sign(bucket - _ZERO) * 2 ** ((exponent + 0.5) / PER_DOUBLING))


def some(array: Array) -> Array:
    """Return the values of a tensor, evenly chosen where there are many."""
    flat = array.ravel()
    most = _MAX_VALUES * max(1, len(array) if array.ndim else 1)
    return flat[:: -(-flat.size // most)] if flat.size > most else flat
