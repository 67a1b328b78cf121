"""How far two versions differ in a metric that is a mean over the same rows, with its interval.

Each bound is one-sided: by chance the true difference lies beyond it in at most 5 % of all comparisons.

- Of right and wrong answers, the score interval of the difference of two paired proportions (Tango 1998, "Equivalence
  test and confidence interval for the difference in proportions for the paired-sample design", Statistics in Medicine
  17). It is wider than nothing where the versions never disagree, unlike a t interval of few rows.
- Of anything else, such as losses, the paired t interval of the rows' differences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

#: of each bound
CONFIDENCE = 0.95
_Z = NormalDist().inv_cdf(CONFIDENCE)
#: with fewer, an interval says nothing
FEWEST_ROWS = 10
SCORE, T, ERRORS = "paired score interval", "paired t interval", "interval by standard errors"


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A difference, and its lower and its upper bound, each with ``CONFIDENCE``."""

    difference: float
    low: float
    high: float
    method: str


def paired_interval(one: Array, other: Array, *, factor: float = 1.0) -> Interval:
    """Return the mean of ``one - factor * other`` with its bounds.

    :param one: each row's value, in the order of ``other``
    :raises ValueError: there are not as many of both, or fewer than ``FEWEST_ROWS``
    """
    import numpy

    first, second = (numpy.asarray(each, dtype="float64") for each in (one, other))
    if first.shape != second.shape or first.size < FEWEST_ROWS:
        raise ValueError(f"{first.size} rows cannot be compared with {second.size}: at least {FEWEST_ROWS} are needed")
    if factor == 1 and all(numpy.isin(each, (0.0, 1.0)).all() for each in (first, second)):
        return _of_shares(int((first > second).sum()), int((first < second).sum()), first.size)
    differences = first - factor * second
    mean = float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(first.size)
    half = t_quantile(first.size - 1) * error
    return Interval(difference=mean, low=mean - half, high=mean + half, method=T)


def mean_interval(one: float, other: float, *, errors: tuple[float, float], factor: float = 1.0) -> Interval:
    """Return the difference of two means with bounds by their standard errors.

    As if the rows were different ones: of the same rows, on which models mostly err together, that is too wide.
    """
    half = _Z * math.hypot(errors[0], factor * errors[1])
    difference = one - factor * other
    return Interval(difference=difference, low=difference - half, high=difference + half, method=ERRORS)


def _of_shares(better: int, worse: int, rows: int) -> Interval:
    """Return the score interval.

    :param better: rows that only the first answered rightly
    :param worse: rows that only the second answered rightly
    """
    difference = (better - worse) / rows
    low = _beyond(better, worse, rows, wanted=_Z, begin=difference, end=-1.0)
    high = _beyond(better, worse, rows, wanted=-_Z, begin=difference, end=1.0)
    return Interval(difference=difference, low=low, high=high, method=SCORE)


def _beyond(better: int, worse: int, rows: int, *, wanted: float, begin: float, end: float) -> float:
    """Return the difference between ``begin`` and ``end`` that the score statistic puts ``wanted`` deviations away."""
    for _ in range(50):
        middle = (begin + end) / 2
        if abs(_score(better, worse, rows, middle)) < abs(wanted):
            begin = middle
        else:
            end = middle
    return begin


def _score(better: int, worse: int, rows: int, delta: float) -> float:
    """Return by how many standard errors the shares differ from a true difference ``delta``."""
    b = -better - worse + (2 * rows - better + worse) * delta
    c = -worse * delta * (1 - delta)
    share = (math.sqrt(max(0.0, b * b - 8 * rows * c)) - b) / (4 * rows)
    variance = rows * (2 * share + delta * (1 - delta))
    distance = better - worse - rows * delta
    if variance <= 0:
        return 0.0 if not distance else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def t_quantile(freedom: int) -> float:
    """Return the quantile of Student's t distribution at ``CONFIDENCE``, to four digits from 9 degrees of freedom on.

    By the expansion 26.7.5 of Abramowitz and Stegun, Handbook of Mathematical Functions.
    """
    z = _Z
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))
