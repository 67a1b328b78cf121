"""A torch module as torch's own operators, see ``modelway.torch_program``: it answers exactly as the checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.job.durable import write_durably
from modelway.job.freezing.batches import batch_first
from modelway.job.freezing.inputs import Inputs
from modelway.job.freezing.outputs import DATATYPES
from modelway.job.freezing.program import flat_module
from modelway.job.freezing.refusals import no_program
from modelway.job.freezing.shards import write_shards
from modelway.job.freezing.tensor_file import Later
from modelway.job.freezing.weights import summary
from modelway.torch_program import FORMAT, PROGRAM, check_program

if TYPE_CHECKING:
    import numpy
    import torch

#: what of a node's record its execution needs; the rest holds paths, lines and names of the author's code
_NEEDED = frozenset({"val", "tensor_meta", "unbacked_bindings"})
#: the attribute of the exported module that refers to the author's
_INNER = "model."


@dataclass(frozen=True)
class ExactProgram:
    """What was written."""

    schema: str
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    graph: tuple[bool, str]
    tensors: list[dict[str, Any]]
    operators: list[str]


def export_exactly(module: torch.nn.Module, inputs: Inputs, *, outputs: Sequence[str], folder: Path) -> ExactProgram:
    """Write ``program.json`` and the weights' files into ``folder``.

    :raises ValueError: torch has no program for the module; the message says which construct and which line
    """
    program = _exported(module, inputs)
    weights, files = _write_weights(program, folder)
    document = _serialized(program)
    check_program(document)
    write_durably(
        folder / PROGRAM,
        json.dumps(
            {"format": FORMAT, "inputs": inputs.names, "outputs": list(outputs), **weights, "program": document},
            sort_keys=True, separators=(",", ":"), allow_nan=False,
        ).encode(),
    )  # fmt: skip
    sides = _signature(program, inputs, outputs)
    version = document["schema_version"]
    return ExactProgram(
        schema=f"{version['major']}.{version['minor']}",
        inputs=sides[0],
        outputs=sides[1],
        graph=_batches(*sides),
        tensors=files,
        operators=sorted({node["target"] for node in document["graph_module"]["graph"]["nodes"]}),
    )


def _exported(module: torch.nn.Module, inputs: Inputs) -> torch.export.ExportedProgram:
    import torch

    flat = flat_module(module, inputs.names)
    shapes, examples = inputs.shapes(), tuple(inputs.tensors.values())
    try:
        return torch.export.export(flat, examples, dynamic_shapes=(shapes,), strict=False)
    except Exception as error:
        raise no_program(error, flat, examples, (shapes,)) from error


def _serialized(program: torch.export.ExportedProgram) -> dict[str, Any]:
    """Return the graph in torch's own schema, without anything of the author's source."""
    import torch
    from torch._export.serde import serialize

    for graph in program.graph_module.modules():
        if isinstance(graph, torch.fx.GraphModule):
            for node in graph.graph.nodes:
                for key in node.meta.keys() - _NEEDED:
                    del node.meta[key]
    artifact = serialize.serialize(
        program, serialize_state_dict=False, serialize_constants=False, serialize_example_inputs=False
    )
    document: dict[str, Any] = json.loads(artifact.exported_program)
    document["guards_code"] = []
    return document


def _write_weights(
    program: torch.export.ExportedProgram, folder: Path
) -> tuple[dict[str, dict[str, str]], list[dict[str, Any]]]:
    """Write each tensor once, however many names it has; return the names in the files, and what the tensors are."""
    named: dict[str, dict[str, str]] = {"weights": {}, "constants": {}}
    tensors: dict[str, torch.Tensor] = {}
    seen: dict[tuple[Any, ...], str] = {}
    for side, values in (("weights", program.state_dict), ("constants", program.constants)):
        for name, tensor in values.items():
            place = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
            key = seen.setdefault(place, name.removeprefix(_INNER)) if tensor.numel() else name.removeprefix(_INNER)
            tensors.setdefault(key, tensor)
            named[side][name] = key
    later = {
        key: Later(dtype=str(tensor.dtype).removeprefix("torch."), shape=tuple(tensor.shape), read=_reader(tensor))
        for key, tensor in tensors.items()
    }
    places = write_shards(folder, later)
    described = [
        {"name": key, "shape": list(array.shape), "dtype": str(array.dtype), "file": f"model/{places[key].file}"}
        | summary(array)
        for key, array in sorted((key, each.read()) for key, each in later.items())
    ]
    return named, described


def _reader(tensor: torch.Tensor) -> Any:
    """Return a function that returns a tensor as an array."""

    def read() -> numpy.ndarray[Any, Any]:
        import torch

        plain = tensor.detach().contiguous()
        if plain.dtype == torch.bfloat16:
            import ml_dtypes

            return plain.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
        array: numpy.ndarray[Any, Any] = plain.numpy()
        return array

    return read


def _signature(
    program: torch.export.ExportedProgram, inputs: Inputs, outputs: Sequence[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return inputs and outputs; ``symbols`` are the names of sizes that may be any, None for the others."""
    symbols: dict[str, str] = {}
    values = {node.name: node.meta["val"] for node in program.graph.nodes if "val" in node.meta}
    users = [values[name] for name in program.graph_signature.user_inputs]
    for tensor, named in zip(users, inputs.dimensions.values(), strict=True):
        symbols.update({str(tensor.shape[place]): name for place, name in named.items()})

    def described(name: str, tensor: torch.Tensor) -> dict[str, Any]:
        free = [None if isinstance(size, int) else symbols.get(str(size), str(size)) for size in tensor.shape]
        shape = [-1 if name else int(size) for size, name in zip(tensor.shape, free, strict=True)]
        datatype = DATATYPES[str(tensor.dtype).removeprefix("torch.")]
        return {"name": name, "datatype": datatype, "shape": shape, "symbols": free}

    answers = [values[name] for name in program.graph_signature.user_outputs]
    return (
        [described(name, tensor) for name, tensor in zip(inputs.names, users, strict=True)],
        [described(name, tensor) for name, tensor in zip(outputs, answers, strict=True)],
    )


def _batches(inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> tuple[bool, str]:
    return batch_first(
        (
            kind,
            each["name"],
            [size if name is None else name for size, name in zip(each["shape"], each["symbols"], strict=True)],
        )
        for kind, values in (("input", inputs), ("output", outputs))
        for each in values
    )
