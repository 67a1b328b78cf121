"""The monitor's statistics are scipy's, and windows that say nothing are no drift."""

import random

import numpy as np
import pytest
from modelway.monitor.statistics import chi_square, fewer, kolmogorov, larger, smirnov, stability_index, upper_gamma
from scipy import special, stats


@pytest.mark.parametrize("a", [0.5, 1, 2.5, 10, 63.5, 400])
@pytest.mark.parametrize("ratio", [0.01, 0.5, 0.99, 1.01, 2, 10])
def test_the_incomplete_gamma_function(a: float, ratio: float) -> None:
    assert upper_gamma(a, a * ratio) == pytest.approx(special.gammaincc(a, a * ratio), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("x", [0.1, 0.31, 0.5, 0.8, 1.36, 2.0, 5.0])
def test_kolmogorovs_distribution(x: float) -> None:
    assert kolmogorov(x) == pytest.approx(special.kolmogorov(x), rel=1e-9, abs=2e-5)


def samples(seed: int, shift: float, sizes: tuple[int, int] = (1000, 700)) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(0, 1, sizes[0]), generator.normal(shift, 1, sizes[1])


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5])
def test_smirnov_on_one_bin_for_each_value_is_that_of_the_values(shift: float) -> None:
    one, other = samples(1, shift)
    edges = np.sort(np.concatenate([one, other]))
    counts = [
        [int(n) for n in np.bincount(np.searchsorted(edges, each), minlength=len(edges))] for each in (one, other)
    ]
    distance, p = smirnov(*counts)
    expected = stats.ks_2samp(one, other, method="asymp")
    assert distance == pytest.approx(expected.statistic)
    # Stephens' correction makes it smaller in the second digit.
    assert p == pytest.approx(expected.pvalue, rel=0.2, abs=0.02)


def test_smirnov_on_bins_is_never_more_certain_than_on_the_values() -> None:
    for seed in range(20):
        one, other = samples(seed, 0.2)
        edges = np.quantile(one, np.arange(0.1, 1, 0.1))
        counts = [np.bincount(np.searchsorted(edges, each), minlength=10).tolist() for each in (one, other)]
        assert smirnov(*counts)[0] <= stats.ks_2samp(one, other).statistic + 1e-12


def test_chi_square() -> None:
    generator = random.Random(3)
    for size in (2, 5, 30):
        one, other = ([generator.randint(0, 50) for _ in range(size)] for _ in range(2))
        one[0], other[0] = 20, 0
        table = np.array([[a, b] for a, b in zip(one, other, strict=True) if a or b]).T
        expected = stats.chi2_contingency(table, correction=False)
        assert chi_square(one, other)[1] == pytest.approx(expected.pvalue, rel=1e-9)
    assert chi_square([500, 500], [300, 700])[0] == pytest.approx(0.4)


def test_the_share_of_right_answers() -> None:
    table = np.array([[80, 20], [950, 50]])
    both_sides = stats.chi2_contingency(table, correction=False).pvalue
    assert fewer(80, 100, 950, 1000) == pytest.approx(both_sides / 2, rel=1e-9)
    assert fewer(95, 100, 800, 1000) > 0.99
    assert fewer(10, 10, 100, 100) == fewer(0, 0, 1, 2) == 1.0


@pytest.mark.parametrize("shift", [-0.1, 0.0, 0.2])
def test_a_larger_mean(shift: float) -> None:
    one, other = samples(4, shift, (900, 2000))
    found = larger(other.mean(), other.std(ddof=1), len(other), one.mean(), one.std(ddof=1), len(one))
    expected = stats.ttest_ind(other, one, equal_var=False, alternative="greater").pvalue
    assert found == pytest.approx(expected, rel=0.02, abs=1e-6)
    assert (larger(2, 0, 9, 1, 0, 9), larger(1, 0, 9, 1, 0, 9), larger(9, 1, 1, 1, 1, 9)) == (0.0, 1.0, 1.0)


def test_the_stability_index() -> None:
    assert stability_index([10, 20, 70], [1, 2, 7]) == pytest.approx(0)
    assert stability_index([50, 50], [80, 20]) == pytest.approx(0.3 * np.log(1.6) - 0.3 * np.log(0.4))
    # As scipy has it: the sum of both Kullback-Leibler divergences.
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.4, 0.4, 0.2])
    assert stability_index(p * 100, q * 100) == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p))


@pytest.mark.parametrize("counts", [([], []), ([5], [7]), ([0, 0], [0, 0]), ([5, 5], [0, 0]), ([0, 9], [0, 3])])
def test_an_empty_window_and_one_of_one_category_are_no_drift(counts: tuple[list[int], list[int]]) -> None:
    assert chi_square(*counts) == (0.0, 1.0)
    assert smirnov(*counts)[1] == 1.0
