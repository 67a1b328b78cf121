"""The charts of a classification, made of its labels and raw scores.

- ROC: true positive rate over false positive rate at every threshold, with the area below it by trapezoids
  (Fawcett 2006, "An introduction to ROC analysis", Pattern Recognition Letters 27)
- PR: precision over recall, with the average precision, the sum of (R_n - R_(n-1)) P_n without interpolation
  (as in scikit-learn; Davis and Goadrich 2006 on why not trapezoids)
- confusion matrix: rows are the true class, columns the class with the highest score
- calibration: the mean score and the share that was right in bins of equal width, and the expected calibration error,
  the mean of their distance weighted by rows (Guo et al. 2017, "On Calibration of Modern Neural Networks", with the
  score of the class that was chosen; with two classes and one score for each row, that of the second class)

Of several classes, each is compared with the rest. Equal scores are one threshold. Scores that are not probabilities
are treated as logits: softmax over the classes, or the logistic function where there is one score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from modelway.job.events import checked_name, listed
from modelway.job.figures import counting
from modelway.job.figures.charts import MOST_CELLS_ACROSS, MOST_POINTS, rounded

#: classes that ROC and PR draw: the most frequent ones
MOST_CLASSES = 20
BINS = 15
Figure = tuple[str, str, dict[str, Any]]


def prediction_figures(
    *, labels: Any, scores: Any, classes: Sequence[Any] | None = None, name: str = ""
) -> tuple[list[Figure], list[str]]:
    """Return name, kind and data of each chart, and notes on what was left out.

    :param labels: the number of the true class of each row, from 0, or its name out of ``classes``
    :param scores: ``[n, k]`` probabilities or logits of k classes, or ``[n]`` of the second of two
    :param name: the prefix of the charts' names
    :raises ValueError: these are not labels and scores of a classification
    """
    try:
        rows = counting.table(counting.rows_of(scores))
    except TypeError as error:
        raise ValueError(f"job.predictions: the scores are not numbers: {error}") from None
    except ValueError as error:
        raise ValueError(f"job.predictions: {error}") from None
    width = max(2, len(rows[0])) if len(rows) else 2
    called = _called(classes, width)
    numbers = _numbers(labels, called, given=classes is not None)
    if len(numbers) != len(rows):
        raise ValueError(f"job.predictions: there are {len(numbers)} labels and {len(rows)} rows of scores")
    true, finite = counting.finite(numbers, rows) if len(rows) else (numbers, rows)
    notes = []
    if missing := len(rows) - len(finite):
        notes.append(f"{missing} of {len(rows)} rows have a score that is not finite and are left out of the charts")
    if not len(finite):
        return [], notes or ["there are no predictions to draw"]
    drawn = _Drawn(true, finite, called)
    prefix = f"{checked_name(name, what='predictions')} " if name else ""
    charts = {"roc": drawn.roc(), "pr": drawn.pr(), "confusion": drawn.confusion(), "calibration": drawn.calibration()}
    if not charts["roc"]["curves"]:
        notes.append("there is no ROC curve: no class has both rows of its own and rows of others")
    return [(f"{prefix}{kind}", kind, data) for kind, data in charts.items() if data.get("curves") != []], notes


def _called(classes: Sequence[Any] | None, width: int) -> list[str]:
    if classes is None:
        return [str(number) for number in range(width)]
    called = [checked_name(each, what="a class") for each in listed(classes)]
    if len(called) != width or len(set(called)) != width:
        raise ValueError(f"job.predictions: there are scores of {width} classes, and classes has {len(set(called))}")
    return called


def _numbers(labels: Any, called: list[str], *, given: bool) -> list[int]:
    """Return each row's class as a number from 0."""
    by_name = {name: number for number, name in enumerate(called)} if given else {}
    return [_number(label, by_name, len(called)) for label in listed(labels)]


def _number(label: Any, by_name: dict[str, int], width: int) -> int:
    if isinstance(label, (list, tuple)) and len(label) == 1:
        label = label[0]
    if isinstance(label, str) and label in by_name:
        return by_name[label]
    try:
        number = int(label)
        whole = number == label
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole:
        raise ValueError(
            f"job.predictions: the label {label!r:.60} is not a class: it must be a whole number or a name in classes"
            ". Of a regression, return its metrics from evaluate and draw with job.figure"
        )
    if not 0 <= number < width:
        raise ValueError(f"job.predictions: the label {number} is not one of the {width} classes, 0 to {width - 1}")
    return number


def numbered(*, labels: Any, scores: Any, classes: Sequence[Any] | None = None) -> tuple[Any, Any]:
    """Return the number of each row's class, from 0, and the scores ``[n, k]``, as numpy's arrays.

    :raises ValueError: these are not labels and scores of a classification
    """
    import numpy

    rows = counting.table(counting.rows_of(scores))
    called = _called(classes, max(2, rows.shape[1]))
    return numpy.array(_numbers(labels, called, given=classes is not None), dtype="int64"), rows


class _Drawn:
    """The charts of rows that are all finite."""

    def __init__(self, labels: Any, rows: Any, called: list[str]) -> None:
        self.labels, self.rows, self.called = labels, rows, called
        self.single = len(rows[0]) == 1
        self.likely = counting.probabilities(rows)
        self.sizes = [0] * len(called)
        for label in listed(labels):
            self.sizes[label] += 1
        if self.single:
            self.positive = counting.column(self.likely, 0)
            self.predicted, self.confidence = counting.above(self.positive, 0.5), self.positive
        else:
            self.predicted, self.confidence = counting.likeliest(self.likely)
        self.curves = [self._ranked(number) for number in self._shown()]

    def _shown(self) -> list[int]:
        if self.single:
            return [1]
        often = sorted(range(len(self.called)), key=lambda number: -self.sizes[number])
        return sorted(often[:MOST_CLASSES])

    def _ranked(self, number: int) -> dict[str, Any]:
        # With one score for each row the raw one ranks: the logistic function makes large ones equal.
        scores = counting.column(self.rows if self.single else self.likely, 0 if self.single else number)
        true, false, area, gained = counting.ranked(scores, counting.equal(self.labels, number))
        positives, negatives = int(true[-1]), int(false[-1])
        return {
            "name": self.called[number],
            "positives": positives,
            "negatives": negatives,
            "roc_area": area / (positives * negatives) if positives and negatives else None,
            "precision": gained / positives if positives else None,
            "points": _chosen(true, false, positives, negatives),
        }

    def roc(self) -> dict[str, Any]:
        """Return the ROC curves of the classes that have one: those with rows of their own and of others."""
        curves = [
            {
                **{key: each[key] for key in ("name", "positives")},
                "area": rounded(each["roc_area"]),
                "x": [false / each["negatives"] for _, false in each["points"]],
                "y": [true / each["positives"] for true, _ in each["points"]],
            }
            for each in self.curves
            if each["roc_area"] is not None
        ]
        return self._with_labels(curves, "false positive rate", "true positive rate")

    def pr(self) -> dict[str, Any]:
        """Return the PR curves of the classes that have rows; they begin at recall 0 and precision 1."""
        curves = [
            {
                **{key: each[key] for key in ("name", "positives")},
                "area": rounded(each["precision"]),
                "x": [true / each["positives"] for true, _ in each["points"]],
                "y": [true / (true + false) if true + false else 1.0 for true, false in each["points"]],
            }
            for each in self.curves
            if each["precision"] is not None
        ]
        return self._with_labels(curves, "recall", "precision")

    def _with_labels(self, curves: list[dict[str, Any]], across: str, up: str) -> dict[str, Any]:
        named = {curve["name"] for curve in curves}
        areas = [float(curve["area"]) for curve in curves]
        return {
            "x_label": across,
            "y_label": up,
            "curves": curves,
            "area": rounded(sum(areas) / len(areas)) if areas else None,
            "undefined": [each["name"] for each in self.curves if each["name"] not in named],
            "classes_left_out": 0 if self.single else len(self.called) - len(self.curves),
        }

    def confusion(self) -> dict[str, Any]:
        """Return the confusion matrix; of very many classes, the less frequent ones are merged."""
        counts = counting.matrix(self.labels, self.predicted, len(self.called))
        names = self.called
        if len(names) > MOST_CELLS_ACROSS:
            often = sorted(range(len(names)), key=lambda number: -self.sizes[number])
            shown = sorted(often[: MOST_CELLS_ACROSS - 1])
            counts = _gathered(counts, shown)
            names = [*(names[number] for number in shown), "(others)"]
        return {"rows": names, "columns": names, "values": counts, "x_label": "said", "y_label": "true"}

    def calibration(self) -> dict[str, Any]:
        """Return the reliability of the scores."""
        hits = counting.equal(self.labels, 1 if self.single else self.predicted)
        found = [one for one in counting.bins(self.confidence, hits, BINS) if one[0]]
        rows = sum(one[0] for one in found)
        error = sum(abs(right - confidence) for _, confidence, right in found) / rows
        curve = {
            "name": self.called[1] if self.single else "chosen class",
            "x": [confidence / count for count, confidence, _ in found],
            "y": [right / count for count, _, right in found],
            "count": [count for count, _, _ in found],
        }
        labels = {"x_label": "score", "y_label": "share that was right", "bins": BINS}
        return {**labels, "curves": [curve], "error": rounded(error)}


def _gathered(counts: list[list[int]], shown: list[int]) -> list[list[int]]:
    """Return a matrix in which all classes that are not shown are merged into the last."""
    place = {number: index for index, number in enumerate(shown)}
    small = [[0] * (len(shown) + 1) for _ in range(len(shown) + 1)]
    for number, row in enumerate(counts):
        into = small[place.get(number, len(shown))]
        for other, value in enumerate(row):
            into[place.get(other, len(shown))] += value
    return small


def _chosen(true: Any, false: Any, positives: int, negatives: int) -> list[tuple[int, int]]:
    """Return at most ``MOST_POINTS`` of a curve's points, at equal distances along both rates."""

    def way(place: int) -> float:
        return int(true[place]) / max(1, positives) + int(false[place]) / max(1, negatives)

    last = len(true) - 1
    chosen = set(range(last + 1))
    if last >= MOST_POINTS:
        steps = [way(last) * step / (MOST_POINTS - 1) for step in range(MOST_POINTS - 1)]
        chosen = {last, *(_first(way, step, last) for step in steps)}
    return [(int(true[place]), int(false[place])) for place in sorted(chosen)]


def _first(way: Callable[[int], float], least: float, last: int) -> int:
    """Return the first place that is at least so far along."""
    low, high = 0, last
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if way(middle) >= least else (middle + 1, high)
    return low
