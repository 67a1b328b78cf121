"""Whether a model's answer is the expected one: the one rule for verifying and deploying frozen models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]


class VerificationError(Exception):
    """The frozen model is not what it should be."""


class AnswersDiffer(VerificationError):
    """The frozen model does not answer as the checkpoint did."""


@dataclass(frozen=True)
class Comparison:
    """How far an answer is from the expected one."""

    largest: float
    """the largest absolute difference; infinite where a number is not finite in only one of the two"""
    worst_row: int | None
    """the row that differs most among those that differ by more than allowed; None where no row does"""
    mismatched: int
    """how many rows differ by more than allowed; an array without dimensions is one row"""
    reason: str | None
    """why the answer is not the expected one, in a phrase that follows the output's name; None where it is"""


def compare(answer: Any, expected: Any, *, absolute: float, relative: float) -> Comparison:
    """Compare two arrays, whose rows are their first dimension.

    Floating-point numbers may differ by ``absolute + relative * |expected|``. NaN and the infinities equal only
    themselves. Integers, truth values and strings must be equal, and so must shapes and types.

    :param answer: an array, or a list of strings
    :param expected: the same, of any shape
    """
    import numpy

    actual, wanted = numpy.asarray(answer), numpy.asarray(expected)
    if reason := _other_form(actual, wanted):
        rows = len(wanted) if wanted.ndim else 1
        return Comparison(largest=math.inf, worst_row=None, mismatched=rows, reason=reason)
    if not wanted.size:
        return Comparison(largest=0.0, worst_row=None, mismatched=0, reason=None)
    distance, wrong = _distances(actual, wanted, absolute, relative)
    largest = float(distance.max())
    count = len(wanted) if wanted.ndim else 1
    wrong_rows = wrong.reshape(count, -1).any(axis=1)
    if not (mismatched := int(wrong_rows.sum())):
        return Comparison(largest=largest, worst_row=None, mismatched=0, reason=None)
    # An allowed difference may be larger than one that is not: large numbers may differ by more.
    place = int(numpy.where(wrong, distance, -1.0).reshape(-1).argmax())
    row = place // (wanted.size // count)
    reason = (
        f"differs by {distance.reshape(-1)[place]:.3g} at most, on {mismatched} of {count} rows, most on row "
        f"{row} ({_shown(actual, place)} in place of {_shown(wanted, place)})"
    )
    if _is_real(wanted):
        reason += f"; allowed are {absolute:g} + {relative:g} x value"
    return Comparison(largest=largest, worst_row=row, mismatched=mismatched, reason=reason)


def _other_form(actual: Array, wanted: Array) -> str | None:
    if actual.shape != wanted.shape:
        return f"has the shape {list(actual.shape)} in place of {list(wanted.shape)}"
    if _is_text(actual) and _is_text(wanted):
        return None
    return None if actual.dtype == wanted.dtype else f"has the type {actual.dtype} in place of {wanted.dtype}"


def _is_text(array: Array) -> bool:
    return array.dtype.kind in "OSU"


def _is_real(array: Array) -> bool:
    """Whether rounding may differ: floating-point and complex numbers, those of ml_dtypes included."""
    return array.dtype.kind in "fc" or "float" in array.dtype.name


def _distances(actual: Array, wanted: Array, absolute: float, relative: float) -> tuple[Array, Array]:
    """Return how far each element is from the expected one, and whether that is more than allowed."""
    import numpy

    if _is_text(wanted):
        wrong = _texts(actual) != _texts(wanted)
        return wrong.astype("float64"), wrong
    if not _is_real(wanted):
        wrong = actual != wanted
        apart = numpy.abs(actual.astype("float64") - wanted.astype("float64"))
        # Large integers that differ by little are the same as float64.
        return numpy.where(wrong, numpy.maximum(apart, 1.0), 0.0), wrong
    wide = "complex128" if wanted.dtype.kind == "c" else "float64"
    actual, wanted = actual.astype(wide), wanted.astype(wide)
    with numpy.errstate(all="ignore"):
        same = (actual == wanted) | (numpy.isnan(actual) & numpy.isnan(wanted))
        finite = numpy.isfinite(actual) & numpy.isfinite(wanted)
        apart = numpy.abs(actual - wanted)
        allowed = finite & (apart <= absolute + relative * numpy.abs(wanted))
    return numpy.where(same, 0.0, numpy.where(finite, apart, math.inf)), ~(same | allowed)


def _texts(array: Array) -> Array:
    import numpy

    return numpy.array([_text(each) for each in array.flat], dtype=object)


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _shown(array: Array, place: int) -> str:
    value = array.reshape(-1)[place]
    return f"{_text(value)!r:.40}" if _is_text(array) else f"{value:.6g}" if _is_real(array) else str(value)
