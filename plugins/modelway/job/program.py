"""The ONNX program of a torch module."""

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx
    import torch


def export_program(module: "torch.nn.Module", inputs: dict[str, "torch.Tensor"]) -> "onnx.ModelProto":
    """Export a module; the first dimension of each input becomes dynamic, and nothing names the exporting folder."""
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
