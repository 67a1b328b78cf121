"""The rows of calls that the server counts, all of few and some of many, off the event loop."""

import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from modelway.server.core.signature import Signature, TensorSpec
from modelway.server.core.tensors import Array
from modelway.sketches import MAX_FEATURES, MAX_VALUES, Counts, short_text, some

#: rows of one call that are counted
_ROWS_OF_CALL = 16
#: rows that wait until they are counted together, fewer where their values are more than so many bytes: each time costs
#: as much as counting a hundred rows
_TOGETHER, _FEW_TOGETHER, _BYTES_TOGETHER = 512, 64, 4 << 20
#: the bytes that are expected of a text
_TEXT_BYTES = 64
#: the most rows of a burst, in those of a second, and which part of those of a second a steady load gets: more rows
#: would say no more beside the 1,000 of a reference, and would cost each request more than a hundredth of its CPU
_BURST, _STEADY = 12, 1 / 600

_Item = TypeVar("_Item")


class Sketches:
    """Counts rows of calls, not more than so many a second; :meth:`fold` does the work, off the event loop."""

    def __init__(self, signature: Signature, *, rows_per_second: int) -> None:
        """Start with nothing.

        :param rows_per_second: 0 counts nothing at all; a burst has twelve times as many, and then a minute a tenth
        """
        self._limit = self._room = rows_per_second
        self._credit: float = _BURST * rows_per_second
        self._together = _rows_together(signature)
        self._since = time.time()
        self._lock = threading.Lock()
        self._pending_rows = self._this_second = 0
        self._seen = self._counted = 0
        #: of each call that waits
        self._rows: list[int] = []
        self._inputs, self._outputs = _waiting(signature.inputs), _waiting(signature.outputs)
        self._counts = Counts(inputs=signature.inputs, outputs=signature.outputs)

    @property
    def waits(self) -> bool:
        """Whether there is enough to fold; what is less waits for more, or for :meth:`document`."""
        return self._pending_rows + self._this_second >= self._together

    def begin_second(self) -> None:
        """Count rows again, as many as a second may have and as the burst has left."""
        credit = self._credit - self._this_second + _STEADY * self._limit
        self._credit = min(credit, _BURST * self._limit)
        self._room = int(min(self._limit, self._credit))
        self._pending_rows += self._this_second
        self._this_second = 0

    def add(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], rows: int) -> None:
        """Keep some rows of a call until the next :meth:`fold`."""
        self._seen += rows
        if self._this_second >= self._room:
            return
        self._this_second += rows if rows < _ROWS_OF_CALL else _ROWS_OF_CALL
        most = 0
        for name, array in inputs.items():
            kept = self._inputs[name].add(array)
            if kept > most:
                most = kept
        for name, array in outputs.items():
            self._outputs[name].add(array)
        self._rows.append(most)

    def fold(self) -> None:
        """Count what is kept."""
        with self._lock:
            self._pending_rows = -self._this_second
            self._counted += sum(_take(self._rows))
            self._counts.add(_taken(self._inputs), _taken(self._outputs))

    def document(self) -> dict[str, Any]:
        """Return all counts; ``rows`` were counted of the ``rows_seen``."""
        self.fold()
        with self._lock:
            return {
                "since": self._since,
                "rows_seen": self._seen,
                "rows": self._counted,
                **self._counts.documents(),
            }


class _Waiting:
    """The first rows of calls of one tensor, copied: a view would keep the whole request, and a text all of itself.

    Short rows of the tensor's type are bytes: an array of each, and joining arrays, takes several times as long.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._plain = None if dtype.hasobject else dtype
        self._short: list[bytes] = []
        self._arrays: list[Array] = []

    def add(self, array: Array) -> int:
        """Keep the first rows; return how many."""
        rows = len(array) if array.ndim else 1
        if rows > _ROWS_OF_CALL:
            array, rows = array[:_ROWS_OF_CALL], _ROWS_OF_CALL
        if self._plain is None:
            self._arrays.append(np.array([short_text(text) for text in some(array)], dtype=object))
        elif array.size > MAX_FEATURES:
            self._arrays.append(some(array).copy())
        elif array.dtype is self._plain:
            self._short.append(array.tobytes())
        else:
            self._arrays.append(array.flatten())
        return rows

    def take(self) -> list[Array]:
        """Return what waits, as flat arrays."""
        arrays, short = _take(self._arrays), _take(self._short)
        return [*arrays, np.frombuffer(b"".join(short), self._dtype)] if short else arrays


def _rows_together(signature: Signature) -> int:
    """Return how many rows may wait."""
    row = 0
    for spec in (*signature.inputs, *signature.outputs):
        lengths = spec.shape[1:]
        width = MAX_VALUES if -1 in lengths else min(math.prod(lengths), MAX_VALUES)
        row += width * (_TEXT_BYTES if spec.dtype.hasobject else spec.dtype.itemsize)
    return max(_FEW_TOGETHER, min(_TOGETHER, _BYTES_TOGETHER // max(1, row)))


def _take(waiting: list[_Item]) -> list[_Item]:
    """Empty a list; what another thread appends meanwhile stays in it."""
    taken = waiting[:]
    del waiting[: len(taken)]
    return taken


def _waiting(specs: Sequence[TensorSpec]) -> dict[str, _Waiting]:
    return {spec.name: _Waiting(spec.dtype) for spec in specs}


def _taken(waiting: Mapping[str, _Waiting]) -> dict[str, list[Array]]:
    return {name: arrays for name, each in waiting.items() if (arrays := each.take())}
