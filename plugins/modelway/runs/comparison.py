"""How a new version compares with another one on the same rows, and whether a gate lets it pass."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from modelway.errors import VerificationFailed
from modelway.job.row_metrics import RowMetrics
from modelway.runs.paired import CONFIDENCE, FEWEST_ROWS, Interval, mean_interval, paired_interval
from modelway.spec.gates import VersionGate

#: how far the mean over the rows may be from the metric that ``evaluate`` returns, relative to it or to 1
_SAME = 1e-4
#: a metric of this name beside ``loss`` is its standard error, as for ``modelway diff``
_STANDARD_ERROR = "_stderr"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What an evaluation found: its metrics, and each row's part in them where it is known."""

    metrics: Mapping[str, float | None]
    sets: tuple[RowMetrics, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OtherVersion:
    """A version to compare with, or the reason why there is none."""

    reference: str
    version: int | None = None
    reason: str = ""
    measured: Measured = Measured(metrics={})

    def __str__(self) -> str:
        return self.reference if self.reference == f"v{self.version}" else f"{self.reference} (v{self.version})"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One gate that compares with a version, as the version's record has it below ``verification.comparisons``."""

    metric: str
    gate: str
    reference: str
    version: int | None
    """None where there was none to compare with"""
    passes: bool
    method: str
    """how the bounds are computed, or why there are none"""
    value: float | None = None
    other: float | None = None
    difference: float | None = None
    """of the new version's metric and ``factor`` times the other's"""
    low: float | None = None
    high: float | None = None
    """the one-sided bounds of the true difference, each with ``confidence``"""
    confidence: float | None = None
    rows: int | None = None
    """on how many rows the bounds are based"""
    rows_needed: int | None = None
    """how many would let the same difference pass, where it missed"""

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain JSON."""
        return dict(vars(self))


def compare(metric: str, gate: VersionGate, *, candidate: Measured, other: OtherVersion) -> Comparison:
    """Compare a metric of the new version with that of another one.

    A gate is passed when the bound of the difference on its worse side is: a difference by chance is not enough.

    :raises VerificationFailed: the two cannot be compared; it says why
    """
    if other.version is None:
        return Comparison(
            metric=metric,
            gate=str(gate),
            reference=other.reference,
            version=None,
            passes=True,
            method=f"not compared: {other.reason}",
        )
    values, interval, rows, method = _interval(metric, gate, candidate, other)
    difference = interval.difference if interval else values[0] - gate.factor * values[1]
    bound = difference if interval is None else (interval.low if gate.wants_more else interval.high)
    passes = gate.passes(bound)
    return Comparison(
        metric=metric,
        gate=str(gate),
        reference=other.reference,
        version=other.version,
        passes=passes,
        method=method,
        value=values[0],
        other=values[1],
        difference=difference,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        confidence=CONFIDENCE if interval else None,
        rows=rows,
        rows_needed=None if passes or rows is None else _needed(rows, difference, bound, gate),
    )


def _finite(metric: str, measured: Measured, whose: str) -> float:
    if metric not in measured.metrics:
        raise VerificationFailed(
            f"{whose} cannot be compared: its evaluate returned no '{metric}', only {', '.join(measured.metrics)}",
            do="Compare a metric that both return, or compare with a number",
        )
    value = measured.metrics[metric]
    if value is None or not math.isfinite(value):
        raise VerificationFailed(
            f"{whose} cannot be compared: its {metric} is not a finite number on this data",
            do="Compare with another version or with a number, or release the new version by hand",
        )
    return value


def _interval(
    metric: str, gate: VersionGate, candidate: Measured, other: OtherVersion
) -> tuple[tuple[float, float], Interval | None, int | None, str]:
    """Return both values, their interval, on how many rows it is based, and how it is computed."""
    mine = _finite(metric, candidate, "the new version")
    for name, one, its_set in _pairs(metric, mine, candidate, other):
        if one.rows != its_set.rows:
            raise VerificationFailed(
                f"{other} cannot be compared: its own code evaluated other rows, {its_set.of:,} against {one.of:,} of "
                "the new version, or in another order",
                do="Let both evaluate the same rows, such as a data set of the spec; else compare with a number",
            )
        try:
            interval = paired_interval(one.values[name], its_set.values[name], factor=gate.factor)
        except ValueError as error:
            raise VerificationFailed(f"{other} cannot be compared: {error}", do="Evaluate on more rows") from None
        return (one.means[name], its_set.means[name]), interval, len(one.values[name]), interval.method
    its = _finite(metric, other.measured, str(other))
    errors = [each.metrics.get(metric + _STANDARD_ERROR) for each in (candidate, other.measured)]
    if errors[0] is not None and errors[1] is not None and all(0 <= each < math.inf for each in errors if each):
        interval = mean_interval(mine, its, errors=(errors[0], errors[1]), factor=gate.factor)
        return (mine, its), interval, None, interval.method
    return (mine, its), None, None, "numbers alone: it is not known what each row contributes to them"


def _pairs(
    metric: str, value: float, candidate: Measured, other: OtherVersion
) -> Iterator[tuple[str, RowMetrics, RowMetrics]]:
    """Yield the sets of both in which a metric has a value for each row, with its name there.

    :raises VerificationFailed: the values that ``job.row_metrics`` recorded are not those of the metric
    """
    for place, one in enumerate(candidate.sets):
        name = _name_in(one, metric, value)
        if name is None:
            continue
        its = [each for each in other.measured.sets if each.by_definition == one.by_definition]
        known = [each for each in its if name in each.values]
        # The same rows if there are any; else those recorded in the same place, to say that they differ.
        same = [each for each in known if each.rows == one.rows] or known[place : place + 1] or known[:1]
        for each in same[:1]:
            yield name, one, each


def _name_in(one: RowMetrics, metric: str, value: float) -> str | None:
    """Return what a metric is called in a set: the same, or the definition whose value it has."""
    if one.by_definition:
        named = sorted(one.means, key=lambda name: name != metric)
        return next((name for name in named if _is_same(one.means[name], value)), None)
    if metric not in one.means:
        return None
    if not _is_same(one.means[metric], value):
        raise VerificationFailed(
            f"the mean of {metric} over the rows of job.row_metrics is {one.means[metric]:.6g}, evaluate returned "
            f"{value:.6g}",
            do="Record the values whose mean evaluate returns, or none of a metric that is no mean",
        )
    return metric


def _is_same(mean: float, value: float) -> bool:
    return abs(mean - value) <= _SAME * max(1.0, abs(value))


def _needed(rows: int, difference: float, bound: float, gate: VersionGate) -> int | None:
    """Return on how many rows the same difference would pass, None where more rows would not help."""
    distance = difference - gate.margin if gate.wants_more else gate.margin - difference
    return None if distance <= 0 else max(FEWEST_ROWS, math.ceil(rows * ((difference - bound) / distance) ** 2 * 1.05))
