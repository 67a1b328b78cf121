"""The rows of calls that the server counts, not more than so many a second and a minute, off the event loop."""

import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from modelway.server.core.signature import Signature
from modelway.server.core.tensors import Array
from modelway.sketches import MAX_FEATURES, Counts, some

#: rows of one call that are counted
_ROWS_OF_CALL = 16
#: rows that wait until they are counted together: each time costs as much as counting ten rows
_TOGETHER = 64
#: the most rows of a minute, in those of a second: a burst counts, and a steady load costs less
_SECONDS_OF_MINUTE = 12

#: arrays of several calls, by name
_Arrays = dict[str, list[Array]]


class Sketches:
    """Counts rows of calls, not more than so many a second; :meth:`fold` does the work, off the event loop."""

    def __init__(self, signature: Signature, *, rows_per_second: int) -> None:
        """Start with nothing; 0 ``rows_per_second`` counts nothing at all, and a minute has twelve times as many."""
        self._limit = rows_per_second
        self._since = time.time()
        self._lock = threading.Lock()
        self._pending: deque[tuple[int, Mapping[str, Array], Mapping[str, Array]]] = deque()
        self._pending_rows = self._this_second = self._this_minute = self._second = 0
        self._seen = self._counted = 0
        self._counts = Counts(inputs=signature.inputs, outputs=signature.outputs)

    @property
    def waits(self) -> bool:
        """Whether there is enough to fold; what is less waits for more, or for :meth:`document`."""
        return self._pending_rows >= min(self._limit, _TOGETHER) > 0

    def begin_second(self) -> None:
        """Count as many rows again, unless the minute has its number."""
        self._second = (self._second + 1) % 60
        if self._second == 0:
            self._this_minute = 0
        full = self._this_minute >= _SECONDS_OF_MINUTE * self._limit
        self._this_second = self._limit if full else 0

    def add(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], rows: int) -> None:
        """Keep some rows of a call until the next :meth:`fold`."""
        self._seen += rows
        if self._this_second >= self._limit:
            return
        number = min(rows, _ROWS_OF_CALL)
        self._this_second += number
        self._this_minute += number
        self._pending_rows += number
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
            self._counts.add(*sides)

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


def _first(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return copies of the first rows: a view would keep the whole request."""
    return {name: _part(array[:_ROWS_OF_CALL] if array.ndim else array[None]) for name, array in arrays.items()}


def _part(array: Array) -> Array:
    return array.flatten() if array.size <= MAX_FEATURES else some(array).copy()


def _rows(arrays: Mapping[str, Array]) -> int:
    most = 0
    for array in arrays.values():
        most = max(most, len(array) if array.ndim else 1)
    return most
