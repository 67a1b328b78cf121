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

    def __init__(
        self, session: onnxruntime.InferenceSession, *, inputs: Collection[str], outputs: Collection[str]
    ) -> None:
        """Wrap a session.

        :param inputs: those of BF16
        :param outputs: those of BF16; with one, no input can be of text, of which ONNX Runtime makes no value
        """
        self._session, self._inputs, self._has_outputs = session, frozenset(inputs), bool(outputs)

    def run(self, names: list[str], inputs: dict[str, Any], /) -> list[Array]:
        """Return the named outputs, in their order."""
        given = {name: _value(array) if name in self._inputs else array for name, array in inputs.items()}
        if not self._has_outputs:
            found: list[Array] = self._session.run(names, given)
            return found
        values = {name: each if name in self._inputs else _plain_value(each) for name, each in given.items()}
        return [_array(each) for each in self._session.run_with_ort_values(names, values)]


def _value(array: Array) -> onnxruntime.OrtValue:
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits(array), _ONNX_BFLOAT16)


def _plain_value(array: Array) -> onnxruntime.OrtValue:
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.asarray(array, order="C"))


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
