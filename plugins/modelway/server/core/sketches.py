"""How the values of a model's inputs and outputs are distributed, in counts of a fixed size, for a later comparison.

A number x falls into the bucket of its sign and ``floor(8 * log2(|x|))``, which is 9 % wide, so that a quantile is off
by half of that at most. The buckets are the same everywhere: counts of several servers, hours or versions add up.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from modelway.server.core.signature import Signature, TensorSpec
from modelway.server.core.tensors import Array

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
#: different strings of a feature that are counted, and characters of each; the rest counts as ""
_MAX_STRINGS, _MAX_STRING = 64, 64
#: rows of one call that are counted
_ROWS_OF_CALL = 16
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


#: arrays of several calls, by name
_Arrays = dict[str, list[Array]]


class Sketches:
    """Counts rows of calls, not more than so many a second; :meth:`fold` does the work, off the event loop."""

    def __init__(self, signature: Signature, *, rows_per_second: int) -> None:
        """Start with nothing; 0 ``rows_per_second`` counts nothing at all."""
        self._limit = rows_per_second
        self._since = time.time()
        self._lock = threading.Lock()
        self._pending: deque[tuple[int, Mapping[str, Array], Mapping[str, Array]]] = deque()
        self._pending_rows = 0
        self._seen = self._counted = 0
        self._inputs, self._outputs = _sketches(signature.inputs), _sketches(signature.outputs)

    @property
    def waits(self) -> bool:
        """Whether there is something to fold."""
        return bool(self._pending)

    def add(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], rows: int) -> None:
        """Keep some rows of a call until the next :meth:`fold`."""
        self._seen += rows
        if self._pending_rows >= self._limit:
            return
        self._pending_rows += min(rows, _ROWS_OF_CALL)
        # copies: a view would keep the whole request
        self._pending.append((min(_rows(inputs), _ROWS_OF_CALL), _first(inputs), _first(outputs)))

    def fold(self) -> None:
        """Count what is kept."""
        with self._lock:
            self._pending_rows = 0
            sides: tuple[_Arrays, _Arrays] = ({}, {})
            while self._pending:
                counted, *calls = self._pending.popleft()
                self._counted += counted
                for side, arrays in zip(sides, calls, strict=True):
                    for name, array in arrays.items():
                        side.setdefault(name, []).append(array)
            # the rows of all calls together, which takes a tenth of the time
            for sketches, side in zip((self._inputs, self._outputs), sides, strict=True):
                for name, several in side.items():
                    sketches[name].add(several)

    def document(self) -> dict[str, Any]:
        """Return all counts; ``rows`` were counted of the ``rows_seen``."""
        self.fold()
        with self._lock:
            return {
                "since": self._since,
                "rows_seen": self._seen,
                "rows": self._counted,
                "buckets_per_doubling": PER_DOUBLING,
                "inputs": [each for sketch in self._inputs.values() for each in sketch.documents()],
                "outputs": [each for sketch in self._outputs.values() for each in sketch.documents()],
            }


class _Numbers:
    """Counts of one tensor of numbers: a row of buckets for each feature."""

    def __init__(self, spec: TensorSpec, most: int) -> None:
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
        parts = [array.reshape(shape) if self._each else _some(array)[:, None] for array in arrays]
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

    def __init__(self, spec: TensorSpec) -> None:
        self._name = spec.name
        self._counts: Counter[str] = Counter()

    def add(self, arrays: Sequence[Array]) -> None:
        for text in chain.from_iterable(map(_some, arrays)):
            short = (text.decode(errors="replace") if isinstance(text, bytes) else str(text))[:_MAX_STRING]
            known = short in self._counts or len(self._counts) < _MAX_STRINGS
            self._counts[short if known else ""] += 1

    def documents(self) -> list[dict[str, Any]]:
        counts = dict(self._counts)
        return [{"name": self._name, "position": [], "count": sum(counts.values()), "strings": counts}]


def _sketches(specs: Sequence[TensorSpec]) -> dict[str, _Numbers | _Strings]:
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


def _some(array: Array) -> Array:
    """Return the values of a tensor, evenly chosen where there are many."""
    flat = array.ravel()
    most = _MAX_VALUES * max(1, len(array) if array.ndim else 1)
    return flat[:: -(-flat.size // most)] if flat.size > most else flat


def _first(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: _some(array[:_ROWS_OF_CALL] if array.ndim else array[None]).copy() for name, array in arrays.items()}


def _rows(arrays: Mapping[str, Array]) -> int:
    return max((len(array) if array.ndim else 1 for array in arrays.values()), default=0)
