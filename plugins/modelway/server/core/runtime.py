"""The model itself: ONNX Runtime over ``model/model.onnx``, with its weights beside it as external data.

A model of torch's own operators (``model/program.json``) is run by torch in its place.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime

from modelway.server.core.bfloat16 import BF16
from modelway.server.core.bfloat16_session import Bfloat16Session
from modelway.server.core.refusal import CannotServe, Refusal
from modelway.server.core.signature import Signature, TensorSpec, read_signature
from modelway.server.core.tensors import Array

#: the datatype of each type name of ONNX Runtime
_ONNX_TYPES = {
    "tensor(bool)": "BOOL",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": BF16,
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
    **{f"tensor({kind}int{bits})": f"{kind.upper()}INT{bits}" for kind in ("", "u") for bits in (8, 16, 32, 64)},
}


#: nodes of these types end the whole process where they divide the lowest INT32 or INT64 by -1
#: (ONNX Runtime, x86); their type is field 4 of a node in the file
_DIVISIONS = (b"\x22\x03Div", b"\x22\x03Mod")


class Session(Protocol):
    """What runs a program: a session of ONNX Runtime, or what is called like one."""

    def run(self, names: list[str], inputs: dict[str, Any], /) -> Any:
        """Return the named outputs, in their order."""


class OnnxModel:
    """A loaded model; one call at a time."""

    def __init__(self, session: Session, signature: Signature, *, divides: bool = False) -> None:
        """Wrap a session whose inputs and outputs are the signature's (see :func:`load_model`).

        :param divides: whether the program may divide whole numbers
        """
        self._session = session
        self.signature = signature
        self._outputs = [spec.name for spec in signature.outputs]
        #: the lowest value of each input that must not be divided by -1
        self._lowest = {
            spec.name: np.iinfo(spec.dtype).min
            for spec in signature.inputs
            if divides and spec.datatype in ("INT32", "INT64")
        }
        #: inputs that the model is known to accept, to find out whose fault a failure is
        self._good: Mapping[str, Array] | None = None

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return every output for ``inputs``, by name.

        :raises Refusal: 400 when the model refuses these inputs, 500 when it fails on known good ones too
        """
        for name, lowest in self._lowest.items():
            if inputs[name].size and inputs[name].min() == lowest:
                raise Refusal(400, f"input '{name}': the model divides, so {lowest} must not be among its values")
        try:
            return self._call(inputs)
        except Exception as error:
            # ONNX Runtime has the same error for a division by zero, an index out of range, too large a shape and its
            # own faults; if it still accepts other inputs, these ones are to blame
            if self._works():
                raise Refusal(400, f"the model refused the inputs: {_line(error)}") from error
            raise Refusal(500, f"the model failed: {_line(error)}") from error

    def warm_up(self) -> None:
        """Run once on small inputs, so that the first request does not pay for allocations.

        :raises Refusal: when the model accepts neither zeros nor ones of its smallest shape
        """
        for value in (0, 1):
            inputs = {spec.name: _filled(spec, value) for spec in self.signature.inputs}
            try:
                self._call(inputs)
            except Exception as error:
                failure = error
            else:
                self._good = inputs
                return
        raise Refusal(400, f"the model refused the inputs: {_line(failure)}") from failure

    def _call(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        found = zip(self.signature.outputs, self._session.run(self._outputs, dict(inputs)), strict=True)
        return {spec.name: _in_own_shape(spec, array) for spec, array in found}

    def _works(self) -> bool:
        """Whether the model still accepts what it accepted at the start; True if that is unknown."""
        if self._good is None:
            return True
        try:
            self._call(self._good)
        except Exception:
            return False
        return True


def load_model(model_dir: Path, *, threads: int) -> OnnxModel:
    """Load the frozen model in ``model_dir`` (``model/model.onnx`` and ``outputs/model.yml``).

    :raises CannotServe: when a file is missing or broken, or the two disagree
    """
    signature = read_signature(model_dir / "outputs" / "model.yml")
    halves = [spec.name for spec in (*signature.inputs, *signature.outputs) if spec.is_bfloat16]
    if signature.platform == "torch_export":
        if halves:
            raise CannotServe(f"{model_dir}: '{halves[0]}' is BF16, which is served of ONNX programs only")
        return OnnxModel(_torch_program(model_dir / "model", threads=threads), signature)
    if signature.platform == "files":
        raise CannotServe(
            f"{model_dir}: the model was frozen with format: files, which an image of your own serves (image.base)"
        )
    path = model_dir / "model" / "model.onnx"
    if not path.is_file():
        raise CannotServe(f"{path}: there is no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # the arena never frees the memory of the largest request; without it a call takes as long (docs/serving.md)
    options.enable_cpu_mem_arena = False
    # 4 is fatal: each error is logged once, as our own line
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        advice = f"; '{halves[0]}' is BF16: cast it to FP32 within the program" if halves else ""
        raise CannotServe(f"{path}: ONNX Runtime cannot load it: {_line(error)}{advice}") from error
    _compare(path, "inputs", signature.inputs, session.get_inputs())
    _compare(path, "outputs", signature.outputs, session.get_outputs())
    program = path.read_bytes()
    divides = any(node in program for node in _DIVISIONS)
    runs = _with_halves(path, session, signature) if halves else session
    return OnnxModel(runs, _with_symbols(signature, session), divides=divides)


def _with_halves(path: Path, session: onnxruntime.InferenceSession, signature: Signature) -> Bfloat16Session:
    """Return a session that gets and gives BF16.

    :raises CannotServe: it would give BF16 for text
    """
    inputs = [spec.name for spec in signature.inputs if spec.is_bfloat16]
    outputs = [spec.name for spec in signature.outputs if spec.is_bfloat16]
    texts = [spec.name for spec in signature.inputs if spec.datatype == "BYTES"]
    if texts and outputs:
        raise CannotServe(
            f"{path}: the output '{outputs[0]}' is BF16, which ONNX Runtime does not give beside text, the input "
            f"'{texts[0]}': cast it to FP32 within the program"
        )
    return Bfloat16Session(session, inputs=inputs, outputs=outputs)


def _torch_program(folder: Path, *, threads: int) -> Session:
    """Load a model of torch's own operators, on the GPU where there is one.

    :raises CannotServe: torch is missing, or the program is not whole
    """
    try:
        from modelway.torch_program import TorchProgram, fastest_device

        return TorchProgram(folder, threads=threads, device=fastest_device())
    except ModuleNotFoundError as error:
        raise CannotServe(
            f"{folder}: the model was frozen with format: torch_export, and {error.name} is not installed here; serve "
            "it by an image with torch, or freeze with format: onnx"
        ) from error
    except Exception as error:
        raise CannotServe(f"{folder}: torch cannot load it: {_line(error)}") from error


def _with_symbols(signature: Signature, session: onnxruntime.InferenceSession) -> Signature:
    """Return the signature with the program's names of the inputs' free lengths."""
    shapes = {node.name: node.shape for node in session.get_inputs()}
    inputs = tuple(
        replace(spec, symbols=tuple(each if isinstance(each, str) else None for each in shapes[spec.name]))
        for spec in signature.inputs
    )
    return replace(signature, inputs=inputs)


def _compare(path: Path, kind: str, specs: tuple[TensorSpec, ...], nodes: list[onnxruntime.NodeArg]) -> None:
    said = {spec.name: spec.datatype for spec in specs}
    found = {node.name: _ONNX_TYPES.get(node.type, node.type) for node in nodes}
    if said != found:
        raise CannotServe(f"{path}: has the {kind} {found}, outputs/model.yml says {said}")


def _in_own_shape(spec: TensorSpec, array: Array) -> Array:
    """Return an output without values in its own shape: a reduction along axis -1 of no rows has that of its input."""
    if array.size or spec.shape[:1] != (-1,):
        return array
    fits = array.ndim == len(spec.shape) and all(
        want in (-1, got) for want, got in zip(spec.shape, array.shape, strict=True)
    )
    return array if fits else array.reshape([max(0, length) for length in spec.shape])


def _filled(spec: TensorSpec, value: int) -> Array:
    shape = [1 if length == -1 else length for length in spec.shape]
    return np.full(shape, "" if spec.datatype == "BYTES" else value, dtype=spec.dtype)


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    # what helps a user: the operator and the reason, without the place in ONNX Runtime's source
    found = re.search(r"while running (\w+) node\. .*?Status Message: (?:\S*:\d+ )?(.*)", text)
    return (f"{found[1]}: {found[2]}" if found else text)[:500]
