"""Whether requests to a frozen model may be joined into one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

#: name of the dimension that counts the rows of a request, in the program's inputs and outputs
BATCH = "batch"


def graph_batches(program: onnx.ModelProto) -> tuple[bool, str]:
    """Return whether every input and every output has the batch first, by the program's own dimensions, and why."""
    for kind, values in (("input", program.graph.input), ("output", program.graph.output)):
        for value in values:
            dimensions = value.type.tensor_type.shape.dim
            if not dimensions:
                return False, f"{kind} '{value.name}' is a single number without a batch"
            if dimensions[0].dim_param != BATCH:
                shape = ", ".join(each.dim_param or str(each.dim_value) for each in dimensions)
                return False, f"{kind} '{value.name}' has the shape [{shape}], not the batch first"
    return True, "every input and output has the batch first"
