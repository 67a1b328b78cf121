"""The outputs of a model, by name: what ``forward`` returns, however it is nested, as one flat mapping of tensors.

Names never depend on the network's internals, so that a retrained version has the same: the keys of a mapping and the
fields of a named tuple or dataclass; ``output`` for a tensor alone; ``output_0``, ``output_1`` for a tuple or list.
Deeper levels are joined by ``_``: ``{"features": [a, b]}`` gives ``features_0`` and ``features_1``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: what to write in place of an output that neither ONNX Runtime nor the Open Inference Protocol carries
INSTEAD = {
    "bfloat16": "return .float() of it",
    "complex32": "return its real and its imaginary part (torch.view_as_real)",
    "complex64": "return its real and its imaginary part (torch.view_as_real)",
    "complex128": "return its real and its imaginary part (torch.view_as_real)",
}
#: torch's types that can be inputs and outputs, with the Open Inference Protocol's name of each
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
NAME_LENGTH = 200


def flat_outputs(answer: Any) -> dict[str, torch.Tensor]:
    """Return the tensors that ``forward`` returned, by name, in the order of the program's outputs.

    None is left out, as ONNX leaves it out. The tensors are detached where they are parameters, and may be views.

    :raises ValueError: something cannot be an output, is named like another one, or there is no tensor at all
    """
    flat: dict[str, torch.Tensor] = {}
    for path, leaf in _leaves(answer, ()):
        name = "_".join(path) or "output"
        tensor = _checked(name, leaf)
        if name in flat:
            raise ValueError(
                f"export: two outputs have the name '{name}' (what is nested is joined by '_'); rename one of them"
            )
        flat[name] = tensor
    if not flat:
        raise ValueError("export: the model gives no output; forward must return a tensor, or several in a dict")
    return flat


def final_names(flat: Sequence[str], *, given: Sequence[str], inputs: Sequence[str]) -> list[str]:
    """Return the outputs' names in the frozen model.

    ONNX has no two values with one name: an output named like an input gets ``_out`` after it.

    :param flat: the names that :func:`flat_outputs` found
    :param given: the names from ``export`` in their place, empty where it gave none
    :raises ValueError: the names are too few, too many, not unique, or no names
    """
    if given and len(given) != len(flat):
        raise ValueError(
            f"export: output_names are {len(given)} ({', '.join(map(str, given))}), the model has {len(flat)} outputs "
            f"({', '.join(flat)})"
        )
    names = [f"{name}_out" if name in inputs else name for name in map(_name, given or flat)]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"export: two outputs have the name '{repeated[0]}'; each needs its own")
    if clash := sorted(set(names) & set(inputs)):
        raise ValueError(f"export: the output '{clash[0]}' has the name of an input; give it another one")
    return names


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Walk through containers; yield everything else, with the names that lead to it."""
    import torch

    if value is None:
        return
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _leaves(each, (*path, _name(key)))
    elif isinstance(value, (tuple, list)):
        fields = _fields(value)
        for place, each in enumerate(value):
            yield from _leaves(each, (*path, fields[place]) if fields else (*(path or ("output",)), str(place)))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _leaves(getattr(value, field.name), (*path, field.name))
    else:
        yield path, value


def _fields(value: Sequence[Any]) -> Sequence[str]:
    """Return the names of a named tuple's fields, or of what ``torch.max(x, 1)`` and its like return."""
    names: Sequence[str] = getattr(value, "_fields", None) or getattr(value, "__match_args__", None) or ()
    return names if type(value) not in (tuple, list) and len(names) == len(value) else ()


def _name(key: Any) -> str:
    if isinstance(key, bool) or not isinstance(key, (str, int)):
        raise ValueError(f"export: the outputs' names must be text, got {key!r:.80} ({type(key).__name__})")
    # A member of an enum of text is a key by its value.
    name = str.__str__(key) if isinstance(key, str) else int.__repr__(key)
    if not name or name != name.strip() or not name.isprintable() or len(name) > NAME_LENGTH:
        raise ValueError(f"export: {name!r:.80} cannot be an output's name: write printable text without outer spaces")
    return name


def _checked(name: str, leaf: Any) -> torch.Tensor:
    import torch

    if not isinstance(leaf, torch.Tensor):
        raise ValueError(f"export: output '{name}' is {_kind(leaf)}; return a tensor in its place, or leave it out")
    if leaf.layout is not torch.strided or leaf.is_nested:
        kind = "nested" if leaf.is_nested else str(leaf.layout).removeprefix("torch.")
        how = "torch.nested.to_padded_tensor" if leaf.is_nested else ".to_dense()"
        raise ValueError(f"export: output '{name}' is a {kind} tensor; return {how} of it")
    datatype = str(leaf.dtype).removeprefix("torch.")
    if datatype not in DATATYPES:
        instead = "return .dequantize() of it" if leaf.is_quantized else INSTEAD.get(datatype, "return .float() of it")
        raise ValueError(f"export: output '{name}' is {datatype}, which a served model cannot answer with; {instead}")
    return leaf.detach() if isinstance(leaf, torch.nn.Parameter) else leaf


def _kind(leaf: Any) -> str:
    if isinstance(leaf, (bool, int, float, complex, str)):
        return f"a Python {type(leaf).__name__}, which would be a constant of the program"
    return f"of type {type(leaf).__qualname__}, no tensor"
