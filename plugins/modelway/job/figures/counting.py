"""Counts over the rows of an evaluation, on numpy's arrays; numpy is imported when something is counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

#: how far the sum of a row's probabilities may be from 1, as in half precision
TOLERANCE = 1e-2


def rows_of(scores: Any) -> Any:
    """Return scores in the form that ``table`` takes."""
    if hasattr(scores, "detach"):
        # numpy does not know bfloat16.
        scores = scores.detach().cpu().double().numpy()
    return scores


def table(scores: Any) -> Array:
    """Return scores as rows; one number for a row is a row of one.

    :raises ValueError: these are not rows of numbers, or there is no numpy
    """
    try:
        import numpy
    except ImportError:
        raise ValueError(
            "numpy is needed to count predictions: add it to the job's image or requirements.txt"
        ) from None

    rows = numpy.asarray(scores, dtype=numpy.float64)
    if rows.ndim not in (1, 2):
        raise ValueError(f"the scores have {rows.ndim} dimensions, not 1 or 2")
    return rows[:, None] if rows.ndim == 1 else rows


def finite(labels: Any, rows: Array) -> tuple[Array, Array]:
    """Return the rows whose scores are all finite, with their labels."""
    import numpy

    mask = numpy.isfinite(rows).all(axis=1)
    return numpy.asarray(labels, dtype=numpy.int64)[mask], rows[mask]


def probabilities(rows: Array) -> Array:
    """Return rows of probabilities; other values are treated as logits."""
    import numpy

    several = rows.shape[1] > 1
    if rows.min() >= 0 and rows.max() <= 1 and (not several or (abs(rows.sum(axis=1) - 1) <= TOLERANCE).all()):
        return rows
    if not several:
        power = numpy.exp(-abs(rows))
        found: Array = numpy.where(rows >= 0, 1, power) / (1 + power)
        return found
    powers = numpy.exp(rows - rows.max(axis=1, keepdims=True))
    found = powers / powers.sum(axis=1, keepdims=True)
    return found


def column(rows: Array, place: int) -> Array:
    """Return one class's scores."""
    return rows[:, place]


def likeliest(rows: Array) -> tuple[Array, Array]:
    """Return of each row the class with the highest score, the first of equals, and the score."""
    return rows.argmax(axis=1), rows.max(axis=1)


def equal(values: Array, other: Any) -> Array:
    """Return 1 where two are equal, else 0."""
    found: Array = (values == other).astype("int64")
    return found


def above(values: Array, limit: float) -> Array:
    """Return 1 where a value is at least the limit, else 0."""
    found: Array = (values >= limit).astype("int64")
    return found


def ranked(scores: Array, hits: Array) -> tuple[Sequence[int], Sequence[int], float, float]:
    """Count true and false positives at each threshold, from the highest down, starting with none.

    Also returns the area below the ROC curve, by trapezoids, times positives times negatives, and the sum of precision
    times positives gained. Equal scores have one threshold.
    """
    import numpy

    order = numpy.argsort(-scores, kind="stable")
    last = numpy.append(numpy.flatnonzero(numpy.diff(scores[order])), len(scores) - 1)
    true = numpy.append(0, numpy.cumsum(hits[order])[last])
    false = numpy.append(0, last + 1) - true
    area = float((numpy.diff(false) * (true[1:] + true[:-1])).sum()) / 2
    gained = float((numpy.diff(true) * (true[1:] / (last + 1))).sum())
    return true, false, area, gained  # type: ignore[return-value]


def matrix(labels: Array, predicted: Array, size: int) -> list[list[int]]:
    """Return how often each class (rows) was predicted as each (columns)."""
    import numpy

    counts = numpy.bincount(labels * size + predicted, minlength=size * size)
    found: list[list[int]] = counts.reshape(size, size).tolist()
    return found


def bins(confidence: Array, hits: Array, count: int) -> list[tuple[int, float, float]]:
    """Return, of bins of equal width from 0 to 1, how many rows each has and the sums of confidence and hits."""
    import numpy

    place = numpy.clip((confidence * count).astype("int64"), 0, count - 1)
    rows = numpy.bincount(place, minlength=count).tolist()
    sums, right = (numpy.bincount(place, weights=values, minlength=count).tolist() for values in (confidence, hits))
    return list(zip(rows, sums, right))  # noqa: B905 - newer than Python 3.9
