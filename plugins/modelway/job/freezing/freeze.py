"""Freeze a torch module: an ONNX program, its weights as safetensors beside it, and golden inputs and outputs.

The program's external data points into the safetensors file (ONNX external data is a file name, an offset and a
length), so there is one copy of the weights and a new version with an old backbone shares its bytes.
"""

import gc
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.job.freezing.batches import BATCH, graph_batches
from modelway.job.freezing.evidence import write_evidence
from modelway.job.freezing.exported import Exported
from modelway.job.freezing.freezable import answer_names, bare_module, check_other_sizes
from modelway.job.freezing.inputs import named_inputs
from modelway.job.freezing.outputs import DATATYPES, final_names
from modelway.job.freezing.program import export_program
from modelway.job.freezing.rows import RealRows
from modelway.job.freezing.weights import split_weights

if TYPE_CHECKING:
    import onnx
    import torch


@contextmanager
def rare_collections() -> Iterator[None]:
    """Let the garbage collector run rarely: torch's exporter creates a million objects, nearly all of them to last."""
    usual = gc.get_threshold()
    gc.set_threshold(50_000, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


@rare_collections()
def freeze(*, exported: Exported, name: str, seed: int, folder: Path, rows: RealRows | None = None) -> None:
    """Write ``model/``, ``golden/`` and ``outputs/`` of the archive into ``folder``.

    :param exported: the model with the checkpoint's weights, which is put into eval mode, and example inputs: a tensor,
        a tuple of tensors or a mapping from ``forward``'s argument names to tensors; the first dimension of each is
        the batch and becomes dynamic, where the options do not say otherwise
    :param rows: real rows of an evaluation
    :raises ValueError: the inputs are not such tensors, or the module cannot be frozen; the message says why
    """
    import torch

    module = bare_module(exported.module)
    exported = replace(exported, module=module)
    torch.manual_seed(seed)
    inputs = named_inputs(exported)
    outputs = final_names(answer_names(module, inputs), given=exported.output_names, inputs=inputs.names)
    for part in ("model", "golden", "outputs"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    program, tensors = split_weights(
        export_program(module, inputs, outputs=outputs), folder / "model", learned=set(module.state_dict())
    )
    check_other_sizes(module, inputs, program)
    joins = write_evidence(
        exported=exported,
        examples=inputs.examples,
        output_names=outputs,
        graph=graph_batches(program),
        rows=rows,
        # Batches are of several sizes anyway, where all inputs have the batch first.
        smaller={name: each for name, each in inputs.smaller().items() if name != BATCH or exported.unbatched},
        folder=folder,
    )
    (folder / "outputs" / "model.yml").write_text(
        json.dumps(_description(name, module, program, tensors, joins), indent=1, sort_keys=True, allow_nan=False)
    )
    versions = {opset.domain or "ai.onnx": opset.version for opset in program.opset_import}
    (folder / "outputs" / "graph_version.txt").write_text(
        f"onnx ir {program.ir_version} opset {versions['ai.onnx']} torch {torch.__version__}\n"
    )


def signature(values: "Iterable[onnx.ValueInfoProto]") -> list[dict[str, Any]]:
    """Return inputs or outputs as ``outputs/model.yml`` has them: by the program's own dimensions, -1 for any size."""
    import onnx

    return [
        {
            "name": value.name,
            "datatype": DATATYPES[str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))],
            "shape": [
                each.dim_value if each.HasField("dim_value") else -1 for each in value.type.tensor_type.shape.dim
            ],
        }
        for value in values
    ]


def _description(
    name: str,
    module: "torch.nn.Module",
    program: "onnx.ModelProto",
    tensors: list[dict[str, Any]],
    joins: tuple[bool, str],
) -> dict[str, Any]:
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
