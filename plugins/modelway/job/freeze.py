"""Freeze a torch module: an ONNX program, its weights as safetensors beside it, and golden inputs and outputs.

The program's external data points into the safetensors file (ONNX external data is a file name, an offset and a
length), so there is one copy of the weights and a new version with an old backbone shares its bytes.
Format of safetensors: 8 bytes little-endian header length, JSON header, raw tensors.
"""

import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.job.events import json_number

if TYPE_CHECKING:
    import numpy
    import onnx
    import torch

#: batch sizes at which the frozen model must agree with the checkpoint
GOLDEN_BATCHES = (1, 2, 7, 32)
#: tensors of fewer bytes stay inside the program
WEIGHT_BYTES = 1024
#: numbers of a tensor that are summed at a time
BLOCK = 1 << 20
#: names of the Open Inference Protocol's datatypes, by numpy's
DATATYPES = {
    "float32": "FP32",
    "float64": "FP64",
    "float16": "FP16",
    "int64": "INT64",
    "int32": "INT32",
    "int16": "INT16",
    "int8": "INT8",
    "uint64": "UINT64",
    "uint32": "UINT32",
    "uint16": "UINT16",
    "uint8": "UINT8",
    "bool": "BOOL",
}


def freeze(*, module: "torch.nn.Module", example_inputs: Any, name: str, seed: int, folder: Path) -> None:
    """Write ``model/``, ``golden/`` and ``outputs/`` of the archive into ``folder``.

    :param module: the model with the checkpoint's weights; it is put into eval mode
    :param example_inputs: a tensor, a tuple of tensors or a mapping from ``forward``'s argument names to tensors;
        the first dimension of each is the batch and becomes dynamic
    :raises TypeError: the module is none of torch's
    :raises ValueError: the inputs are not such tensors
    """
    import torch

    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"export must give a torch.nn.Module first, got {type(module).__name__}")
    torch.manual_seed(seed)
    module.eval()
    inputs = _named_inputs(module, example_inputs)
    for part in ("model", "golden", "outputs"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    program = _export(module, inputs)
    tensors = _split_weights(program, folder / "model", learned=set(module.state_dict()))
    golden = _write_golden(module, inputs, program, folder / "golden")
    (folder / "outputs" / "model.yml").write_text(
        json.dumps(_description(name, module, program, golden, tensors), indent=1, sort_keys=True, allow_nan=False)
    )
    versions = {opset.domain or "ai.onnx": opset.version for opset in program.opset_import}
    (folder / "outputs" / "graph_version.txt").write_text(
        f"onnx ir {program.ir_version} opset {versions['ai.onnx']} torch {torch.__version__}\n"
    )


def _named_inputs(module: "torch.nn.Module", example: Any) -> dict[str, "torch.Tensor"]:
    """Return the example inputs by the name of ``forward``'s argument, each with a batch of 2."""
    import inspect

    import torch

    if isinstance(example, torch.Tensor):
        example = (example,)
    arguments = list(inspect.signature(module.forward).parameters)
    if isinstance(example, (tuple, list)) and len(example) <= len(arguments):
        example = dict(zip(arguments, example, strict=False))
    if not isinstance(example, Mapping) or not example or not all(isinstance(argument, str) for argument in example):
        raise ValueError(
            f"export: the example inputs must be tensors by the names of forward's arguments ({', '.join(arguments)}), "
            f"got {type(example).__name__} of {len(example) if hasattr(example, '__len__') else 1}"
        )
    for argument, tensor in example.items():
        if not isinstance(tensor, torch.Tensor) or tensor.ndim < 1 or not len(tensor):
            raise ValueError(f"export: example input '{argument}' must be a tensor with a batch dimension first")
    # Exporting with a batch of 1 would bake the 1 into the program.
    return {argument: _batch(tensor, 2) for argument, tensor in example.items()}


def _batch(tensor: "torch.Tensor", size: int) -> "torch.Tensor":
    repeats = -(-size // len(tensor))
    return tensor.detach().repeat(repeats, *[1] * (tensor.ndim - 1))[:size].contiguous()


def _export(module: "torch.nn.Module", inputs: dict[str, "torch.Tensor"]) -> "onnx.ModelProto":
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    exported = torch.onnx.export(
        module,
        kwargs=inputs,
        dynamo=True,
        dynamic_shapes={name: {0: torch.export.Dim("batch", min=1)} for name in inputs},
        external_data=False,
        verbose=False,
    )
    assert exported is not None
    program: onnx.ModelProto = exported.model_proto
    _strip_sources(program)
    return program


def _strip_sources(program: "onnx.ModelProto") -> None:
    """Take out stack traces and source paths: they leak, and make the bytes depend on the folder exported from."""
    program.doc_string = ""
    del program.metadata_props[:]
    graphs: list[Any] = [program.graph, *program.functions]
    for graph in graphs:
        graph.doc_string = ""
        del graph.metadata_props[:]
        for value in [*getattr(graph, "value_info", ()), *getattr(graph, "initializer", ())]:
            value.doc_string = ""
            del value.metadata_props[:]
        for node in graph.node:
            node.doc_string = ""
            del node.metadata_props[:]
            graphs += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    for value in [*program.graph.input, *program.graph.output]:
        del value.metadata_props[:]


def _split_weights(program: "onnx.ModelProto", folder: Path, *, learned: set[str]) -> list[dict[str, Any]]:
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


def _write_golden(
    module: "torch.nn.Module", inputs: dict[str, "torch.Tensor"], program: "onnx.ModelProto", folder: Path
) -> dict[str, dict[str, "numpy.ndarray[Any, Any]"]]:
    """Write seeded synthetic inputs and what the checkpoint answers to them; return those of the largest batch."""
    import torch
    from safetensors.numpy import save

    output_names = [value.name for value in program.graph.output]
    all_inputs, all_outputs = {}, {}
    shown: dict[str, dict[str, numpy.ndarray[Any, Any]]] = {}
    for size in GOLDEN_BATCHES:
        batch = {name: _synthetic(tensor, size) for name, tensor in inputs.items()}
        with torch.inference_mode():
            answer = module(**batch)
        answers = list(answer.values()) if isinstance(answer, Mapping) else answer
        answers = answers if isinstance(answers, (tuple, list)) else [answers]
        shown = {
            "inputs": {name: tensor.numpy() for name, tensor in batch.items()},
            "outputs": {name: tensor.numpy() for name, tensor in zip(output_names, answers, strict=True)},
        }
        all_inputs.update({f"{size}/{name}": array for name, array in shown["inputs"].items()})
        all_outputs.update({f"{size}/{name}": array for name, array in shown["outputs"].items()})
    write_durably(folder / "inputs.safetensors", save(all_inputs))
    write_durably(folder / "outputs.safetensors", save(all_outputs))
    return shown


def _synthetic(example: "torch.Tensor", size: int) -> "torch.Tensor":
    """Return a batch like the example: its numbers shuffled and, where they are real, blurred; never a training row."""
    import torch

    batch = _batch(example, size)
    shuffled = batch.flatten()[torch.randperm(batch.numel())].reshape(batch.shape).contiguous()
    return shuffled + 0.1 * torch.randn(shuffled.shape, dtype=shuffled.dtype) if batch.is_floating_point() else shuffled


def _description(
    name: str,
    module: "torch.nn.Module",
    program: "onnx.ModelProto",
    golden: dict[str, dict[str, "numpy.ndarray[Any, Any]"]],
    tensors: list[dict[str, Any]],
) -> dict[str, Any]:
    def signature(side: str) -> list[dict[str, Any]]:
        return [
            {"name": key, "datatype": DATATYPES[str(array.dtype)], "shape": [-1, *array.shape[1:]]}
            for key, array in golden[side].items()
        ]

    layers = [
        {"name": path, "type": type(part).__name__, "parameters": sum(each.numel() for each in part.parameters())}
        for path, part in module.named_modules()
        if path
    ]
    return {
        "name": name,
        "platform": "onnxruntime_onnx",
        "inputs": signature("inputs"),
        "outputs": signature("outputs"),
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "tensors": tensors,
        "layers": layers,
        "operators": sorted({node.op_type for node in program.graph.node}),
    }


def write_durably(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, world-readable, and sync it."""
    beside = path.with_name(f".{path.name}.part")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.chmod(0o644)
    beside.replace(path)
