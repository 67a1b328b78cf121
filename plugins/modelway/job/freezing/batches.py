"""Whether requests to a frozen model may be joined into one batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

#: name of the dimension that counts the rows of a request, in the program's inputs and outputs
BATCH = "batch"
#: kind (input or output), name, and dimensions: a number, the name of one that may have any size, or nothing
Dimensions = tuple[str, str, Sequence[int | str]]


def graph_batches(program: onnx.ModelProto) -> tuple[bool, str]:
    """Return whether every input and every output has the batch first, by the program's own dimensions, and why."""
    return batch_first(
        (kind, value.name, [each.dim_param or each.dim_value for each in value.type.tensor_type.shape.dim])
        for kind, values in (("input", program.graph.input), ("output", program.graph.output))
        for value in values
    )


def batch_first(values: Iterable[Dimensions]) -> tuple[bool, str]:
    """Return whether every input and every output has the batch first, and why."""
    for kind, name, dimensions in values:
        if not dimensions:
            return False, f"{kind} '{name}' is a single number without a batch"
        if dimensions[0] != BATCH:
            shape = ", ".join(str(each) for each in dimensions)
            return False, f"{kind} '{name}' has the shape [{shape}], not the batch first"
    return True, "every input and output has the batch first"
