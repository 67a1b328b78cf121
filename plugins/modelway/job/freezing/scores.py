"""Metrics of a classification by their definitions, and which output of a model the recorded scores come from.

- accuracy: the share of rows whose greatest score is that of their class
- error: one minus the accuracy
- cross_entropy: the mean of minus the natural logarithm of the probability of the row's class
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelway.job.figures.counting import probabilities
from modelway.job.freezing.comparison import Comparison, compare

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

#: differences by rounding alone, relative to the spread of the scores: in bfloat16 some thousandths, with other weights
#: far more
NEAR = 0.03


def metrics_of(scores: Array, labels: Array) -> dict[str, float]:
    """Return each metric that has a definition here.

    :param scores: ``[n, k]`` probabilities or logits of k classes, or ``[n]`` of the second of two
    :param labels: each row's class, from 0
    """
    found = {name: float(values.mean()) for name, values in by_row(scores, labels).items()}
    # Their sum is exactly 1.
    return found | ({"error": 1 - found["accuracy"]} if found else {})


def by_row(scores: Array, labels: Array) -> dict[str, Array]:
    """Return what each row contributes to each metric; nothing where a score is not finite."""
    import numpy

    rows = scores.astype("float64").reshape(len(scores), -1)
    if not rows.size or not numpy.isfinite(rows).all():
        return {}
    likely = probabilities(rows)
    if rows.shape[1] == 1:
        right = (likely[:, 0] > 0.5) == (labels == 1)
        mine = numpy.where(labels == 1, likely[:, 0], 1 - likely[:, 0])
    else:
        right = likely.argmax(axis=1) == labels
        mine = likely[numpy.arange(len(rows)), labels]
    found = {"accuracy": right.astype("float64"), "error": (~right).astype("float64")}
    with numpy.errstate(divide="ignore"):
        entropy = _logarithms(rows, likely, mine, labels)
    return found | ({"cross_entropy": entropy} if numpy.isfinite(entropy).all() else {})


def _logarithms(rows: Array, likely: Array, mine: Array, labels: Array) -> Array:
    """Return minus the logarithm of each row's probability, from logits directly, since the detour loses small ones."""
    import numpy

    if likely is rows:
        return -numpy.log(mine)
    if rows.shape[1] == 1:
        signed = numpy.where(labels == 1, rows[:, 0], -rows[:, 0])
        return numpy.logaddexp(0, -signed)
    top = rows.max(axis=1, keepdims=True)
    whole: Array = numpy.log(numpy.exp(rows - top).sum(axis=1)) + top[:, 0]
    loss: Array = whole - rows[numpy.arange(len(rows)), labels]
    return loss


def _softmax(array: Array) -> Array:
    import numpy

    powers: Array = numpy.exp(array - array.max(axis=-1, keepdims=True))
    found: Array = powers / powers.sum(axis=-1, keepdims=True)
    return found


def _log_softmax(array: Array) -> Array:
    import numpy

    found: Array = numpy.log(numpy.maximum(_softmax(array), 1e-300))
    return found


def _sigmoid(array: Array) -> Array:
    import numpy

    found: Array = 1 / (1 + numpy.exp(-array))
    return found


#: how scores may follow from an output of two dimensions, by a name that goes into the archive
FORMS: Mapping[str, Callable[[Array], Array]] = {
    "as it is": lambda array: array,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "sigmoid": _sigmoid,
    "second column": lambda array: array[:, 1:2],
    "softmax, second column": lambda array: _softmax(array)[:, 1:2],
}


@dataclass(frozen=True)
class Origin:
    """Which output the scores of an evaluation come from, and in what form."""

    output: str
    form: str

    def scores(self, outputs: Mapping[str, Array]) -> Array:
        """Return the scores ``[n, k]`` that follow from outputs."""
        return FORMS[self.form](_rows(outputs[self.output]))


def find_origin(
    outputs: Mapping[str, Array], scores: Array, *, absolute: float, relative: float
) -> tuple[Origin, Comparison] | None:
    """Return the output of recorded scores, else the first of their shape, and how far it is; None: none has it."""
    wanted = _rows(scores)
    nearest = None
    for origin, candidate in _candidates(outputs, wanted):
        found = origin, compare(candidate, wanted, absolute=absolute, relative=relative)
        if not found[1].reason:
            return found
        nearest = nearest or found
    return nearest


def _candidates(outputs: Mapping[str, Array], wanted: Array) -> Iterator[tuple[Origin, Array]]:
    """Yield the scores of this shape that follow from outputs."""
    import numpy

    for name, array in outputs.items():
        if array.ndim not in (1, 2) or array.dtype.kind != "f" or len(array) != len(wanted):
            continue
        for form in FORMS:
            if "second" in form and (array.ndim != 2 or array.shape[1] != 2):
                continue
            origin = Origin(output=name, form=form)
            with numpy.errstate(all="ignore"):
                candidate = origin.scores(outputs)
            if candidate.shape == wanted.shape:
                yield origin, candidate


def find_near(outputs: Mapping[str, Array], scores: Array) -> Origin | None:
    """Return the output of recorded scores up to rounding, as on a GPU or in half precision; None: there is none.

    The differences are then small on the whole, compared with the spread of the scores; single ones may not be.
    """
    import numpy

    wanted = _rows(scores)
    spread = float(wanted.std())
    for origin, candidate in _candidates(outputs, wanted):
        with numpy.errstate(all="ignore"):
            apart = float(numpy.sqrt(numpy.square(candidate - wanted).mean()))
        if apart <= NEAR * spread:
            return origin
    return None


def _rows(array: Array) -> Array:
    return array.astype("float64").reshape(len(array), -1)
