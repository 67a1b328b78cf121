"""The weights of an ONNX program as safetensors beside it, and what the tensors are.

Format of safetensors: 8 bytes little-endian header length, JSON header, raw tensors.
"""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.job.durable import write_durably
from modelway.job.events import json_number

if TYPE_CHECKING:
    import numpy
    import onnx

#: tensors of fewer bytes stay inside the program
WEIGHT_BYTES = 1024
#: numbers of a tensor that are summed at a time
BLOCK = 1 << 20


def split_weights(program: "onnx.ModelProto", folder: Path, *, learned: set[str]) -> list[dict[str, Any]]:
    """Write ``model.safetensors`` and, pointing into it, ``model.onnx``; return what the tensors are.

    :param learned: the module's own tensors, of which small ones stay in the program and are told too
    """
    from onnx import StringStringEntryProto, TensorProto, numpy_helper
    from safetensors.numpy import save

    weights = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in program.graph.initializer
        if numpy_helper.to_array(tensor).nbytes >= WEIGHT_BYTES
    }
    data = save(weights)
    header_size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + header_size])
    for tensor in program.graph.initializer:
        if tensor.name not in weights:
            continue
        start, end = header[tensor.name]["data_offsets"]
        tensor.ClearField("raw_data")
        for field in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
            tensor.ClearField(field)
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": "model.safetensors", "offset": 8 + header_size + start, "length": end - start}
        tensor.external_data.extend(StringStringEntryProto(key=key, value=str(value)) for key, value in place.items())
    write_durably(folder / "model.safetensors", data)
    write_durably(folder / "model.onnx", program.SerializeToString(deterministic=True))
    small = [each for each in program.graph.initializer if each.name in learned and each.name not in weights]
    told = {**weights, **{tensor.name: numpy_helper.to_array(tensor) for tensor in small}}
    return [
        {
            "name": name,
            "shape": list(array.shape),
            "dtype": str(array.dtype),
            "file": "model/model.safetensors" if name in weights else "model/model.onnx",
            **summary(array),
        }
        for name, array in sorted(told.items())
    ]


def summary(array: "numpy.ndarray[Any, Any]") -> dict[str, Any]:
    """Return count, Euclidean norm, mean, (population) deviation, least and greatest value of a tensor.

    To nine digits: how a machine adds up changes the last ones, and equal tensors are to give equal bytes.
    """
    import numpy

    flat = array.reshape(-1)
    if not flat.size:
        return {"count": 0}

    def wide() -> Any:
        return (flat[begin : begin + BLOCK].astype(numpy.float64) for begin in range(0, flat.size, BLOCK))

    with numpy.errstate(all="ignore"):
        mean = _sum(block.sum() for block in wide()) / flat.size
        squares = _sum((block**2).sum() for block in wide())
        spread = _sum(((block - mean) ** 2).sum() for block in wide())
        low, high = (float(pick([pick(block) for block in wide()])) for pick in (numpy.min, numpy.max))
    numbers = {"norm": math.sqrt(squares), "mean": mean, "deviation": math.sqrt(spread / flat.size)}
    told = {**numbers, "min": low, "max": high}
    return {"count": int(flat.size), **{name: json_number(float(f"{value:.9g}")) for name, value in told.items()}}


def _sum(values: Any) -> float:
    numbers = [float(value) for value in values]
    # math.fsum refuses to add infinities of both signs.
    return math.fsum(numbers) if all(map(math.isfinite, numbers)) else sum(numbers)
