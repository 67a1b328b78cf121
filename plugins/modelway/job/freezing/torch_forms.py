"""A torch module as an ONNX program, or as one of torch's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.job.freezing.batches import BATCH, graph_batches
from modelway.job.freezing.exact_program import export_exactly
from modelway.job.freezing.exported import MODULE, Exported
from modelway.job.freezing.freezable import answer_names, bare_module, check_other_sizes
from modelway.job.freezing.golden import CheckpointModel
from modelway.job.freezing.inputs import Inputs, named_inputs
from modelway.job.freezing.outputs import final_names
from modelway.job.freezing.program import export_program
from modelway.job.freezing.rows import as_array
from modelway.job.freezing.served_form import ONNX, TORCH_EXPORT, ServedForm, onnx_signature, onnx_version
from modelway.job.freezing.weights import split_weights

if TYPE_CHECKING:
    import torch


def write_onnx(exported: Exported, *, seed: int, folder: Path) -> ServedForm:
    """Write ``model.onnx`` and its weights, see :func:`modelway.job.freezing.freeze.freeze`."""
    import torch

    module, inputs, outputs = _named(exported, seed=seed, computed_by_onnx=True)
    program, tensors = split_weights(
        export_program(module, inputs, outputs=outputs), folder, learned=set(module.state_dict())
    )
    check_other_sizes(module, inputs, program)
    return ServedForm(
        platform=ONNX,
        version=f"{onnx_version(program)} torch {torch.__version__}",
        inputs=onnx_signature(program.graph.input),
        outputs=onnx_signature(program.graph.output),
        graph=graph_batches(program),
        tensors=tensors,
        operators=sorted({node.op_type for node in program.graph.node}),
        **_described(module, inputs, outputs, exported),
    )


def write_torch_export(exported: Exported, *, seed: int, folder: Path) -> ServedForm:
    """Write ``program.json`` and its weights: torch's own operators, so that the answers are the checkpoint's."""
    if exported.kind != MODULE:
        raise ValueError(
            f"freeze.format: torch_export is for {MODULE}, export gave {exported.kind}; write format: onnx"
        )
    import torch

    module, inputs, outputs = _named(exported, seed=seed, computed_by_onnx=False)
    exact = export_exactly(module, inputs, outputs=outputs, folder=folder)
    return ServedForm(
        platform=TORCH_EXPORT,
        version=f"torch.export schema {exact.schema} torch {torch.__version__}",
        inputs=exact.inputs,
        outputs=exact.outputs,
        graph=exact.graph,
        tensors=exact.tensors,
        operators=exact.operators,
        **_described(module, inputs, outputs, exported),
    )


def _named(exported: Exported, *, seed: int, computed_by_onnx: bool) -> tuple[torch.nn.Module, Inputs, list[str]]:
    """Return the network to freeze, its inputs, and the names of its outputs."""
    import torch

    module = bare_module(exported.model, computed_by_onnx=computed_by_onnx)
    torch.manual_seed(seed)
    inputs = named_inputs(replace(exported, model=module))
    return module, inputs, final_names(answer_names(module, inputs), given=exported.output_names, inputs=inputs.names)


def _described(module: torch.nn.Module, inputs: Inputs, outputs: list[str], exported: Exported) -> dict[str, Any]:
    """Return what a module's forms have in common."""
    counts = {len(tensor) if tensor.ndim else None for tensor in inputs.examples.values()}
    return {
        "answers": CheckpointModel(module, outputs),
        "examples": _arrays(inputs.examples),
        "batched": not exported.unbatched and len(counts) == 1 and counts != {None},
        # Batches are of several sizes anyway, where all inputs have the batch first.
        "smaller": {
            name: _arrays(each) for name, each in inputs.smaller().items() if name != BATCH or exported.unbatched
        },
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "layers": [
            {"name": path, "type": type(part).__name__, "parameters": sum(each.numel() for each in part.parameters())}
            for path, part in module.named_modules()
            if path
        ],
    }


def _arrays(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {name: as_array(tensor) for name, tensor in tensors.items()}
