"""Which lengths the inputs of one request may have, whatever protocol it came by."""

from collections.abc import Iterable, Mapping

from modelway.server.core.refusal import Refusal
from modelway.server.core.signature import Signature, TensorSpec


def check_lengths(signature: Signature, shapes: Mapping[str, tuple[int, ...]], max_rows: int | None) -> None:
    """Refuse lengths that differ where the program has one name for them: it would broadcast the shorter input.

    :param shapes: of all inputs, by name
    :param max_rows: rows of one request, at most, where its inputs have rows
    :raises Refusal: 400 for lengths that differ, 413 for too many rows
    """
    for symbol, places in signature.equal_lengths:
        name, at = places[0]
        length = shapes[name][at]
        for other, dimension in places[1:]:
            if (found := shapes[other][dimension]) != length:
                raise Refusal(
                    400,
                    f"inputs '{name}' and '{other}' differ in length: {length} and {found} where the model has "
                    f"one '{symbol}' for both",
                )
    if max_rows is not None and signature.has_rows:
        rows = max(shape[0] for shape in shapes.values())
        if rows > max_rows:
            do = "send them in several requests" if signature.batches else "the model takes no more at a time here"
            raise Refusal(413, f"{rows} rows in one request, the limit is {max_rows}: {do}")


def listed(specs: Iterable[TensorSpec]) -> str:
    """Return tensors for a message."""
    return ", ".join(f"'{spec.name}' ({spec.datatype} {list(spec.shape)})" for spec in specs)
