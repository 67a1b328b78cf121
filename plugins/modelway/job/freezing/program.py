"""The ONNX program of a torch module, with the names of its inputs and outputs."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from modelway.job.freezing.inputs import Inputs
from modelway.job.freezing.operator_list import quickly_listed
from modelway.job.freezing.outputs import flat_outputs
from modelway.job.freezing.refusals import fixed_size, no_program, uncomputable

if TYPE_CHECKING:
    import onnx
    import onnx_ir
    import torch

#: the attribute of the exported module that refers to the author's
_INNER = "model"


def export_program(module: torch.nn.Module, inputs: Inputs, *, outputs: Sequence[str]) -> onnx_ir.Model:
    """Export a module. The program's weights are the module's own memory, not copies.

    :param outputs: the outputs' names, in the order of :func:`modelway.job.freezing.outputs.flat_outputs`
    :raises ValueError: torch or ONNX has no program for it; the message says which operator and which line
    """
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    flat = flat_module(module, inputs.names)
    shapes, examples = inputs.shapes(), tuple(inputs.tensors.values())
    try:
        with quickly_listed():
            exported = torch.onnx.export(
                flat, examples, dynamo=True, dynamic_shapes=(shapes,), external_data=False, verbose=False
            )
    except Exception as error:
        raise no_program(error, flat, examples, (shapes,)) from error
    assert exported is not None
    program: onnx_ir.Model = exported.model
    for value, named in zip(program.graph.inputs, inputs.dimensions.values(), strict=True):
        for place, dimension in named.items():
            assert value.shape is not None
            if str(getattr(value.shape[place], "value", value.shape[place])) != dimension:
                raise fixed_size(dimension, flat, examples, (shapes,))
    if problem := uncomputable(program, lambda: flat(*examples)):
        raise problem
    name_values(program, inputs.names, outputs)
    return program


def flat_module(module: torch.nn.Module, names: Sequence[str]) -> torch.nn.Module:
    """Wrap a module: inputs in order, and a flat tuple of its output tensors."""
    import torch

    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            setattr(self, _INNER, module)

        def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            answer = getattr(self, _INNER)(**dict(zip(names, inputs, strict=True)))
            return tuple(flat_outputs(answer).values())

    return Flat().eval()


def name_values(program: onnx_ir.Model, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Give inputs and outputs their names, the weights those of the author's module, and all others free ones."""
    import onnx_ir

    graph = program.graph
    seen: set[int] = set()
    for place, value in enumerate(graph.outputs):
        # An output that is an input, a weight or another output has a name already.
        if value.producer() is None or id(value) in seen:
            node = onnx_ir.Node("", "Identity", [value], num_outputs=1)
            (copy,) = node.outputs
            copy.shape, copy.type = value.shape, value.type
            graph.append(node)
            graph.outputs[place] = copy
        seen.add(id(graph.outputs[place]))
    ends = [*graph.inputs, *graph.outputs]
    inner = [value for value in _values(program) if not any(value is end for end in ends)]
    for value in inner:
        if value.name is not None and value.name.startswith(f"{_INNER}."):
            value.name = value.name.removeprefix(f"{_INNER}.")
    used = {*inputs, *outputs, *(value.name for value in inner)}
    for value in inner:
        if value.name in inputs or value.name in outputs:
            value.name = next(name for i in itertools.count(1) if (name := f"{value.name}_{i}") not in used)
            used.add(value.name)
    for value, name in zip(ends, [*inputs, *outputs], strict=True):
        value.name = name


def _values(program: onnx_ir.Model) -> list[onnx_ir.Value]:
    """Return the values of a program's graph and of the graphs in its branches, each once."""
    import onnx_ir

    found = list(program.graph.initializers.values())
    for node in onnx_ir.traversal.RecursiveGraphIterator(program.graph):
        found += node.outputs
        for attribute in node.attributes.values():
            if attribute.type == onnx_ir.AttributeType.GRAPH:
                found += attribute.as_graph().initializers.values()
    return found


def strip_sources(program: onnx.ModelProto) -> None:
    """Remove stack traces and source paths: they leak, and make the bytes depend on the folder exported from."""
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
