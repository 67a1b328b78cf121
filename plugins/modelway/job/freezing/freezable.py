"""Whether a module can be frozen, checked before the exporter is tried: its kind, its weights and its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelway.job.freezing.inputs import Inputs
from modelway.job.freezing.outputs import flat_outputs
from modelway.job.freezing.refusals import changed_input

if TYPE_CHECKING:
    import onnx
    import torch

#: how far two answers of one module to one input may be apart
ABSOLUTE, RELATIVE = 1e-4, 1e-3
#: where torch's modules are whose weights are packed for kernels of its own
_QUANTIZED = ("torch.ao.nn.quantized.", "torch.ao.nn.intrinsic.quantized.")


def bare_module(module: torch.nn.Module, *, computed_by_onnx: bool = True) -> torch.nn.Module:
    """Return the network itself, on the CPU and in eval mode, without the wrappers that only training needs.

    :param computed_by_onnx: whether ONNX Runtime is to compute with the weights
    :raises ValueError: it is TorchScript, or its weights are of a type that ONNX Runtime does not compute with
    """
    import torch

    module = _unwrapped(module)
    for path, part in list(module.named_modules()):
        for name, child in list(part.named_children()):
            if (inner := _unwrapped(child)) is not child:
                setattr(part, name, inner)
        if isinstance(part, torch.jit.ScriptModule):
            raise ValueError(
                f"export: {f'the part {path!r} of the module' if path else 'the module'} is TorchScript "
                "(torch.jit.script or trace), of which no program can be made; give the torch.nn.Module that it "
                "was made of"
            )
        kind = f"{type(part).__module__}.{type(part).__name__}"
        # A FloatFunctional is there before quantization, too, and adds as usual.
        if kind.startswith(_QUANTIZED) and not kind.endswith("FloatFunctional"):
            raise ValueError(
                f"export: the part '{path}' of the module is quantized ({kind}), of which no program can be made; give "
                "the module of before, with weights of float32"
            )
    tensors = [*module.named_parameters(), *module.named_buffers()]
    if bad := [name for name, tensor in tensors if torch.nn.parameter.is_lazy(tensor)]:
        raise ValueError(
            f"export: the weight '{bad[0]}' has no values, since its lazy module never saw an input; run the module "
            "once, then load the checkpoint"
        )
    if bad := [name for name, tensor in tensors if tensor.is_meta]:
        raise ValueError(f"export: the weight '{bad[0]}' has no values (it is on the device meta); load the checkpoint")
    small = [(name, tensor) for name, tensor in tensors if tensor.is_floating_point() and not _computable(tensor)]
    if small and computed_by_onnx:
        name, tensor = small[0]
        raise ValueError(
            f"export: the weight '{name}' ({len(small)} in all) is {str(tensor.dtype).removeprefix('torch.')}, which "
            "ONNX Runtime does not compute with on a CPU; give module.float(), or write freeze.format: torch_export"
        )
    return module.cpu().eval()


def answer_names(module: torch.nn.Module, inputs: Inputs) -> list[str]:
    """Return the names of a module's outputs for the example inputs.

    :raises ValueError: something cannot be an output, an input is changed, or a second answer differs from the first
    """
    import torch

    copies = {name: tensor.clone() for name, tensor in inputs.tensors.items()}
    # Not inference mode, which does not count how often a tensor was written to.
    with torch.no_grad():
        first = {name: tensor.clone() for name, tensor in flat_outputs(module(**copies)).items()}
        for name, tensor in copies.items():
            if tensor._version:
                raise changed_input(name, tensor, lambda: module(**copies))
        second = flat_outputs(module(**copies))
    for name, tensor in first.items():
        again = second.get(name)
        if again is None or again.shape != tensor.shape or not _close(tensor, again):
            raise ValueError(
                f"export: the output '{name}' differs when the same input is repeated; a frozen model must not draw "
                "random numbers, nor remember earlier inputs in eval mode (dropout as a function needs "
                "training=self.training)"
            )
    return list(first)


def check_other_sizes(module: torch.nn.Module, inputs: Inputs, program: onnx.ModelProto) -> None:
    """Compare the sizes of the program's outputs with those of the module's for inputs of other sizes.

    The exporter may fix a size of the example in an output though the input's may be any: for example torch's LSTM with
    a dynamic length.

    :raises ValueError: a size is fixed in the program and differs in the module's answer
    """
    import torch

    for dimension, tensors in inputs.smaller().items():
        try:
            with torch.no_grad():
                answers = flat_outputs(module(**tensors)).values()
        except Exception as error:
            print(f"NOTE: the model refuses its inputs without the last place of '{dimension}': {error}", flush=True)
            continue
        for value, answer in zip(program.graph.output, answers, strict=True):
            for place, known in enumerate(value.type.tensor_type.shape.dim):
                if known.HasField("dim_value") and known.dim_value != answer.shape[place]:
                    raise ValueError(
                        f"export: dimension {place} of output '{value.name}' is {answer.shape[place]} for inputs with "
                        f"another '{dimension}' than the example's, and the program that torch made has "
                        f"{known.dim_value} for all; fix '{dimension}' (pad to it), or compute the output otherwise"
                    )


def _unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """Return the network inside a wrapper that spreads it over devices, averages or compiles it."""
    import torch

    wrappers = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel, torch.optim.swa_utils.AveragedModel)
    while True:
        if isinstance(module, wrappers):
            module = module.module
        elif isinstance(module, torch._dynamo.OptimizedModule):
            module = module._orig_mod
        else:
            return module


def _computable(tensor: torch.Tensor) -> bool:
    import torch

    return tensor.dtype in (torch.float16, torch.float32, torch.float64)


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    import torch

    return torch.allclose(one.double(), other.double(), rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
