"""Golden inputs and what the checkpoint answers to them, by which the frozen model is verified."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.job.outputs import flat_outputs
from modelway.job.tensor_file import write_tensors

if TYPE_CHECKING:
    import numpy
    import onnx
    import torch

#: batch sizes at which the frozen model must agree with the checkpoint
GOLDEN_BATCHES = (1, 2, 7, 32)


def write_golden(
    module: "torch.nn.Module",
    inputs: dict[str, "torch.Tensor"],
    program: "onnx.ModelProto",
    folder: Path,
    *,
    fixed: bool = False,
) -> dict[str, dict[str, "numpy.ndarray[Any, Any]"]]:
    """Write seeded synthetic inputs and what the checkpoint answers to them; return those of the largest batch.

    :param fixed: the inputs belong together as they are, and none can be given another number of rows
    """
    import torch

    output_names = [value.name for value in program.graph.output]
    all_inputs, all_outputs = {}, {}
    shown: dict[str, dict[str, numpy.ndarray[Any, Any]]] = {}
    for size in (2,) if fixed else GOLDEN_BATCHES:
        batch = inputs if fixed else {name: _synthetic(tensor, size) for name, tensor in inputs.items()}
        with torch.inference_mode():
            answer = module(**batch)
        answers = flat_outputs(answer).values()
        shown = {
            "inputs": {name: tensor.numpy() for name, tensor in batch.items()},
            "outputs": {name: tensor.detach().numpy() for name, tensor in zip(output_names, answers, strict=True)},
        }
        all_inputs.update({f"{size}/{name}": array for name, array in shown["inputs"].items()})
        all_outputs.update({f"{size}/{name}": array for name, array in shown["outputs"].items()})
    write_tensors(folder / "inputs.safetensors", all_inputs)
    write_tensors(folder / "outputs.safetensors", all_outputs)
    return shown


def batch_of(tensor: "torch.Tensor", size: int) -> "torch.Tensor":
    """Return the first ``size`` rows of a tensor, repeated where it has fewer."""
    repeats = -(-size // len(tensor))
    return tensor.detach().repeat(repeats, *[1] * (tensor.ndim - 1))[:size].contiguous()


def _synthetic(example: "torch.Tensor", size: int) -> "torch.Tensor":
    """Return a batch like the example: its numbers shuffled and, where they are real, blurred; never a training row."""
    import torch

    batch = batch_of(example, size)
    shuffled = batch.flatten()[torch.randperm(batch.numel())].reshape(batch.shape).contiguous()
    return shuffled + 0.1 * torch.randn(shuffled.shape, dtype=shuffled.dtype) if batch.is_floating_point() else shuffled
