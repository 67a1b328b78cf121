"""Runs a program with inputs or outputs of BF16, which ONNX Runtime's Python gets and gives as memory only."""

import ctypes
from collections.abc import Collection
from typing import Any

import numpy as np
import onnxruntime

from modelway.server.core.bfloat16 import Array, bits, values

#: ONNX's number of the type
_ONNX_BFLOAT16 = 16


class Bfloat16Session:
    """A session of ONNX Runtime with inputs or outputs of BF16, which gets and gives values of FP32."""

    def __init__(self, session: onnxruntime.InferenceSession, *, inputs: Collection[str]) -> None:
        """Wrap a session.

        :param inputs: those of BF16
        """
        self._session, self._inputs = session, frozenset(inputs)

    def run(self, names: list[str], inputs: dict[str, Any], /) -> list[Array]:
        """Return the named outputs, in their order."""
        given = {name: self._given(name, array) for name, array in inputs.items()}
        return [_array(found) for found in self._session.run_with_ort_values(names, given)]

    def _given(self, name: str, array: Array) -> onnxruntime.OrtValue:
        if name in self._inputs:
            return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits(array), _ONNX_BFLOAT16)
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))


def _array(found: onnxruntime.OrtValue) -> Array:
    if found.data_type() != "tensor(bfloat16)":
        array: Array = found.numpy()
        return array
    shape = tuple(found.shape())
    if 0 in shape:
        return np.empty(shape, dtype=np.float32)
    # The value's own memory, which is gone with it: ``values`` makes a copy.
    pointer = ctypes.cast(found.data_ptr(), ctypes.POINTER(ctypes.c_uint16))
    return values(np.ctypeslib.as_array(pointer, shape=shape or (1,))).reshape(shape)
