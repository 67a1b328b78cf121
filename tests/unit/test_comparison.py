"""A new version against another one: the intervals, their coverage, and which gates they pass."""

from typing import Any

import numpy
import pytest
from modelway.errors import VerificationFailed
from modelway.fields.refusal import Refusal
from modelway.job.row_metrics import MOST_ROWS, RowMetrics, metrics_file, read_row_metrics, write_row_metrics
from modelway.lineage.records.verification import comparison_text, verified_text
from modelway.runs.comparison import Comparison, Measured, OtherVersion, compare
from modelway.runs.gates import check_gates, worse_reason
from modelway.runs.paired import mean_interval, paired_interval, t_quantile
from modelway.spec.gates import VersionGate, parse_any_gate, parse_gate

ROWS = 400


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        (">= champion", VersionGate(">=", "champion")),
        (">= champion - 0.005", VersionGate(">=", "champion", margin=-0.005)),
        ("<v3 +1e-3", VersionGate("<", "v3", margin=0.001)),
        ("<= champion * 1.05", VersionGate("<=", "champion", factor=1.05)),
        ("> latest", VersionGate(">", "latest")),
        (">= nightly.eu", VersionGate(">=", "nightly.eu")),
    ],
)
def test_a_gate_compares_with_a_version(text: str, gate: VersionGate) -> None:
    assert parse_any_gate(text) == gate
    assert parse_any_gate(str(gate)) == gate


def test_a_constraint_compares_with_a_number_alone() -> None:
    with pytest.raises(Refusal, match="only verify.gates can"):
        parse_gate(">= champion")


# Of the t distribution, from a table: at 95 % one-sided.
@pytest.mark.parametrize(("freedom", "quantile"), [(9, 1.8331), (30, 1.6973), (100, 1.6602), (1_000_000, 1.6449)])
def test_quantiles_of_the_t_distribution(freedom: int, quantile: float) -> None:
    assert t_quantile(freedom) == pytest.approx(quantile, abs=5e-5)


@pytest.mark.parametrize(("better", "worse", "rows"), [(12, 2, 50), (0, 7, 90), (3, 0, 40)])
def test_at_a_bound_of_shares_the_score_is_the_quantile(better: int, worse: int, rows: int) -> None:
    """The likeliest shares with the difference of the bound are searched, not computed."""
    one, other = numpy.ones(rows), numpy.ones(rows)
    other[:better], one[better : better + worse] = 0, 0
    found = paired_interval(one, other)
    for bound, quantile in ((found.low, 1.6449), (found.high, -1.6449)):
        share = numpy.linspace(max(0, -bound), (1 - bound) / 2, 200_001)[1:-1]
        likelihood = better * numpy.log(share + bound) + worse * numpy.log(share)
        likelihood += (rows - better - worse) * numpy.log(1 - 2 * share - bound)
        likeliest = share[likelihood.argmax()]
        variance = rows * (2 * likeliest + bound - bound**2)
        assert (better - worse - rows * bound) / variance**0.5 == pytest.approx(quantile, abs=2e-3)


def shares(generator: Any, *, better: float, worse: float, rows: int) -> tuple[Any, Any]:
    """Return right answers of two versions; the first alone is right in ``better`` of the rows."""
    draw = generator.random(rows)
    return ((draw < better) | (draw > better + worse)).astype(float), (draw >= better).astype(float)


def losses(generator: Any, *, rows: int) -> tuple[Any, Any]:
    """Return losses of two versions of the same rows: skewed, correlated, of equal means."""
    hard = generator.lognormal(0, 1, rows)
    return tuple(hard * generator.lognormal(0, 0.5, rows) for _ in range(2))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("better", "worse", "rows"), [(0.02, 0.02, 200), (0.01, 0.03, 400), (0.005, 0.005, 1000), (0.2, 0.1, 60)]
)
def test_each_bound_of_shares_is_missed_in_at_most_a_twentieth_of_simulated_comparisons(
    better: float, worse: float, rows: int
) -> None:
    generator = numpy.random.default_rng(7)
    found = [paired_interval(*shares(generator, better=better, worse=worse, rows=rows)) for _ in range(1000)]
    true = better - worse
    # 5 % and three standard errors of 1,000 simulations.
    assert sum(each.low > true for each in found) <= 71
    assert sum(each.high < true for each in found) <= 71
    assert sum(each.low <= true <= each.high for each in found) < 1000, "it is not merely wide"


def test_each_bound_of_losses_is_missed_in_at_most_a_twentieth_of_simulated_comparisons() -> None:
    generator = numpy.random.default_rng(7)
    found = [paired_interval(*losses(generator, rows=100)) for _ in range(1000)]
    for missed in (sum(each.low > 0 for each in found), sum(each.high < 0 for each in found)):
        assert 20 <= missed <= 71


def test_a_luckier_version_does_not_replace_a_better_one() -> None:
    """The new version is worse by the margin; by its number alone it would pass in half of all retrainings."""
    generator, numbers, gate = numpy.random.default_rng(3), 0, VersionGate(">=", "champion", margin=-0.01)
    passed = 0
    for _ in range(500):
        mine, its = shares(generator, better=0.01, worse=0.02, rows=1000)
        numbers += gate.passes(mine.mean() - its.mean())
        passed += found_of(gate, mine, its).passes
    assert numbers > 200
    assert passed <= 40


def found_of(gate: VersionGate, mine: Any, its: Any) -> Comparison:
    return compare("accuracy", gate, candidate=measured(accuracy=mine), other=champion(accuracy=its))


def measured(*, rows: Any = None, by_definition: bool = False, **values: Any) -> Measured:
    count = len(next(iter(values.values())))
    made = RowMetrics.of_rows(values, rows=range(count) if rows is None else rows, by_definition=by_definition)
    return Measured(metrics=made.means, sets=(made,))


def champion(**values: Any) -> OtherVersion:
    return OtherVersion(reference="champion", version=7, measured=measured(**values))


def right(wrong: int, *, rows: int = ROWS) -> Any:
    return numpy.array([0.0] * wrong + [1.0] * (rows - wrong))


def test_versions_that_answer_alike_differ_by_nothing_but_an_interval_remains() -> None:
    found = paired_interval(right(4), right(4))
    assert (found.difference, found.low < 0 < found.high) == (0, True)
    assert paired_interval(right(4), right(4), factor=1.5).method == "paired t interval"


def test_too_few_rows_have_no_interval() -> None:
    with pytest.raises(ValueError, match="9 rows cannot be compared with 9: at least 10 are needed"):
        paired_interval(right(1, rows=9), right(2, rows=9))
    with pytest.raises(VerificationFailed, match=r"champion \(v7\) cannot be compared: 9 rows"):
        found_of(VersionGate(">=", "champion"), right(1, rows=9), right(2, rows=9))


def test_a_missed_comparison_says_how_many_rows_could_show_it() -> None:
    gate, mine, its = VersionGate(">=", "champion"), right(8), right(9)
    found = found_of(gate, mine, its)
    assert not found.passes
    assert found.rows_needed
    assert found.rows_needed > ROWS
    scale = -(-found.rows_needed // ROWS)
    assert found_of(gate, numpy.tile(mine, scale), numpy.tile(its, scale)).passes
    with pytest.raises(VerificationFailed) as caught:
        check_gates(
            gates={"accuracy": ">= champion"},
            metrics={"accuracy": 0.98},
            candidate=measured(accuracy=mine),
            others={"champion": champion(accuracy=its)},
        )
    assert str(caught.value).startswith(
        "the model misses 1 of 1 gates: accuracy is 0.98, that of champion (v7) 0.9775, must be >= champion: "
        f"the difference +0.0025 is at least {found.low:+.4g} with 95% confidence, on 400 rows; about "
        f"{found.rows_needed:,} rows could show that it is"
    )


def test_a_worse_version_may_be_accepted_for_its_record_alone() -> None:
    gates: dict[str, Any] = {
        "gates": {"accuracy": ">= champion"},
        "metrics": {"accuracy": 0.98},
        "candidate": measured(accuracy=right(8)),
        "others": {"champion": champion(accuracy=right(9))},
    }
    (found,) = check_gates(**gates, accept_worse=True)
    assert worse_reason([found.to_dict()]) == (
        "accuracy is 0.98, that of champion (v7) is 0.9775, must be >= champion: the version is registered and not "
        "rolled out"
    )
    assert worse_reason([]) is worse_reason([{**found.to_dict(), "passes": True}]) is None
    # A number that is missed is missed.
    with pytest.raises(VerificationFailed, match=r"misses 1 of 2 gates: loss is 3, must be <= 1"):
        check_gates(
            **{**gates, "gates": {**gates["gates"], "loss": "<= 1"}, "metrics": {"accuracy": 0.98, "loss": 3}},
            accept_worse=True,
        )


def test_a_gate_for_less_needs_the_upper_bound() -> None:
    generator = numpy.random.default_rng(1)
    its = generator.lognormal(0, 0.3, ROWS)
    for factor, passes in ((1.0, True), (0.85, False)):
        gate = VersionGate("<=", "champion", factor=factor)
        found = compare("loss", gate, candidate=measured(loss=its * 0.9), other=champion(loss=its))
        assert found.passes is passes
        assert found.high is not None
        assert passes is (found.high <= 0)


def test_metrics_of_predictions_are_found_by_their_definition() -> None:
    mine = Measured(
        metrics={"acc": 0.98}, sets=measured(by_definition=True, accuracy=right(8), error=1 - right(8)).sets
    )
    other = OtherVersion(
        reference="v3",
        version=3,
        measured=Measured(metrics={"loss": 1.0}, sets=measured(by_definition=True, accuracy=right(20)).sets),
    )
    found = compare("acc", VersionGate(">", "v3"), candidate=mine, other=other)
    assert (found.value, found.other, found.passes) == (0.98, 0.95, True)


def test_standard_errors_give_an_interval_as_of_different_rows() -> None:
    mine = Measured(metrics={"loss": 0.5, "loss_stderr": 0.03})
    other = OtherVersion(
        reference="champion", version=7, measured=Measured(metrics={"loss": 0.58, "loss_stderr": 0.04})
    )
    found = compare("loss", VersionGate("<=", "champion"), candidate=mine, other=other)
    assert (found.method, found.rows) == ("interval by standard errors", None)
    assert found.high == pytest.approx(-0.08 + 1.6449 * 0.05, abs=1e-4)
    assert not found.passes
    assert mean_interval(1, 1, errors=(0.0, 0.0)).low == 0


@pytest.mark.parametrize(
    ("metrics", "match"),
    [
        ({"auc": 0.9}, r"champion \(v7\) cannot be compared: its evaluate returned no 'loss', only auc"),
        ({"loss": None}, r"champion \(v7\) cannot be compared: its loss is not a finite number"),
    ],
)
def test_a_version_without_the_metric_is_refused(metrics: dict[str, float | None], match: str) -> None:
    other = OtherVersion(reference="champion", version=7, measured=Measured(metrics=metrics))
    with pytest.raises(VerificationFailed, match=match):
        compare("loss", VersionGate("<=", "champion"), candidate=Measured(metrics={"loss": 0.5}), other=other)


def test_a_gate_with_a_version_that_no_task_evaluated_is_missed() -> None:
    with pytest.raises(VerificationFailed, match="loss must be <= champion, and no task evaluated champion"):
        check_gates(gates={"loss": "<= champion"}, metrics={"loss": 0.1})


def test_the_record_is_one_sentence() -> None:
    found = found_of(VersionGate(">=", "champion", margin=-0.02), right(8), right(10)).to_dict()
    sentence = comparison_text(found)
    assert sentence.startswith("accuracy 0.98 against 0.975 of champion (v7): +0.005, between -0.00")
    assert sentence.endswith("on 400 rows (paired score interval)")
    assert sentence in verified_text({"rows": 0, "comparisons": [found]})
    none = OtherVersion(reference="champion", reason="there is no version 'champion'")
    nothing = compare("loss", VersionGate("<=", "champion"), candidate=Measured(metrics={"loss": 1.0}), other=none)
    assert comparison_text(nothing.to_dict()) == "loss <= champion: not compared: there is no version 'champion'"


def test_rows_are_the_same_by_ids_or_true_values_of_any_type(tmp_path: Any) -> None:
    known = [RowMetrics.of_rows({"m": [1, 2]}, rows=rows, by_definition=False).rows for rows in ([1, 2], ["a", "b"])]
    assert RowMetrics.of_rows({"m": [3, 4]}, rows=numpy.array([1, 2], "int32"), by_definition=False).rows == known[0]
    assert RowMetrics.of_rows({"m": [3, 4]}, rows=numpy.array(["a", "b"], object), by_definition=False).rows == known[1]
    assert RowMetrics.of_rows({"m": [3, 4]}, rows=[2, 1], by_definition=False).rows not in known
    floats = [RowMetrics.of_rows({"m": [1]}, rows=numpy.array([0.1], kind), by_definition=False).rows for kind in "fd"]
    assert floats[0] == floats[1]


@pytest.mark.parametrize(
    ("values", "match"),
    [([1.0], r"the metric 'm' has the shape \[1\], there are 2 rows"), ([1.0, float("nan")], "not finite")],
)
def test_values_that_are_not_one_number_for_each_row_are_refused(values: list[float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        RowMetrics.of_rows({"m": values}, rows=[1, 2], by_definition=False)


def test_of_many_rows_the_same_ones_stay_and_the_mean_is_of_all(tmp_path: Any) -> None:
    values = numpy.arange(MOST_ROWS + 50_000) % 2
    made = RowMetrics.of_rows({"m": values}, rows=range(len(values)), by_definition=True)
    write_row_metrics(tmp_path, of="checkpoint", sets=[made])
    (found,) = read_row_metrics(metrics_file(tmp_path, "checkpoint"))
    assert (found.of, len(found.values["m"]), found.means) == (len(values), MOST_ROWS, {"m": 0.5})
    metrics_file(tmp_path, "checkpoint").write_bytes(b"0" * 100)
    with pytest.raises(ValueError, match="cannot be read"):
        read_row_metrics(metrics_file(tmp_path, "checkpoint"))
