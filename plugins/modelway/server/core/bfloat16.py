"""BF16, for which numpy has no type: values are FP32 in the server, and BF16 on the wire and in the model.

Each value of BF16 is one of FP32, whose upper half it is.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BF16 = "BF16"
#: bytes of a value on the wire
SIZE = 2
_BITS = np.dtype("<u2")

Array = NDArray[Any]


def rounded(array: Array) -> Array:
    """Return the nearest value of BF16 for each of FP32; one beyond the largest becomes infinite."""
    return values(bits(array))


def bits(array: Array) -> Array:
    """Return values of FP32 as the bits of BF16, rounded to the nearest, of two to the even one."""
    whole = np.asarray(array, dtype=np.float32, order="C").view(np.uint32)
    upper = whole >> 16
    nearest = (whole + (0x7FFF + (upper & 1))) >> 16
    # A number must not become another one's payload, nor infinite.
    return np.asarray(np.where(np.isnan(array), upper | 0x40, nearest), dtype=_BITS)


def values(bits: Array) -> Array:
    """Return the bits of BF16 as values of FP32."""
    # Of a scalar numpy makes a number in between, not an array.
    return np.asarray(bits.astype(np.uint32) << 16, dtype=np.uint32).view(np.float32)
