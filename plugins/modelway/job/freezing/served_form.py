"""What a model is written as, whatever kind it was: its files are below ``model/``, and this describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from modelway.job.freezing.joining import Arrays
from modelway.job.freezing.outputs import DATATYPES

if TYPE_CHECKING:
    import numpy
    import onnx

#: datatype of text in the Open Inference Protocol
TEXT = "BYTES"
#: which program a version is, by the name that it has in ``outputs/model.yml``
ONNX, TORCH_EXPORT, FILES = "onnxruntime_onnx", "torch_export", "files"


class CheckpointAnswers(Protocol):
    """The checkpoint as a function of arrays, both sides by name."""

    gradients: bool
    """whether it answers with gradients enabled, where torch may use another path"""

    def __call__(self, inputs: Arrays, /) -> Arrays:
        """Return the answers by name."""


class FunctionAnswers:
    """A function of arrays as the checkpoint."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self.gradients = False

    def __call__(self, inputs: Arrays, /) -> Arrays:
        """Return the answers by name."""
        answers: Arrays = self._function(inputs)
        return answers


@dataclass(frozen=True)
class ServedForm:
    """A model as its files below ``model/``, with what describes and verifies them."""

    platform: str
    """``ONNX``, ``TORCH_EXPORT`` or ``FILES``"""
    version: str
    """formats and libraries, a line for ``outputs/graph_version.txt``"""
    inputs: Sequence[Mapping[str, Any]]
    """name, datatype and shape of each input, -1 for any size; ``symbols`` where the program itself has none"""
    outputs: Sequence[Mapping[str, Any]]
    answers: CheckpointAnswers
    examples: Arrays
    """all rows of the example inputs"""
    batched: bool
    """whether whole rows of the examples can be selected"""
    graph: tuple[bool, str]
    """whether the batch comes first everywhere, and why"""
    smaller: Mapping[str, Arrays] = field(default_factory=dict)
    """by dimension beside the batch, the examples without its last position"""
    parameters: int = 0
    tensors: Sequence[Mapping[str, Any]] = ()
    layers: Sequence[Mapping[str, Any]] = ()
    operators: Sequence[str] = ()

    @property
    def output_names(self) -> list[str]:
        """The outputs' names in order."""
        return [str(each["name"]) for each in self.outputs]


def onnx_signature(values: Sequence[onnx.ValueInfoProto]) -> list[dict[str, Any]]:
    """Return inputs or outputs of a program by its own dimensions, -1 for any size."""
    return [
        {
            "name": value.name,
            "datatype": _datatype(value.type.tensor_type.elem_type),
            "shape": [
                each.dim_value if each.HasField("dim_value") else -1 for each in value.type.tensor_type.shape.dim
            ],
        }
        for value in values
    ]


def onnx_version(program: onnx.ModelProto) -> str:
    """Return the versions of a program's format and operators."""
    versions = {opset.domain or "ai.onnx": opset.version for opset in program.opset_import}
    named = [f"opset {versions['ai.onnx']}"] if "ai.onnx" in versions else []
    named += [f"{domain} {version}" for domain, version in sorted(versions.items()) if domain != "ai.onnx"]
    return " ".join([f"onnx ir {program.ir_version}", *named])


def array_signature(arrays: Arrays, *, batched: bool) -> list[dict[str, Any]]:
    """Return arrays as inputs or outputs of their own shapes; where they are batched the first size may be any."""
    return [
        {
            "name": name,
            "datatype": TEXT if array.dtype.kind in "OSU" else DATATYPES[array.dtype.name],
            "shape": [-1 if batched and not place else size for place, size in enumerate(array.shape)],
        }
        for name, array in arrays.items()
    ]


def conformed(answer: Any, like: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
    """Return a checkpoint's answer in the type and number of dimensions of the program's own answer.

    A library answers with float64 where the program computes in float32, or with ``[n]`` where that has ``[n, 1]``.
    """
    import numpy

    array = numpy.asarray(answer)
    if like.dtype.kind in "OSU":
        array = array.astype(str)
    elif array.dtype.kind in "fiub" and (array.dtype.kind == like.dtype.kind or array.dtype.kind in "iub"):
        array = array.astype(like.dtype)
    elif array.dtype.kind == "f" and like.dtype.kind in "iu" and (array == numpy.rint(array)).all():
        # Classes that are written 0.0 and 1.0.
        array = array.astype(like.dtype)
    if array.ndim == 1 and like.ndim == 2 and like.shape[1] == 1:
        return array[:, None]
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 and like.ndim == 1 else array


def _datatype(elem_type: int) -> str:
    import onnx

    if elem_type == onnx.TensorProto.STRING:
        return TEXT
    return DATATYPES[str(onnx.helper.tensor_dtype_to_np_dtype(elem_type))]
