"""Whether the rows of a batch depend on one another: requests of several callers are joined only where they do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelway.job.freezing.comparison import compare

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

Arrays = Mapping[str, "Array"]
#: returns a model's outputs for inputs, both by name
Model = Callable[[Arrays], Arrays]
#: how many rows are compared alone
MOST_ROWS = 16


def prove_rows_apart(model: Model, rows: Arrays, *, absolute: float, relative: float) -> tuple[bool, str]:
    """Return whether each row has the same answers alone and at another place of another batch, and why not.

    :param rows: inputs whose first dimension is the batch; at most ``MOST_ROWS`` of them, evenly spaced, are tried
    """
    rows = different_rows(rows)
    count = row_count(rows)
    if count < 2:
        return False, "rows cannot be compared: the examples hold no two different rows; give export some"
    together = model(rows)
    for name, array in together.items():
        if not array.ndim or len(array) != count:
            return False, f"output '{name}' has the shape {list(array.shape)} for {count} rows, not the batch first"
    orders = [[row] for row in range(count)] + [[*reversed(range(count)), 0]]
    for order in orders:
        batch = f"row {order[0]} alone" if len(order) == 1 else "the same rows in another order"
        try:
            answers = model(pick_rows(rows, order))
        except Exception as error:
            return False, f"{batch} is refused: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        for name, array in together.items():
            found = compare(answers[name], array[order], absolute=absolute, relative=relative)
            if found.reason:
                return False, f"rows depend on one another: output '{name}' of {batch} {found.reason}"
    return True, f"each of {count} rows has the same answers alone and at another place in another batch"


def row_count(rows: Arrays) -> int:
    """Return how many rows inputs have."""
    return len(next(iter(rows.values())))


def pick_rows(rows: Arrays, order: Sequence[int]) -> dict[str, Array]:
    """Return whole rows of all inputs together, in another order; a row may appear several times."""
    return {name: array[list(order)] for name, array in rows.items()}


def evenly(count: int, most: int) -> list[int]:
    """Return at most ``most`` places of ``count``, evenly spaced, the first and the last among them."""
    if count <= most:
        return list(range(count))
    if most < 2:
        return [0] * most
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]


def can_compare(rows: Arrays) -> bool:
    """Return whether there are two different rows, so that a dependence between them could be noticed."""
    return row_count(different_rows(rows)) > 1


def different_rows(rows: Arrays) -> dict[str, Array]:
    """Return at most ``MOST_ROWS`` rows, no two of them equal: equal ones show no dependence."""
    seen: dict[bytes, int] = {}
    count = row_count(rows)
    for row in evenly(count, 4 * MOST_ROWS):
        seen.setdefault(b"|".join(array[row].tobytes() for array in rows.values()), row)
    found = list(seen.values())
    return pick_rows(rows, [found[place] for place in evenly(len(found), MOST_ROWS)])
