"""Tests of two samples that are counted in the same bins, each with a p-value and an effect size; plain Python.

Sources, by function; ``tests/unit/test_monitor_statistics.py`` compares them with scipy.
"""

import math
from collections.abc import Sequence

Counts = Sequence[float]
#: a share that is 0 counts as so much in the population stability index, which would be infinite
_LEAST_SHARE = 1e-4


def stability_index(reference: Counts, current: Counts) -> float:
    """Return the population stability index of two samples: the sum of (p - q) * ln(p / q) over the bins.

    It is the symmetric divergence of Jeffreys (1946); as an index with 0.1 and 0.2 as limits: Siddiqi, Credit Risk
    Scorecards (2006). It has no value apart from its bins: more of them make it larger.
    """
    total = 0.0
    for p, q in zip(_shares(reference), _shares(current), strict=True):
        p, q = max(p, _LEAST_SHARE), max(q, _LEAST_SHARE)
        total += (p - q) * math.log(p / q)
    return total


def smirnov(reference: Counts, current: Counts) -> tuple[float, float]:
    """Return the statistic D of Kolmogorov and Smirnov for two samples in ordered bins, and its p-value.

    D is the greatest difference of both cumulative shares at the bins' bounds, and so at most that of the values
    themselves: the p-value is too large, never too small. Its asymptotic distribution is Kolmogorov's (1933), with the
    correction of Stephens (1970) for small samples, as in Numerical Recipes, 14.3.
    """
    n, m = sum(reference), sum(current)
    if not n or not m:
        return 0.0, 1.0
    distance, first, second = 0.0, 0.0, 0.0
    for one, other in zip(reference, current, strict=True):
        first, second = first + one / n, second + other / m
        distance = max(distance, abs(first - second))
    root = math.sqrt(n * m / (n + m))
    return distance, kolmogorov((root + 0.12 + 0.11 / root) * distance)


def kolmogorov(x: float) -> float:
    """Return the probability that Kolmogorov's statistic is above ``x``: 2 * sum of (-1)^(k-1) * exp(-2 k^2 x^2)."""
    if x < 0.3:
        # Below it is 1 to five digits, and the sum has too many terms.
        return 1.0
    total: float = sum((1 if k % 2 else -1) * math.exp(-2 * k * k * x * x) for k in range(1, 21))
    return min(1.0, max(0.0, 2 * total))


def chi_square(reference: Counts, current: Counts) -> tuple[float, float]:
    """Return Cohen's w of two samples in the same bins, and the p-value of Pearson's test that they have one origin.

    The test is that of homogeneity (Pearson 1911) of the table of two rows, without bins that are empty in both; w is
    the root of sum((q - p)^2 / p) with the shares p of the reference (Cohen 1988: 0.1 small, 0.3 medium, 0.5 large).
    A bin that the reference lacks counts there as half a row.
    """
    pairs = [(one, other) for one, other in zip(reference, current, strict=True) if one or other]
    n, m = sum(one for one, _ in pairs), sum(other for _, other in pairs)
    if len(pairs) < 2 or not n or not m:
        return 0.0, 1.0
    statistic = 0.0
    for one, other in pairs:
        both = one + other
        for found, size in ((one, n), (other, m)):
            expected = both * size / (n + m)
            statistic += (found - expected) ** 2 / expected
    effect = sum((other / m - one / n) ** 2 / (max(one, 0.5) / n) for one, other in pairs)
    return math.sqrt(effect), upper_gamma((len(pairs) - 1) / 2, statistic / 2)


def fewer(right: int, of: int, reference_right: int, reference_of: int) -> float:
    """Return the p-value of the one-sided test that a share is not lower than that of a reference.

    The score test of two independent proportions with pooled variance (Fleiss, Statistical Methods for Rates, 1981).
    """
    if not of or not reference_of:
        return 1.0
    pooled = (right + reference_right) / (of + reference_of)
    variance = pooled * (1 - pooled) * (1 / of + 1 / reference_of)
    if variance == 0:
        return 1.0
    z = (right / of - reference_right / reference_of) / math.sqrt(variance)
    return 0.5 * math.erfc(-z / math.sqrt(2))


def larger(mean: float, deviation: float, of: int, reference: float, reference_deviation: float, n: int) -> float:
    """Return the p-value of the one-sided test that a mean is not larger than that of a reference.

    Welch's statistic (1947) with the normal distribution, which that of Student is at the hundreds of rows that a rule
    needs.
    """
    if of < 2 or n < 2:
        return 1.0
    variance = deviation**2 / of + reference_deviation**2 / n
    if variance == 0:
        return 0.0 if mean > reference else 1.0
    return 0.5 * math.erfc((mean - reference) / math.sqrt(2 * variance))


def upper_gamma(a: float, x: float) -> float:
    """Return the regularized upper incomplete gamma function Q(a, x); Q(k / 2, x / 2) is chi-square's p-value.

    Series below a + 1, continued fraction (Lentz) above: Numerical Recipes, 6.2.
    """
    if x <= 0:
        return 1.0
    front = math.exp(-x + a * math.log(x) - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        at = a
        while abs(term) > abs(total) * 1e-15:
            at += 1
            term *= x / at
            total += term
        return max(0.0, 1 - total * front)
    return min(1.0, front * _fraction(a, x))


def _fraction(a: float, x: float) -> float:
    """Return the continued fraction of the upper incomplete gamma function."""
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    found = d
    for i in range(1, 10_000):
        an = -i * (i - a)
        b += 2
        d = 1 / _apart(an * d + b, tiny)
        c = _apart(b + an / c, tiny)
        change = d * c
        found *= change
        if abs(change - 1) < 1e-15:
            break
    return found


def _apart(value: float, tiny: float) -> float:
    return value if abs(value) >= tiny else tiny


def _shares(counts: Counts) -> list[float]:
    total = sum(counts)
    return [each / total if total else 0.0 for each in counts]
