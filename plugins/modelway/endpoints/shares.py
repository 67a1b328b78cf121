"""Shares of the requests from weights, exactly."""

from collections.abc import Mapping
from typing import TypeVar

K = TypeVar("K", int, str)
#: shares are counted in this many buckets, so a weight is exact to 0.01 %
BUCKETS = 10_000


def shares(weights: Mapping[K, int], *, of: int = BUCKETS) -> dict[K, int]:
    """Return how many of ``of`` buckets each weight gets: by largest remainder, so that they add up exactly.

    A weight above zero gets at least one bucket where there are enough, zero gets none. The keys keep their order.
    """
    total = sum(weights.values())
    if not total:
        return dict.fromkeys(weights, 0)
    result = {key: max(weight * of // total, int(weight > 0)) for key, weight in weights.items()}
    # sorted() is stable: the first of equal remainders comes first
    by_remainder = sorted((key for key in weights if weights[key]), key=lambda key: -(weights[key] * of % total))
    left = of - sum(result.values())
    for key in by_remainder[: max(left, 0)]:
        result[key] += 1
    while sum(result.values()) > of:
        result[max(result, key=lambda key: result[key])] -= 1
    return result


def percentages(weights: Mapping[K, int]) -> dict[K, int]:
    """Return the share of each weight in whole per cent, which add up to 100; all are 0 where all weights are."""
    return shares(weights, of=100)


def below_one_percent(weights: Mapping[K, int]) -> list[K]:
    """Return the keys whose weight is above zero, and less than one per cent of all."""
    total = sum(weights.values())
    return [key for key, weight in weights.items() if weight and weight * 100 < total]
