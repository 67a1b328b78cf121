"""The rows of calls that the server counts, not more than so many a second, off the event loop."""

import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from modelway.server.core.signature import Signature
from modelway.server.core.tensors import Array
from modelway.sketches import Counts, some

#: rows of one call that are counted
_ROWS_OF_CALL = 16

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
        self._counts = Counts(inputs=signature.inputs, outputs=signature.outputs)

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
    return {name: some(array[:_ROWS_OF_CALL] if array.ndim else array[None]).copy() for name, array in arrays.items()}


def _rows(arrays: Mapping[str, Array]) -> int:
    return max((len(array) if array.ndim else 1 for array in arrays.values()), default=0)
