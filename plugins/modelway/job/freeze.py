"""Freeze a torch module: an ONNX program, its weights as safetensors beside it, and golden inputs and outputs.

The program's external data points into the safetensors file (ONNX external data is a file name, an offset and a
length), so there is one copy of the weights and a new version with an old backbone shares its bytes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.job.batches import graph_batches
from modelway.job.evidence import write_evidence
from modelway.job.exported import Exported
from modelway.job.program import export_program
from modelway.job.rows import RealRows
from modelway.job.weights import split_weights

if TYPE_CHECKING:
    import onnx
    import torch

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


def freeze(*, exported: Exported, name: str, seed: int, folder: Path, rows: RealRows | None = None) -> None:
    """Write ``model/``, ``golden/`` and ``outputs/`` of the archive into ``folder``.

    :param exported: the model with the checkpoint's weights, which is put into eval mode, and example inputs: a tensor,
        a tuple of tensors or a mapping from ``forward``'s argument names to tensors; the first dimension of each is
        the batch and becomes dynamic
    :raises ValueError: the inputs are not such tensors
    """
    import torch

    module = exported.module
    torch.manual_seed(seed)
    module.eval()
    examples = _named_inputs(module, exported.inputs)
    # Exporting with a batch of 1 would bake the 1 into the program.
    inputs = {argument: batch_of(tensor, 2) for argument, tensor in examples.items()}
    for part in ("model", "golden", "outputs"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    program = export_program(module, inputs)
    tensors = split_weights(program, folder / "model", learned=set(module.state_dict()))
    joins = write_evidence(
        exported=exported,
        examples=examples,
        output_names=[value.name for value in program.graph.output],
        graph=graph_batches(program),
        rows=rows,
        folder=folder,
    )
    (folder / "outputs" / "model.yml").write_text(
        json.dumps(_description(name, module, program, joins, tensors), indent=1, sort_keys=True, allow_nan=False)
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
    return dict(example)


def batch_of(tensor: "torch.Tensor", size: int) -> "torch.Tensor":
    """Return the first ``size`` rows of a tensor, repeated where it has fewer."""
    repeats = -(-size // len(tensor))
    return tensor.detach().repeat(repeats, *[1] * (tensor.ndim - 1))[:size].contiguous()


def _description(
    name: str,
    module: "torch.nn.Module",
    program: "onnx.ModelProto",
    joins: tuple[bool, str],
    tensors: list[dict[str, Any]],
) -> dict[str, Any]:
    from onnx.helper import tensor_dtype_to_np_dtype

    def signature(values: Any) -> list[dict[str, Any]]:
        types = [(value.name, value.type.tensor_type) for value in values]
        return [
            {
                "name": key,
                "datatype": DATATYPES[str(tensor_dtype_to_np_dtype(kind.elem_type))],
                "shape": [-1 if each.dim_param else each.dim_value for each in kind.shape.dim],
            }
            for key, kind in types
        ]

    layers = [
        {"name": path, "type": type(part).__name__, "parameters": sum(each.numel() for each in part.parameters())}
        for path, part in module.named_modules()
        if path
    ]
    return {
        "name": name,
        "platform": "onnxruntime_onnx",
        "inputs": signature(program.graph.input),
        "outputs": signature(program.graph.output),
        "batches": joins[0],
        "batches_reason": joins[1],
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "tensors": tensors,
        "layers": layers,
        "operators": sorted({node.op_type for node in program.graph.node}),
    }
