"""The weights of an ONNX program as safetensors beside it, and a description of the tensors."""

from __future__ import annotations

import math
from collections.abc import Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.job.durable import write_durably
from modelway.job.events import json_number
from modelway.job.freezing.program import strip_sources
from modelway.job.freezing.shards import write_shards
from modelway.job.freezing.tensor_file import Later, has_type

if TYPE_CHECKING:
    import numpy
    import onnx
    import onnx_ir

#: tensors of fewer bytes stay inside the program
WEIGHT_BYTES = 1024
#: how many numbers of a tensor are summed at a time: as many as fit into a processor's own cache
BLOCK = 1 << 16
PROGRAM = "model.onnx"


def split_weights(
    program: onnx_ir.Model, folder: Path, *, learned: set[str]
) -> tuple[onnx.ModelProto, list[dict[str, Any]]]:
    """Write the weights' files and, pointing into them, ``model.onnx``; return the program and what its tensors are.

    One tensor at a time is copied, and the returned program contains none of the large ones.

    :param learned: the module's own tensors, of which small ones stay in the program and are described too
    """
    import onnx_ir

    weights = dict(program.graph.initializers)
    large: dict[str, Later] = {}
    described: dict[str, dict[str, Any]] = {}
    for name, value in weights.items():
        tensor = value.const_value
        assert tensor is not None
        # Text and numbers of 4 bits stay in the program.
        if not has_type(kind := tensor.dtype.numpy().name):
            continue
        if tensor.nbytes >= WEIGHT_BYTES:
            large[name] = Later(dtype=kind, shape=tuple(tensor.shape.numpy()), read=tensor.numpy)
        if name in large or name in learned:
            array = tensor.numpy()
            described[name] = {"name": name, "shape": list(array.shape), "dtype": str(array.dtype), **summary(array)}
            del array
    places = write_shards(folder, large)
    for name in described:
        described[name]["file"] = f"model/{places[name].file if name in places else PROGRAM}"
    for name, place in places.items():
        tensor = weights[name].const_value
        assert tensor is not None
        assert isinstance(tensor.shape, onnx_ir.Shape)
        weights[name].const_value = onnx_ir.ExternalTensor(
            place.file, place.offset, place.length, tensor.dtype, shape=onnx_ir.Shape(tensor.shape.numpy()), name=name
        )
    _load_other_tensors(program, weights.keys() - large)
    proto: onnx.ModelProto = onnx_ir.serde.serialize_model(program)
    strip_sources(proto)
    write_durably(folder / PROGRAM, proto.SerializeToString(deterministic=True))
    return proto, [described[name] for name in sorted(described)]


def _load_other_tensors(program: onnx_ir.Model, small: Set[str]) -> None:
    """Read what stays in the program from the files that a given program has it in: they are not beside this one.

    :param small: weights of the main graph that stay; all of branches, loops and attributes do
    """
    import onnx_ir

    for graph in program.graphs():
        for name in small if graph is program.graph else graph.initializers.keys():
            value = graph.initializers[name]
            if isinstance(value.const_value, onnx_ir.ExternalTensor):
                value.const_value = _in_memory(value.const_value)
        for node in graph:
            for name, attribute in list(node.attributes.items()):
                if isinstance(attribute.value, onnx_ir.ExternalTensor):
                    node.attributes[name] = onnx_ir.AttrTensor(name, _in_memory(attribute.value))


def _in_memory(tensor: onnx_ir.ExternalTensor) -> onnx_ir.TensorProtocol:
    import onnx_ir

    return onnx_ir.Tensor(tensor.numpy().copy(), name=tensor.name, dtype=tensor.dtype)


def summary(array: numpy.ndarray[Any, Any]) -> dict[str, Any]:
    """Return count, Euclidean norm, mean, (population) deviation, least and greatest value of a tensor.

    To nine digits: the order of additions changes the last ones, and equal tensors are to yield equal bytes.
    """
    import numpy

    flat = array.reshape(-1)
    if not flat.size:
        return {"count": 0}

    with numpy.errstate(all="ignore"):
        blocks = [_of_block(flat[begin : begin + BLOCK]) for begin in range(0, flat.size, BLOCK)]
        sizes, sums, spreads, lows, highs = (numpy.array(column, numpy.float64) for column in zip(*blocks, strict=True))
        mean = _sum(sums) / flat.size
        # Deviations from the mean of a block become those from the mean of all.
        spread = _sum(spreads + sizes * (sums / sizes - mean) ** 2)
        squares = spread + flat.size * mean**2
        if not math.isfinite(squares):
            squares = _sum(
                (flat[at : at + BLOCK].astype(numpy.float64) ** 2).sum() for at in range(0, flat.size, BLOCK)
            )
        low, high = float(lows.min()), float(highs.max())
    numbers = {"norm": math.sqrt(squares), "mean": mean, "deviation": math.sqrt(spread / flat.size)}
    numbers = {**numbers, "min": low, "max": high}
    return {"count": int(flat.size), **{name: json_number(float(f"{value:.9g}")) for name, value in numbers.items()}}


def _of_block(block: numpy.ndarray[Any, Any]) -> tuple[float, ...]:
    """Return size, sum, squared deviations from the mean, least and greatest value; the tensor is read but once."""
    import numpy

    wide = block.astype(numpy.float64)
    low, high, total = wide.min(), wide.max(), wide.sum()
    wide -= total / wide.size
    wide *= wide
    return float(wide.size), float(total), float(wide.sum()), float(low), float(high)


def _sum(values: Any) -> float:
    numbers = [float(value) for value in values]
    # math.fsum refuses to add infinities of both signs.
    return math.fsum(numbers) if all(map(math.isfinite, numbers)) else sum(numbers)
