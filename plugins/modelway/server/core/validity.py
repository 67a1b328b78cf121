"""Answers that are no valid output of the model: a number that is not finite, or another type or shape than it names.

They are counted and sent as they are: a rollout compares how often two versions give them.
"""

from collections.abc import Callable, Iterable

import numpy as np

from modelway.server.core.signature import TensorSpec
from modelway.server.core.tensors import Array


class Validity:
    """Looks at the outputs of each answer once."""

    def __init__(self, count: Callable[[], None]) -> None:
        """Call ``count`` for each answer with an invalid output, on the thread that encodes the answer."""
        self._count = count

    def check(self, outputs: Iterable[tuple[TensorSpec, Array]]) -> None:
        """Count an answer where one of its outputs is invalid."""
        for spec, array in outputs:
            if not is_valid(spec, array):
                self._count()
                return


def is_valid(spec: TensorSpec, array: Array) -> bool:
    """Return whether an array is what the signature names, and all of its numbers are finite."""
    if len(array.shape) != len(spec.shape):
        return False
    for want, got in zip(spec.shape, array.shape, strict=True):
        if want not in (got, -1):
            return False
    kind = array.dtype.kind
    if spec.dtype.kind == "O":
        return kind in "OUS"
    # Of a few numbers, finding a byte takes a fifth of the time of all().
    return array.dtype == spec.dtype and (kind != "f" or b"\0" not in np.isfinite(array).tobytes())
