"""How contestants take turns, and what is said of their times."""

import statistics
from collections.abc import Sequence
from typing import Any


def rotated(contestants: Sequence[Any], place: int) -> list[Any]:
    """Return them beginning with another one each time."""
    start = place % len(contestants)
    return [*contestants[start:], *contestants[:start]]


def percentile(values: Sequence[float]) -> float:
    """Return the 95th."""
    return statistics.quantiles(values, n=20)[-1]
