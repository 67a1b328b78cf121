"""What the monitor says of a window, and when it requests a retraining: once, confirmed, and not too often."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from modelway.monitor.compare import (
    DRIFT,
    QUALITY,
    SCHEMA,
    STALENESS,
    Finding,
    find_drift,
    find_larger_error,
    find_limit,
    find_schema_change,
    find_worse_quality,
)
from modelway.monitor.decide import Alarm, Decision, Past, decide, requested
from modelway.monitor.reference import Reference, Tally
from modelway.monitor.rules import DAY, DriftRule, QualityRule, Rules
from modelway.server.core.signature import TensorSpec
from modelway.sketches import Counts

INPUTS = (TensorSpec("x", "FP32", (-1, 3)), TensorSpec("kind", "BYTES", (-1,)))
OUTPUTS = (TensorSpec("scores", "FP32", (-1, 4)),)
RULE = DriftRule(minimum_rows=200)
RULES = Rules(drift=RULE, quality=QualityRule())


def document(
    rows: int = 1000, *, seed: int = 0, shift: float = 0.0, kinds: str = "aab", first: float = 0.3
) -> dict[str, Any]:
    """Return what a server counts of so many rows."""
    generator = np.random.default_rng(seed)
    x = generator.normal(0, 1, (rows, 3)) + [shift, 0, 0]
    kind = generator.choice(list(kinds), rows).astype(object)
    others = (1 - first) / 3
    scores = np.eye(4)[generator.choice(4, rows, p=[first, others, others, others])]
    counts = Counts(inputs=INPUTS, outputs=OUTPUTS)
    counts.add({"x": [x], "kind": [kind]}, {"scores": [scores]})
    return {"rows": rows, "quality": {"labelled": rows, "right": int(0.9 * rows)}, **counts.documents()}


REFERENCE = Reference.of(document())


def window(**changed: Any) -> dict[str, Tally]:
    return REFERENCE.count(document(**{"seed": 1, **changed}))


def test_a_reference_survives_the_lineage() -> None:
    assert Reference.from_dict(REFERENCE.to_dict()) == REFERENCE
    keys = [feature.key for feature in REFERENCE.features]
    assert keys == [
        "input x[0]",
        "input x[1]",
        "input x[2]",
        "input kind",
        *(f"output scores[{at}]" for at in range(4)),
        "class scores",
    ]


def test_tallies_add_up_and_what_is_new_is_their_difference() -> None:
    one, other = window(rows=300), window(rows=500, seed=2)
    for key, tally in one.items():
        assert tally.plus(other[key]).plus(tally, -1) == other[key]
        assert Tally.from_list(tally.to_list()) == tally
        # A server that began anew has fewer than before: nothing is less than none.
        assert min(tally.plus(other[key], -1).bins) >= 0


def test_the_same_distribution_is_no_drift_and_a_shift_is() -> None:
    same = find_drift(REFERENCE, window(), RULE)
    assert (same.is_over, same.is_clear, same.is_undecided) == (False, True, False)
    shifted = find_drift(REFERENCE, window(shift=1.0), RULE)
    assert shifted.is_over
    assert shifted.reason.startswith("drift of 1 of 9 features on 1,000 rows: input x[0]: PSI ")
    classes = find_drift(REFERENCE, window(first=0.7), RULE)
    assert classes.is_over
    assert "class scores" in classes.reason


def test_many_rows_with_a_small_difference_are_no_drift() -> None:
    """Its p-value says that it is real; the floor that it does not matter."""
    found = find_drift(
        Reference.of(document(20_000)), Reference.of(document(20_000)).count(document(20_000, seed=1, shift=0.1)), RULE
    )
    assert (found.is_over, found.is_clear) == (False, True)


@pytest.mark.parametrize("rows", [0, 1, 199])
def test_an_empty_window_and_one_of_few_rows_decide_nothing(rows: int) -> None:
    found = find_drift(REFERENCE, window(rows=rows) if rows else {}, RULE)
    assert (found.is_over, found.is_clear, found.is_undecided) == (False, False, True)
    assert find_schema_change(REFERENCE, {}, RULE).is_undecided


def test_a_window_of_one_category() -> None:
    alone = Reference.of(document(kinds="a"))
    assert not find_drift(alone, alone.count(document(seed=1, kinds="a")), RULE).is_over
    # The reference has two.
    assert find_drift(REFERENCE, window(kinds="b"), RULE).is_over


def test_a_new_category_is_a_schema_change_that_rebuilds_and_no_drift_is() -> None:
    found = find_schema_change(REFERENCE, window(kinds="aabz"), RULE)
    assert found.is_over
    assert found.rebuilds
    assert "input kind is of a new category in" in found.reason
    shifted = find_schema_change(REFERENCE, window(shift=0.5), RULE)
    assert (shifted.is_over, shifted.is_clear) == (False, True)
    assert not find_drift(REFERENCE, window(shift=1.0), RULE).rebuilds


def test_another_range() -> None:
    assert "input x[0] is out of its range" in find_schema_change(REFERENCE, window(shift=100.0), RULE).reason


def texts(values: list[str]) -> dict[str, Any]:
    """Return what a server counts of these values of a column of text."""
    counts = Counts(inputs=INPUTS[1:], outputs=())
    counts.add({"kind": [np.array(values, dtype=object)]}, {})
    return {"rows": len(values), **counts.documents()}


def test_an_empty_text_is_a_category_like_others() -> None:
    values = ["", "a", "b"] * 100
    known = Reference.of(texts(values))
    assert known.features[0].categories == ("", "a", "b")
    assert find_schema_change(known, known.count(texts(values)), RULE).is_clear
    assert not find_drift(known, known.count(texts(values)), RULE).is_over
    # Where the reference has none it is new.
    other = Reference.of(texts(["a", "b"] * 150))
    assert find_schema_change(other, other.count(texts(values)), RULE).is_over


@pytest.mark.parametrize("is_of_earlier", [False, True])
def test_a_column_with_more_texts_than_are_counted_is_not_compared(is_of_earlier: bool) -> None:
    def drawn(seed: int) -> dict[str, Any]:
        found = texts([f"name {each}" for each in np.random.default_rng(seed).integers(0, 500, 1000)])
        if is_of_earlier:
            (column,) = found["inputs"]
            column["strings"][""] = column.pop("others")
        return found

    known = Reference.of(drawn(0))
    assert known.features[0].tally.rows == 1000
    assert find_schema_change(known, known.count(drawn(1)), RULE).is_clear
    assert find_drift(known, known.count(drawn(1)), RULE).is_undecided
    # Another type is one, nevertheless.
    numbers = known.features[0].count({"count": 500, "buckets": {"0": 500}})
    assert find_schema_change(known, {"input kind": numbers}, RULE).is_over


def test_chance_alone_does_not_end_an_alarm_whose_effect_is_near_its_floor() -> None:
    (x, *_), few = REFERENCE.features, DriftRule(minimum_rows=10, alpha=1e-9)
    alone = replace(REFERENCE, features=(x,))

    def found(shift: float) -> Finding:
        bins = document(60, seed=3, shift=shift)
        return find_drift(alone, alone.count(bins), few)

    near, far = found(0.4), found(0.0)
    assert near.numbers["effects"][0]["strength"] >= 0.75
    assert (near.is_over, near.is_clear) == (False, False)
    assert far.numbers["effects"][0]["strength"] < 0.75
    assert far.is_clear


def test_a_column_of_nan_is_missing() -> None:
    tallies = window()
    counts = Counts(inputs=INPUTS, outputs=OUTPUTS)
    counts.add({"x": [np.full((1000, 3), np.nan)], "kind": [np.array(["a"] * 1000, dtype=object)]}, {})
    nothing = REFERENCE.count(counts.documents())
    tallies |= {"input x[1]": nothing["input x[1]"]}
    assert (
        "input x[1] is missing in 100% of the rows (0% before)" in find_schema_change(REFERENCE, tallies, RULE).reason
    )
    found = find_drift(REFERENCE, tallies, RULE)
    assert (found.is_over, found.is_undecided) == (False, False)
    # All of it: nothing can be compared, and that is said.
    assert find_drift(REFERENCE, {"input x[1]": nothing["input x[1]"]}, RULE).is_undecided


def test_another_type() -> None:
    text = {"name": "x", "position": [0], "count": 500, "strings": {"1,5": 500}}
    tallies = window() | {"input x[0]": REFERENCE.features[0].count(text)}
    assert "input x[0] has another type" in find_schema_change(REFERENCE, tallies, RULE).reason


def test_worse_quality() -> None:
    rule = QualityRule(minimum_labels=100)
    assert (
        find_worse_quality(REFERENCE, 70, 100, rule).reason
        == "70.0% of 100 labelled predictions are right, 90.0% at freezing"
    )
    assert find_worse_quality(REFERENCE, 88, 100, rule).is_clear
    assert find_worse_quality(REFERENCE, 84, 100, rule).is_over is False
    assert find_worse_quality(REFERENCE, 0, 99, rule).is_undecided
    assert find_worse_quality(replace(REFERENCE, labelled=0), 0, 500, rule).is_undecided


def test_a_larger_error_of_predicted_numbers() -> None:
    rule = QualityRule(minimum_labels=100)
    known = replace(REFERENCE, labelled=1000, error=2.0, deviation=1.0)

    def found(labelled: int, error: float) -> Finding:
        # Half of the errors are 0.5 less, half 0.5 more.
        return find_larger_error(known, labelled, labelled * error, labelled * (error**2 + 0.25), rule)

    assert found(400, 2.6).reason == "the mean error of 400 labelled predictions is 2.6, 2 at freezing"
    assert (found(400, 2.1).is_over, found(400, 2.1).is_clear) == (False, True)
    assert (found(400, 2.3).is_over, found(400, 2.3).is_clear) == (False, False)
    assert found(99, 9.0).is_undecided
    # Few rows that vary much prove nothing.
    assert not find_larger_error(known, 100, 260.0, 100 * (2.6**2 + 900), rule).is_over


def over(rule: str = DRIFT) -> Finding:
    return Finding(rule=rule, is_over=True, reason=f"{rule} it is")


CLEAR, BETWEEN, UNDECIDED = (
    Finding(rule=DRIFT, is_clear=True),
    Finding(rule=DRIFT),
    Finding(rule=DRIFT, is_undecided=True),
)


class Watch:
    """Checks in turn, an hour apart, with what they requested."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.rules, self.now = rules, 1e9
        self.alarms: dict[str, Alarm] = {}
        self.past: list[Past] = []

    def check(self, *findings: Finding, hours: float = 1) -> Decision:
        self.now += hours * 3600
        # As a monitor that was restarted has them.
        alarms = {rule: Alarm.from_dict(alarm.to_dict()) for rule, alarm in self.alarms.items()}
        found = decide(self.rules, findings, alarms=alarms, past=self.past, now=self.now)
        self.alarms = dict(found.alarms)
        if found.finding:
            self.past.append(Past(id=len(self.past) + 1, at=self.now, in_flight=True, failed=False))
            self.alarms = dict(requested(found, len(self.past)))
        return found

    def end(self, *, failed: bool) -> None:
        self.past[-1] = replace(self.past[-1], in_flight=False, failed=failed)


def test_one_request_for_an_event_that_two_checks_in_a_row_confirm() -> None:
    watch = Watch()
    assert watch.check(over()).finding is None
    assert watch.check(BETWEEN).finding is None
    assert watch.check(over()).finding is None
    # What is undecided changes nothing.
    assert watch.check(UNDECIDED).finding is None
    assert watch.check(over()).finding == over()
    watch.end(failed=False)
    for _ in range(24 * 30):
        assert watch.check(over()).finding is None
    # It ends and comes again: another event.
    watch.check(CLEAR)
    watch.check(over())
    assert watch.check(over()).finding is not None
    assert len(watch.past) == 2


def test_it_hovers_about_its_limit_and_stays_one_event() -> None:
    watch = Watch()
    for finding in (over(), over(), BETWEEN, over(), BETWEEN, UNDECIDED, over(), over()) * 50:
        watch.check(finding)
        if watch.past:
            watch.end(failed=False)
    assert len(watch.past) == 1


def test_one_retraining_is_in_flight_at_a_time_and_another_rule_waits() -> None:
    watch = Watch(replace(RULES, cool_down_seconds=3600, budget_per_week=9))
    watch.check(over())
    watch.check(over())
    for _ in range(5):
        waiting = watch.check(over(), over(QUALITY))
    assert (waiting.finding, waiting.waits) == (None, "a retraining is in flight")
    watch.end(failed=False)
    assert watch.check(over(), over(QUALITY)).finding == over(QUALITY)


def test_a_failed_run_is_requested_again_after_the_cool_down() -> None:
    watch = Watch(replace(RULES, cool_down_seconds=DAY, budget_per_week=1))
    watch.check(over())
    watch.check(over())
    watch.end(failed=True)
    waiting = watch.check(over())
    assert (waiting.finding, waiting.waits) == (None, "it cools down for 23.0 more hours")
    assert watch.check(over(), hours=23).finding == over()
    watch.end(failed=True)
    # Those that failed cost no budget.
    assert watch.check(over(), hours=25).finding == over()


def test_a_budget_is_of_the_runs_that_did_not_fail() -> None:
    watch = Watch(replace(RULES, cool_down_seconds=DAY, budget_per_week=2))
    for rule in (DRIFT, QUALITY):
        watch.check(over(rule), hours=25)
        assert watch.check(over(rule)).finding == over(rule)
        watch.end(failed=False)
    watch.check(over(STALENESS), hours=25)
    assert watch.check(over(STALENESS)).waits == "the budget of 2 a week is spent"
    assert watch.check(over(STALENESS), hours=7 * 24).finding == over(STALENESS)


def test_a_schema_change_goes_first_and_is_for_the_other_rules_too() -> None:
    watch = Watch()
    for _ in range(2):
        found = watch.check(over(), over(SCHEMA), over(STALENESS))
    assert found.finding == over(SCHEMA)
    assert {alarm.request for alarm in watch.alarms.values() if alarm.raised_at} == {1}


def test_an_age() -> None:
    assert find_limit(STALENESS, 10, 20, "old").is_clear
    assert find_limit(STALENESS, 20, 20, "it is old").reason == "it is old"
