"""Whether two versions differ in a metric by more than chance."""

import math
import re

from modelway.lineage.records.difference import MetricDifference
from modelway.lineage.records.version import VersionDetail

#: below this probability a difference counts as significant
LEVEL = 0.05
#: a share of rows that were answered rightly or wrongly; precision and recall are shares of other, unknown numbers
_SHARE = re.compile(r"(.*[_/. -])?(accuracy|acc|top[-_]?\d+([-_]accuracy)?|error[-_]rate)")


#: an evaluation returns ``loss_stderr``, the standard error of its mean, beside ``loss``
STANDARD_ERROR = "_stderr"


def compare_metric(name: str, a: VersionDetail, b: VersionDetail) -> MetricDifference:
    """Return both values of a metric, and how probable their difference is by chance where that can be computed."""
    first, second = _value(name, a), _value(name, b)
    p_value: float | None = None
    difference = None if first is None or second is None else second - first
    if first is None or second is None or difference is None:
        why = "not known: only one version has it"
    elif not math.isfinite(first) and (first == second or (math.isnan(first) and math.isnan(second))):
        difference, why = 0.0, "the same in both"
    elif not math.isfinite(difference):
        difference, why = None, "not known: a value is not finite"
    elif name.endswith(STANDARD_ERROR):
        why = f"not known: how exact {name.removesuffix(STANDARD_ERROR)} is"
    elif errors := _standard_errors(name, a, b):
        p_value = two_means(first, errors[0], second, errors[1])
        why = f"z-test with standard errors {errors[0]:.3g} and {errors[1]:.3g}"
    else:
        p_value, why = _compare_shares(name, first, a, second, b)
    is_significant = None if p_value is None else p_value < LEVEL
    return MetricDifference(
        name=name, a=first, b=second, difference=difference, p_value=p_value, is_significant=is_significant, why=why
    )


def _value(name: str, version: VersionDetail) -> float | None:
    """Return a metric's value; one that is not finite has its place in the evaluation of the checkpoint."""
    value = version.summary.metrics.get(name)
    if value is None and name in version.summary.metrics:
        chosen = [each for each in version.evaluations if each.checkpoint == version.summary.checkpoint]
        return next((each.metrics[name] for each in chosen if each.metrics.get(name) is not None), math.nan)
    return value


def _standard_errors(name: str, a: VersionDetail, b: VersionDetail) -> tuple[float, float] | None:
    first, second = (each.summary.metrics.get(name + STANDARD_ERROR) for each in (a, b))
    if first is None or second is None or not (0 <= first < math.inf and 0 <= second < math.inf):
        return None
    return first, second


def _compare_shares(
    name: str, first: float, a: VersionDetail, second: float, b: VersionDetail
) -> tuple[float | None, str]:
    if not _SHARE.fullmatch(name.lower()) or not (0 <= first <= 1 and 0 <= second <= 1):
        return None, f"not known: no share of rows such as accuracy, and no {name}{STANDARD_ERROR} beside it"
    rows = evaluated_rows(a), evaluated_rows(b)
    if None in rows:
        which = " and ".join(f"v{each.summary.number}" for each, n in zip((a, b), rows, strict=True) if n is None)
        return None, f"not known: by how many rows {which} was evaluated is not recorded"
    n, m = (number or 0 for number in rows)
    return two_proportions(first, n, second, m), f"two-proportion z-test over {n:,} and {m:,} rows"


def evaluated_rows(detail: VersionDetail) -> int | None:
    """Return on how many rows the chosen checkpoint was evaluated, as far as its record says.

    The sum of its confusion matrix, which has every row once; else the rows of the only data set that is called
    after an evaluation (``test``, ``validation``, ``evaluation``, ``holdout``, also as a part of a name).
    """
    for figure in detail.run.figures:
        if figure.kind == "confusion" and figure.checkpoint == detail.summary.checkpoint:
            cells = [cell for row in figure.data.get("values", ()) for cell in row]
            if cells and all(isinstance(cell, int | float) and cell >= 0 and cell == int(cell) for cell in cells):
                return int(sum(cells)) or None
    word = re.compile(r"(^|[^a-z])(test|valid|validation|eval|evaluation|holdout)([^a-z]|$)")
    named = {each.name: each.rows for each in detail.run.datasets if word.search(each.name.lower())}
    return (next(iter(named.values())) or None) if len(named) == 1 else None


def two_proportions(a: float, n: int, b: float, m: int) -> float | None:
    """Return the two-sided probability of two shares as far apart as ``a`` of ``n`` and ``b`` of ``m`` rows.

    The pooled two-proportion z-test (NIST/SEMATECH e-Handbook of Statistical Methods, 7.3.3, "How can we determine
    whether two processes produce the same proportion of defectives?"). It assumes independent rows on both sides; on
    the same rows, a paired test would find smaller differences. None where an expected count is below 5: too few rows
    for the normal approximation.
    """
    pooled = (a * n + b * m) / (n + m)
    if min(pooled, 1 - pooled) * min(n, m) < 5:
        # All right or all wrong on both sides is no difference at all.
        return 1.0 if a == b else None
    z = (b - a) / math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return math.erfc(abs(z) / math.sqrt(2))


def two_means(a: float, error_a: float, b: float, error_b: float) -> float:
    """Return the two-sided probability of two means as far apart, by their standard errors, of many rows each.

    The z-test of two means with known variances (NIST/SEMATECH e-Handbook of Statistical Methods, 7.3.1, for large
    samples), the rows of both assumed independent.
    """
    error = math.hypot(error_a, error_b)
    if not error:
        return 1.0 if a == b else 0.0
    return math.erfc(abs(b - a) / error / math.sqrt(2))
