"""The frozen model on real rows: its answers are the checkpoint's, and its metric is the one that was evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelway.job.freezing.comparison import AnswersDiffer, Comparison, VerificationError, compare
from modelway.job.freezing.frozen_rows import FrozenRows, joined_answers
from modelway.job.freezing.joining import Arrays, Model, evenly, pick_rows, row_count
from modelway.job.freezing.scores import Origin, metrics_of

#: another batch size for the rows, where rows do not depend on one another
OTHER_SIZE = 7
#: how many rows are run alone
ALONE = 16
#: how far a metric may be from that of the checkpoint's answers here because ``evaluate`` rounded otherwise, such as
#: on a GPU or in half precision; as a share of it, or of 1 where it is less
OTHERWISE_ROUNDED = 0.02
#: how far what ``evaluate`` returned may be from a metric by its definition and count as it: it may add in float32
SAME_METRIC = 1e-4


def compare_rows(model: Model, rows: FrozenRows, *, batches: bool, tolerance: Mapping[str, float]) -> float:
    """Return the largest difference from the checkpoint's answers to the real rows.

    They run in their order, in batches of the same size as the checkpoint's; where rows do not depend on one another,
    also in batches of ``OTHER_SIZE``, and some alone.

    :raises VerificationError: a row has another answer
    """
    count = row_count(rows.inputs)
    tried: list[tuple[Sequence[int], int]] = [(range(count), rows.about["batch"])]
    if batches:
        tried += [(range(count), OTHER_SIZE), (evenly(count, ALONE), 1)]
    largest = 0.0
    for order, size in tried:
        answers = joined_answers(model, pick_rows(rows.inputs, order), size=size)
        for name, expected in rows.answers.items():
            if name not in answers:
                raise VerificationError(f"output '{name}' has no answer for each of {len(order)} real rows")
            found = compare(answers[name], expected[list(order)], **tolerance)
            if found.reason:
                raise AnswersDiffer(_mismatch(name, found, order=order, size=size, source=rows.about["source"]))
            largest = max(largest, found.largest)
    return largest


def _mismatch(name: str, found: Comparison, *, order: Any, size: int, source: str) -> str:
    row = "" if found.worst_row is None else f"; row {order[found.worst_row]} of the rows is the worst"
    batches = "one at a time" if size == 1 else f"in batches of {size}"
    return (
        f"output '{name}' on {found.mismatched} of {len(order)} real rows (from {source}, given {batches}) is not what "
        f"the checkpoint answered: it {found.reason}{row}"
    )


def compare_metrics(
    model: Model,
    rows: FrozenRows,
    *,
    metric: str | None,
    evaluated: Mapping[str, float | None],
    tolerance: Mapping[str, float],
) -> dict[str, Any] | None:
    """Compute metrics again with the frozen model; return the selected one, else the first, None where none is known.

    :param metric: the metric that the checkpoint was selected by
    :param evaluated: what ``evaluate`` returned
    :raises VerificationError: a metric differs by more than the tolerance and one row
    """
    known = _scored(rows) or _by_definition(model, rows, evaluated)
    count = row_count(rows.inputs)
    for name, (before, served, here) in known.items():
        # Of two scores that are almost equal, rounding may make either the greatest.
        allowed = tolerance["absolute"] + tolerance["relative"] * abs(before) + 1 / count
        allowed += min(abs(here - before), OTHERWISE_ROUNDED * max(1.0, abs(before)))
        if not abs(served - before) <= allowed:
            raise VerificationError(
                f"the frozen model's {name} on {count} real rows is {served:.6g}, evaluated was {before:.6g}: they "
                f"differ by {abs(served - before):.3g}, allowed are {allowed:.3g}"
            )
    if not known:
        return None
    name = metric if metric in known else next(iter(known))
    # A metric of the author's own function is of the rows from export, evaluate's may be of others.
    return {"name": name, "evaluated": known[name][0], "served": known[name][1], "returned": evaluated.get(name)}


#: metrics by name: as evaluated, of the frozen model, and of the checkpoint's answers in the archive
Metrics = dict[str, tuple[float, float, float]]


def _scored(rows: FrozenRows) -> Metrics:
    """Return the metrics of the function from ``export``."""
    scored = rows.about.get("scored")
    if not scored:
        return {}
    return {name: (value, scored["frozen"][name], value) for name, value in scored["checkpoint"].items()}


def _by_definition(model: Model, rows: FrozenRows, evaluated: Mapping[str, float | None]) -> Metrics:
    """Return the metrics that ``evaluate`` returned and that a definition yields for the scores it recorded."""
    if rows.about["origin"] is None:
        return {}
    answers: Arrays = joined_answers(model, rows.inputs, size=rows.about["batch"])
    before = metrics_of(rows.scores, rows.labels)
    origin = Origin(**rows.about["origin"])
    served, here = (metrics_of(origin.scores(each), rows.labels) for each in (answers, rows.answers))
    found = {}
    for name, value in evaluated.items():
        for definition, whole in rows.about["metrics"].items():
            if value is None or not all(definition in each for each in (before, served, here)):
                continue
            if abs(value - whole) <= SAME_METRIC * max(1.0, abs(whole)):
                # Where only some of the rows are in the archive, what was evaluated is of those.
                same = row_count(rows.inputs) == rows.about["of"]
                found[name] = (value if same else before[definition], served[definition], here[definition])
                break
    return found
