"""The model as every peer runs it: ONNX Runtime with one thread."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime

_DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


def load(model: str) -> Callable[[Any], Any]:
    """Return what gives the scores of rows: of the model's only input, to its only output."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = os.path.join(model, "model", "model.onnx")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    dtype = _DTYPES[given.type]
    return lambda rows: session.run(None, {given.name: np.asarray(rows, dtype=dtype)})[0]
