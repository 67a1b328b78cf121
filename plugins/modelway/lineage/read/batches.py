"""Many values for statements, as many at a time as every database allows."""

from collections.abc import Collection, Iterator, Sequence
from typing import TypeVar

_Value = TypeVar("_Value")
#: SQLite allows 32,766 bound values in a statement, PostgreSQL's protocol 65,535
_MANY = 10_000


def batches(values: Collection[_Value]) -> Iterator[Sequence[_Value]]:
    """Yield the values in batches that a statement allows."""
    ordered = list(values)
    return (ordered[start : start + _MANY] for start in range(0, len(ordered), _MANY))
