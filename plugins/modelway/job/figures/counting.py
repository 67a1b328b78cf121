"""Counts over the rows of an evaluation, on lists; ``counting_numpy`` has the same functions on arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from modelway.job.events import listed

#: what the probabilities of a row may miss of 1: those of half precision do
TOLERANCE = 1e-2


def table(scores: Any) -> list[list[float]]:
    """Return scores as rows; one number for a row is a row of one."""
    rows = [[float(value) for value in row] if isinstance(row, (list, tuple)) else [float(row)] for row in scores]
    if len({len(row) for row in rows}) > 1:
        raise ValueError("the rows of the scores differ in length")
    return rows


def finite(labels: list[int], rows: list[list[float]]) -> tuple[list[int], list[list[float]]]:
    """Return the rows whose scores are all finite, with their labels."""
    kept = [place for place, row in enumerate(rows) if all(map(math.isfinite, row))]
    return [labels[place] for place in kept], [rows[place] for place in kept]


def probabilities(rows: list[list[float]]) -> list[list[float]]:
    """Return rows of probabilities; what is none is taken for logits."""
    several = len(rows[0]) > 1
    if all(0 <= value <= 1 for row in rows for value in row) and (
        not several or all(abs(sum(row) - 1) <= TOLERANCE for row in rows)
    ):
        return rows
    return [_softmax(row) for row in rows] if several else [[_sigmoid(row[0])] for row in rows]


def _softmax(row: list[float]) -> list[float]:
    most = max(row)
    powers = [math.exp(value - most) for value in row]
    whole = sum(powers)
    return [power / whole for power in powers]


def _sigmoid(value: float) -> float:
    power = math.exp(-abs(value))
    return 1 / (1 + power) if value >= 0 else power / (1 + power)


def column(rows: list[list[float]], place: int) -> list[float]:
    """Return one class's scores."""
    return [row[place] for row in rows]


def likeliest(rows: list[list[float]]) -> tuple[list[int], list[float]]:
    """Return of each row the class with the highest score, the first of equals, and the score."""
    most = [max(row) for row in rows]
    return [row.index(value) for row, value in zip(rows, most)], most  # noqa: B905 - newer than Python 3.9


def equal(values: list[int], other: int | list[int]) -> list[int]:
    """Return 1 where two are equal, else 0."""
    if isinstance(other, int):
        return [int(value == other) for value in values]
    return [int(one == two) for one, two in zip(values, other)]  # noqa: B905 - newer than Python 3.9


def above(values: list[float], limit: float) -> list[int]:
    """Return 1 where a value is at least the limit, else 0."""
    return [int(value >= limit) for value in values]


def ranked(scores: list[float], hits: list[int]) -> tuple[Sequence[int], Sequence[int], float, float]:
    """Count true and false positives at each threshold, from the highest down, beginning with none.

    Also returns the area below the ROC curve, by trapezoids, times positives times negatives, and the sum of precision
    times positives gained. Equal scores have one threshold.
    """
    true, false = [0], [0]
    area = gained = 0.0
    order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
    hit = passed = 0
    for place, row in enumerate(order):
        hit += hits[row]
        passed += 1
        if place + 1 < len(order) and scores[order[place + 1]] == scores[row]:
            continue
        area += (passed - hit - false[-1]) * (hit + true[-1]) / 2
        gained += (hit - true[-1]) * hit / passed
        true.append(hit)
        false.append(passed - hit)
    return true, false, area, gained


def matrix(labels: list[int], said: list[int], size: int) -> list[list[int]]:
    """Return how often each class (rows) was taken for each (columns)."""
    counts = [[0] * size for _ in range(size)]
    for label, answer in zip(labels, said):  # noqa: B905 - newer than Python 3.9
        counts[label][answer] += 1
    return counts


def bins(confidence: list[float], hits: list[int], count: int) -> list[tuple[int, float, float]]:
    """Return, of bins of equal width from 0 to 1, how many rows each has and the sums of confidence and hits."""
    found = [[0, 0.0, 0.0] for _ in range(count)]
    for value, hit in zip(confidence, hits):  # noqa: B905 - newer than Python 3.9
        one = found[min(count - 1, max(0, int(value * count)))]
        one[0] += 1
        one[1] += value
        one[2] += hit
    return [(int(rows), sum_, right) for rows, sum_, right in found]


def rows_of(scores: Any) -> Any:
    """Return scores in the form that ``table`` takes."""
    return listed(scores)
