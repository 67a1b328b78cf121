"""The model itself: ONNX Runtime over ``model/model.onnx``, with its weights beside it as external data."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from modelway.server.refusal import CannotServe, Refusal
from modelway.server.signature import Signature, TensorSpec, read_signature
from modelway.server.tensors import Array

#: ONNX Runtime's word for each datatype
_ONNX_TYPES = {
    "tensor(bool)": "BOOL",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
    **{f"tensor({kind}int{bits})": f"{kind.upper()}INT{bits}" for kind in ("", "u") for bits in (8, 16, 32, 64)},
}


class OnnxModel:
    """A loaded model; one call at a time."""

    def __init__(self, session: onnxruntime.InferenceSession, signature: Signature) -> None:
        """Keep a session whose inputs and outputs are the signature's (see :func:`load_model`)."""
        self._session = session
        self.signature = signature
        self._outputs = [spec.name for spec in signature.outputs]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return every output for ``inputs``, by name.

        :raises Refusal: 400 when the model refuses the shapes, 500 when it fails
        """
        try:
            arrays = self._session.run(self._outputs, dict(inputs))
        except InvalidArgument as error:
            raise Refusal(400, f"the model refused the inputs: {_line(error)}") from error
        except Exception as error:
            raise Refusal(500, f"the model failed: {_line(error)}") from error
        return dict(zip(self._outputs, arrays, strict=True))

    def warm_up(self) -> None:
        """Run once on zeros, so that the first request does not pay for allocations.

        :raises Refusal: when the model does not take zeros of its smallest shape
        """
        self.run({spec.name: _zeros(spec) for spec in self.signature.inputs})


def load_model(model_dir: Path, *, threads: int) -> OnnxModel:
    """Load the frozen model in ``model_dir`` (``model/model.onnx`` and ``outputs/model.yml``).

    :raises CannotServe: when a file is missing or broken, or the two disagree
    """
    signature = read_signature(model_dir / "outputs" / "model.yml")
    path = model_dir / "model" / "model.onnx"
    if not path.is_file():
        raise CannotServe(f"{path}: there is no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # 4 is fatal: what goes wrong reaches the log once, as our own line
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CannotServe(f"{path}: ONNX Runtime cannot load it: {_line(error)}") from error
    _compare(path, "inputs", signature.inputs, session.get_inputs())
    _compare(path, "outputs", signature.outputs, session.get_outputs())
    return OnnxModel(session, signature)


def _compare(path: Path, kind: str, specs: tuple[TensorSpec, ...], nodes: list[onnxruntime.NodeArg]) -> None:
    said = {spec.name: spec.datatype for spec in specs}
    found = {node.name: _ONNX_TYPES.get(node.type, node.type) for node in nodes}
    if said != found:
        raise CannotServe(f"{path}: has the {kind} {found}, outputs/model.yml says {said}")


def _zeros(spec: TensorSpec) -> Array:
    shape = [1 if length == -1 else length for length in spec.shape]
    return np.full(shape, "", dtype=object) if spec.datatype == "BYTES" else np.zeros(shape, dtype=spec.dtype)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
