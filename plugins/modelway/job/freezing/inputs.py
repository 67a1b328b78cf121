"""The example inputs of a model to freeze: by name, checked, and with the dimensions that may have any size."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelway.job.freezing.batches import BATCH
from modelway.job.freezing.exported import Exported
from modelway.job.freezing.outputs import DATATYPES

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Inputs:
    """The example inputs by the name of ``forward``'s argument."""

    examples: dict[str, torch.Tensor]
    """all that ``export`` returned"""
    tensors: dict[str, torch.Tensor]
    """what the program is exported with: 2 rows of the examples where all inputs have the batch first"""
    dimensions: dict[str, dict[int, str]]
    """by input, which dimensions may have any size, and their names; those of one name have one size"""

    @property
    def names(self) -> list[str]:
        """The inputs' names in order."""
        return list(self.tensors)

    def shapes(self) -> tuple[dict[int, Any], ...]:
        """Return the dimensions of each input that may have any size, as ``torch.export`` takes them."""
        import torch

        names = dict.fromkeys(name for named in self.dimensions.values() for name in named.values())
        sizes = {name: torch.export.Dim(name, min=1) for name in names}
        return tuple({place: sizes[name] for place, name in named.items()} for named in self.dimensions.values())

    def smaller(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return the inputs once for each dimension of any size, without its last position."""
        named = {each for names in self.dimensions.values() for each in names.values()}
        return {
            dimension: {
                name: _without_last(tensor, [at for at, each in self.dimensions[name].items() if each == dimension])
                for name, tensor in self.tensors.items()
            }
            for dimension in sorted(named)
        }


def named_inputs(exported: Exported) -> Inputs:
    """Return the example inputs by name.

    :raises ValueError: an example is not a supported tensor, does not fit ``forward``, or sizes of examples disagree
    """
    tensors = _by_name(exported.model, exported.inputs)
    for option, names in (("unbatched", exported.unbatched), ("dynamic", exported.dynamic)):
        if unknown := sorted(set(names) - set(tensors)):
            raise ValueError(f"export: {option} names no input '{unknown[0]}'; the inputs are {', '.join(tensors)}")
    for name, tensor in tensors.items():
        _check_tensor(name, tensor, batched=name not in exported.unbatched)
    own = {} if exported.unbatched else _own_rows(tensors)
    dimensions = {
        name: {**({} if name in exported.unbatched else own.get(name, {0: BATCH})), **exported.dynamic.get(name, {})}
        for name in tensors
    }
    _check_sizes(tensors, dimensions)
    examples = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Exporting with a batch of 1 could bake the 1 into the program.
    two = examples if exported.unbatched or own else {name: _two_rows(tensor) for name, tensor in examples.items()}
    return Inputs(examples=examples, tensors=two, dimensions=dimensions)


def _without_last(tensor: torch.Tensor, places: list[int]) -> torch.Tensor:
    for place in places:
        tensor = tensor.narrow(place, 0, max(1, tensor.shape[place] - 1))
    return tensor.contiguous()


def _own_rows(tensors: dict[str, torch.Tensor]) -> dict[str, dict[int, str]]:
    """Return for each input the dimension of its own rows, where their numbers differ: then there is no batch.

    An input of one row keeps it: the exporter cannot distinguish one row from a fixed size.
    """
    counts = {name: len(tensor) for name, tensor in tensors.items()}
    if len(set(counts.values())) == 1:
        return {}
    listed = ", ".join(f"'{name}' {count}" for name, count in counts.items())
    print(
        f"NOTE: the example inputs have other numbers of rows ({listed}), so none counts as a batch: they are used as "
        'they are, and requests are not joined. Where some have no batch first, {"unbatched": […]} says which',
        flush=True,
    )
    return {name: {0: f"{name.lower()}_rows"} if count > 1 else {} for name, count in counts.items()}


def _two_rows(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[[0, min(1, len(tensor) - 1)]]


def _by_name(module: torch.nn.Module, example: Any) -> dict[str, torch.Tensor]:
    import numpy
    import torch

    parameters = inspect.signature(module.forward).parameters.values()
    arguments = [one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    if isinstance(example, (torch.Tensor, numpy.ndarray)):
        example = (example,)
    if isinstance(example, (tuple, list)) and len(example) <= len(arguments):
        example = dict(zip(arguments, example, strict=False))
    if not isinstance(example, Mapping) or not example or not all(isinstance(argument, str) for argument in example):
        raise ValueError(
            "export: the example inputs must be tensors by the names of forward's arguments "
            f"({', '.join(arguments) or 'it names none: write them out in place of *args'}), "
            f"got {type(example).__name__} of {len(example) if hasattr(example, '__len__') else 1}"
        )
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters)
    if unknown := [name for name in example if name not in arguments and not takes_any]:
        raise ValueError(
            f"export: forward has no argument '{unknown[0]}' for the example of this name; "
            f"its arguments are {', '.join(arguments) or 'none that has a name'}"
        )
    if missing := [one.name for one in parameters if _is_needed(one) and one.name not in example]:
        raise ValueError(f"export: there is no example input for forward's argument '{missing[0]}'")
    unset = {one.name for one in parameters if one.default is None}
    return {name: _tensor(name, value) for name, value in example.items() if value is not None or name not in unset}


def _tensor(name: str, value: Any) -> torch.Tensor:
    """Return an example input as a tensor: it is one, or an array of numbers.

    :raises ValueError: it is neither
    """
    import numpy
    import torch

    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, numpy.ndarray) and value.dtype.kind in "fiubc":
        return torch.from_numpy(value.astype(value.dtype.newbyteorder("="), order="C"))
    if isinstance(value, (bool, int, float, complex, str)):
        instead = "it would be a constant of the program: set it in the module and leave it out here, or give a tensor"
    elif isinstance(value, (tuple, list, Mapping)):
        instead = (
            "a request carries one tensor for each input: make one of its values (torch.tensor, torch.stack), or wrap "
            "the module in one whose forward takes each of its tensors as an argument of its own"
        )
    else:
        instead = "give a tensor or an array of numbers" if value is not None else "leave it out"
    raise ValueError(f"export: example input '{name}' must be a tensor, got {type(value).__name__}; {instead}")


def _is_needed(argument: inspect.Parameter) -> bool:
    return argument.default is argument.empty and argument.kind not in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)


def _check_tensor(name: str, tensor: torch.Tensor, *, batched: bool) -> None:
    import torch

    if batched and (tensor.ndim < 1 or not len(tensor)):
        raise ValueError(
            f"export: example input '{name}' must be a tensor with a batch dimension first, got a tensor of shape "
            f'{list(tensor.shape)}; a tensor without a batch is declared: {{"unbatched": ["{name}"]}}'
        )
    if tensor.is_nested or tensor.layout is not torch.strided:
        raise ValueError(f"export: example input '{name}' is not a dense tensor, and requests carry dense ones alone")
    datatype = str(tensor.dtype).removeprefix("torch.")
    if datatype not in DATATYPES:
        instead = (
            "take the real and the imaginary part (torch.view_as_complex makes one of both)"
            if tensor.is_complex()
            else "take float32 and convert it in forward"
        )
        raise ValueError(f"export: example input '{name}' is {datatype}, which requests cannot carry; {instead}")


def _check_sizes(tensors: dict[str, torch.Tensor], dimensions: dict[str, dict[int, str]]) -> None:
    """Refuse examples of different sizes: repeating the smaller one would make up inputs that do not exist."""
    seen: dict[str, tuple[str, int, int]] = {}
    for name, named in dimensions.items():
        for place, dimension in named.items():
            if place >= tensors[name].ndim:
                raise ValueError(
                    f"export: dynamic: input '{name}' has no dimension {place}, its shape is "
                    f"{list(tensors[name].shape)}"
                )
            size = tensors[name].shape[place]
            first, at, expected = seen.setdefault(dimension, (name, place, size))
            if size == expected:
                continue
            said = f"export: dimension '{dimension}' is {expected} in '{first}' (dimension {at}) and {size} in '{name}'"
            advice = f'; where \'{name}\' has no batch first, declare {{"unbatched": ["{name}"]}}'
            raise ValueError(said + f" (dimension {place})" + (advice if dimension == BATCH and not place else ""))
        for place, dimension in named.items():
            if dimension != BATCH and tensors[name].shape[place] < 2:
                raise ValueError(
                    f"export: dimension '{dimension}' of '{name}' is {tensors[name].shape[place]} in the example; "
                    "give an example with at least 2, so that its size does not seem to be fixed"
                )
