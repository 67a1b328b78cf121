"""The predictions of requests that have an id, so that a label that comes later can be compared with one."""

import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from modelway.server.core.samples import Samples
from modelway.server.core.signature import Signature
from modelway.server.core.tensors import Array
from modelway.sketches import best_classes, scores_classes

#: predictions that are retained; the oldest go first
MOST = 4096
#: requests of a second that are retained, and rows of each, and characters of an id
_A_SECOND, _ROWS, _MAX_ID = 50, 16, 200


class Observer(Protocol):
    """What sees requests with their answers."""

    def offer(self, identity: str | None, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """See one; it may be left out."""
        ...


class Predictions:
    """The last predictions: of an output that scores classes the class, else of one with a number a row the number.

    :meth:`fold` does the work, off the event loop. A request with several rows has the ids ``<id>/0``, ``<id>/1``, ….
    """

    def __init__(self, signature: Signature, *, samples: Samples | None = None, retains: bool = True) -> None:
        """Start with none.

        :param retains: False: it stays so
        :param samples: sees all requests, too
        """
        self._samples = samples
        self._output, self._is_class = _predicted(signature) if retains else (None, False)
        self._lock = threading.Lock()
        self._pending: deque[tuple[str, Array]] = deque()
        self._last: deque[tuple[int, float, str, float]] = deque(maxlen=MOST)
        self._number = 0

    @property
    def waits(self) -> bool:
        """Whether there is something to fold."""
        return bool(self._pending)

    def offer(self, identity: str | None, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Keep the answer to a request with an id until the next :meth:`fold`."""
        if self._samples is not None:
            self._samples.offer(identity, inputs, outputs)
        if identity and self._output is not None and len(self._pending) < _A_SECOND and len(identity) <= _MAX_ID:
            array = outputs.get(self._output)
            if array is not None:
                # A copy: a view would keep the answers to all requests of a call.
                self._pending.append((identity, array[:_ROWS].copy()))

    def fold(self) -> None:
        """Note what is kept."""
        with self._lock:
            now = time.time()
            while self._pending:
                identity, array = self._pending.popleft()
                values = best_classes(array) if self._is_class else array.reshape(len(array))
                for row, value in enumerate(values.tolist()):
                    self._number += 1
                    # A class is -1 where a score is not finite; then there is no prediction, only a sequence number.
                    if np.isfinite(value) and not (self._is_class and value < 0):
                        name = identity if len(values) == 1 else f"{identity}/{row}"
                        self._last.append((self._number, now, name, value))

    def documents(self) -> list[list[Any]]:
        """Return number, time, id and prediction of each, the oldest first."""
        self.fold()
        with self._lock:
            return [list(each) for each in self._last]


def _predicted(signature: Signature) -> tuple[str | None, bool]:
    """Return the output that is the prediction, and whether it scores classes."""
    for spec in signature.outputs:
        if scores_classes(spec):
            return spec.name, True
    for spec in signature.outputs:
        if spec.datatype != "BYTES" and spec.shape in ((-1,), (-1, 1)):
            return spec.name, False
    return None, False
