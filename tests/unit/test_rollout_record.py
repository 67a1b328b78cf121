"""The plan of a rollout and what its record says of each step; no endpoint."""

import json
from dataclasses import replace

import pytest
from modelway.endpoints.base import EndpointStatus, Mirror, PredictorMetrics, PredictorStatus
from modelway.endpoints.judge import Step
from modelway.errors import RolloutAborted, RolloutChanged
from modelway.lineage.records.rollout import has_moved, step_texts
from modelway.lineage.records.steering import Steering, steered
from modelway.lineage.records.version import RolloutRecord
from modelway.runs.rollout_record import (
    UNREADY_SECONDS,
    Settings,
    aborted,
    begun,
    finished_step,
    gives_up_at,
    holds_until,
    looked,
    moving,
    plan_of,
    planned,
    results_of,
)
from modelway.runs.steered import Held

BEGUN = RolloutRecord(endpoint="m", run_id="m/2", model="m", version=2, state="running", detail={"stable": 1})


def status(*, weights=(90, 10), ready=True, restarts=0):
    predictors = (
        PredictorStatus(name="v1", version=1, image="i", weight=weights[0], ready=True, url="u"),
        PredictorStatus(name="v2", version=2, image="i", weight=weights[1], ready=ready, url="u", restarts=restarts),
    )
    return EndpointStatus(name="m", model="m", url="u", predictors=predictors, stable="v1", ready=True)


def metrics(*, stable=(0, 0), new=(0, 0)):
    def one(requests, errors):
        others = dict.fromkeys(("client_errors", "broken_answers", "rerouted", "since"), 0)
        return PredictorMetrics(requests=requests, server_errors=errors, **others)

    return {"v1": one(*stable), "v2": one(*new)}


def first_step(settings=None):
    record = planned(BEGUN, settings or Settings(steps=(10, 100)), target="local")
    return begun(moving(record), metrics=metrics(), restarts=0, now=1000.0)


def look(record, *, now, **seen):
    counts = {name: seen.pop(name) for name in ("stable", "new") if name in seen}
    return looked(record, status=status(**seen), metrics=metrics(**counts), now=now)


def test_steps_get_what_they_leave_out_from_the_rollout():
    steps = (10, {"weight": 50, "hold": "10m", "requests": 7}, 100)
    assert Settings(steps=steps, interval_seconds=30, minimum_requests=200).plan() == [
        Step(weight=10, hold_seconds=30, requests=200),
        Step(weight=50, hold_seconds=600, requests=7),
        Step(weight=100, hold_seconds=30, requests=0),
    ]
    # As a template gives them.
    assert [step.weight for step in Settings(steps=["10", "100"]).plan()] == [10, 100]


@pytest.mark.parametrize("mirror", [None, Mirror(predictor="v1"), Mirror(predictor="v2", percent=50)])
def test_the_split_of_a_version_that_gets_copies_is_not_judged(mirror):
    """Its servers count copies and requests alike."""
    found = replace(status(), mirror=mirror)
    counts = metrics(stable=(900, 0), new=(1000, 0))
    record, verdict = looked(first_step(), status=found, metrics=counts, now=1020.0)
    copied = mirror is not None and mirror.predictor == "v2"
    assert ("more" in record.detail["evidence"]["tests"]) is not copied
    assert verdict.action == ("promote" if copied else "hold"), verdict.reason


def test_the_section_of_a_spec_is_what_a_version_is_judged_by():
    assert Settings().judged_by().latency_tolerance == 1.5
    found = Settings(analysis={"latency": False, "patience": "5m", "false_rollbacks": 0.01}).judged_by()
    assert (found.latency_tolerance, found.patience_seconds, found.false_rollbacks) == (None, 300, 0.01)


@pytest.mark.parametrize("detail", [{"stable": None}, {"stable": 1, "rollback": {"from": 3}}])
def test_the_first_version_and_a_return_to_an_earlier_one_have_one_step_at_once(detail):
    record = planned(replace(BEGUN, detail=detail), Settings(steps=(10, 100)), target="local")
    assert plan_of(record) == [Step(weight=100)]


def test_a_rollout_that_begins_held_has_its_share_first_and_the_steps_above_it_after():
    settings = Settings(steps=(10, 50, 100), held=Held(weight=30, by="mia", reason="a talk"))
    record = planned(BEGUN, settings, target="local")
    assert plan_of(record)[0] == Step(weight=30)
    assert record.detail["steps"] == [30, 50, 100]
    found = begun(moving(record), metrics=metrics(), restarts=0, now=1000.0).detail
    assert (found["held"], found["begun_by"]["weight"]) == ({"by": "mia", "reason": "a talk", "since": 1000.0}, 30)
    assert "leaves" not in found


def test_a_plan_stays_when_the_spec_changes():
    record = planned(BEGUN, Settings(steps=(10, 100)), target="local")
    again = planned(record, Settings(steps=(50, 100), analysis={"patience": "1m"}), target="local")
    assert again == record
    assert json.loads(json.dumps(record.detail, allow_nan=False)) == record.detail


def test_a_step_begins_with_its_time_and_nothing_counted():
    record = first_step()
    assert (record.step, "moving" in record.detail) == (0, False)
    assert (holds_until(record), gives_up_at(record)) == (1010.0, 4610.0)
    record, verdict = look(record, now=1011.0, stable=(1800, 9), new=(200, 1))
    assert verdict.action == "promote"
    assert json.loads(json.dumps(record.detail, allow_nan=False)) == record.detail
    (result,) = results_of(moving(record))
    assert result["counts"] == {"1": {"requests": 1800, "errors": 9}, "2": {"requests": 200, "errors": 1}}
    assert result["action"] == "promote"


def test_what_was_counted_while_the_weights_moved_is_left_out():
    record, _ = look(first_step(), now=1005.0, stable=(900, 0), new=(100, 0))
    record = begun(moving(record), metrics=metrics(stable=(950, 0), new=(150, 0)), restarts=0, now=1020.0)
    record, _ = look(record, now=1021.0, stable=(950, 0), new=(250, 0), weights=(0, 100))
    (_, last) = results_of(finished_step(record))
    assert last["counts"]["2"] == {"requests": 100, "errors": 0}


def test_a_version_that_is_not_ready_for_long_is_given_up():
    record, verdict = look(first_step(), now=1011.0, stable=(1800, 9), new=(200, 1), ready=False)
    assert (verdict.action, verdict.reason) == ("hold", "version 2 is not ready")
    record, verdict = look(record, now=1012.0, stable=(1800, 9), new=(200, 1))
    assert verdict.action == "promote"
    record, _ = look(record, now=1013.0, ready=False)
    record, verdict = look(record, now=1013.0 + UNREADY_SECONDS, ready=False)
    assert verdict.action == "hold"
    with pytest.raises(RolloutAborted, match="version 2 is not ready any more"):
        look(record, now=1014.0 + UNREADY_SECONDS, ready=False)


def test_a_server_that_ended_ends_the_rollout():
    with pytest.raises(RolloutAborted, match="the server of version 2 ended during this step"):
        look(first_step(), now=1001.0, restarts=1)
    begun_again = begun(moving(first_step()), metrics=metrics(), restarts=1, now=1020.0)
    look(begun_again, now=1021.0, restarts=1)


def test_a_weight_that_stays_changed_by_hand_ends_the_rollout():
    counts = {"stable": (1400, 0), "new": (600, 0), "weights": (70, 30)}
    record, verdict = look(first_step(), now=1011.0, **counts)
    assert (verdict.action, "was changed by hand" in verdict.reason) == ("hold", True)
    assert look(record, now=4611.0, **counts)[1].action == "rollback"


def test_a_rollout_that_is_aborted_says_why_in_its_last_step():
    record, _ = look(first_step(), now=1001.0, stable=(90, 0), new=(10, 9))
    closed = aborted(record, "9 of 10 failed")
    assert (closed.state, closed.detail["reason"]) == ("aborted", "9 of 10 failed")
    (result,) = results_of(closed)
    assert (result["action"], result["reason"]) == ("rollback", "9 of 10 failed")
    assert result["since"] == record.detail["since"]
    assert results_of(aborted(BEGUN, "by hand")) == results_of(aborted(moving(BEGUN), "by hand")) == []


def test_traffic_may_have_moved_as_soon_as_a_step_begins():
    assert not has_moved(BEGUN)
    assert has_moved(moving(BEGUN))
    assert has_moved(first_step())


def test_each_step_is_shown_in_a_few_texts_the_present_one_too():
    record, _ = look(first_step(), now=1011.0, stable=(1800, 9), new=(200, 1))
    record = begun(moving(record), metrics=metrics(stable=(1800, 9), new=(200, 1)), restarts=0, now=1020.0)
    record, _ = look(record, now=1021.0, stable=(1800, 9), new=(300, 1), weights=(0, 100))
    first, present = step_texts(record)
    assert (first.weight, first.new, first.stable) == ("10 %", "200 requests, 1 failed", "1,800 requests, 9 failed")
    assert first.result == "promote: nothing speaks against it"
    assert "errors " in first.evidence
    assert " of 66.67" in first.evidence
    assert (present.weight, present.result) == ("100 %", "hold: the step lasts 10s")
    earlier = {"stable": 1, "told": [{"weight": 10, "counts": {"2": {"requests": 5, "errors": 0}}}]}
    (only,) = step_texts(replace(record, detail=earlier, state="done"))
    assert (only.new, only.stable, only.evidence, only.result) == ("5 requests, 0 failed", "-", "-", "-")


def wish(act, *, step=0, by="mia", weight=None):
    return Steering(act=act, by=by, reason="why not", step=step, weight=weight)


GOOD = {"stable": (1800, 9), "new": (200, 1)}


def test_a_step_that_a_person_holds_lasts_until_somebody_continues_it():
    held = steered(first_step(), wish("hold"), now=1005.0)
    assert gives_up_at(held) == float("inf")
    for now in (1011.0, 99999.0):
        held, verdict = look(held, now=now, **GOOD)
        assert (verdict.action, verdict.reason) == ("hold", "held by mia: why not")
    continued = steered(held, wish("continue"), now=99999.0)
    assert "held" not in continued.detail
    assert look(continued, now=100003.0, **GOOD)[1].action == "hold", "the time of the hold is none of the step"
    assert look(continued, now=100005.0, **GOOD)[1].action == "promote"
    # One that does worse loses its traffic all the same.
    assert look(held, now=99999.0, stable=(1800, 9), new=(300, 90))[1].action == "rollback"
    assert json.loads(json.dumps(held.detail, allow_nan=False)) == held.detail


@pytest.mark.parametrize("act", [wish("promote"), wish("weight", weight=30)])
def test_a_step_that_was_held_for_days_is_ended_by_a_person_and_not_for_lack_of_requests(act):
    held = steered(first_step(), wish("hold"), now=1005.0)
    record, verdict = look(steered(held, act, now=200_000.0), now=200_001.0, stable=(900, 0), new=(5, 0))
    assert (verdict.action, verdict.reason) == ("promote", "mia ended the step: why not")
    assert holds_until(record) == 1010.0 + 200_000.0 - 1005.0


def test_a_person_ends_a_step_and_the_rest_of_the_plan():
    record = first_step(Settings(steps=(10, 20, 50, 100), interval_seconds=600))
    record, verdict = look(steered(record, wish("promote"), now=1001.0), now=1001.0)
    assert (verdict.action, verdict.reason) == ("promote", "mia ended the step: why not")
    assert [step.weight for step in plan_of(record)] == [10, 100]
    unready = look(record, now=1002.0, ready=False)[1]
    assert unready.action == "hold", "a version that is not ready gets no more traffic"
    last = begun(moving(record), metrics=metrics(), restarts=0, now=1003.0)
    assert look(last, now=1004.0, weights=(0, 100))[1].action == "hold"
    ended = look(steered(last, wish("promote", step=1), now=1004.0), now=1004.0, weights=(0, 100))[0]
    assert (len(plan_of(ended)), ended.detail["verdict"]["action"]) == (2, "promote")


@pytest.mark.parametrize(("weight", "rest"), [(15, [15, 20, 50, 100]), (5, [5, 20, 50, 100]), (60, [60, 100])])
def test_a_share_that_a_person_sets_is_held_and_then_the_plan_continues(weight, rest):
    record = first_step(Settings(steps=(10, 20, 50, 100)))
    record = steered(record, wish("weight", weight=weight), now=1001.0)
    assert [step.weight for step in plan_of(record)] == [10, *rest]
    assert look(record, now=1001.0)[1].action == "promote"
    record = begun(moving(record), metrics=metrics(), restarts=0, now=1002.0)
    weights = (100 - weight, weight)
    assert look(record, now=9000.0, weights=weights)[1].reason == "held by mia: why not"
    record = steered(record, wish("continue", step=1), now=9000.0)
    assert look(record, now=9001.0, weights=weights)[1].action == "promote"


@pytest.mark.parametrize(
    ("change", "act", "why"),
    [
        ({}, wish("continue"), "nobody holds it any more"),
        ({"held": {"by": "eve", "reason": "lunch", "since": 1.0}}, wish("hold"), "eve holds it already: lunch"),
        ({"leaves": {"by": "eve", "reason": "late"}}, wish("hold"), "eve ended this step a moment ago: late"),
        ({"moving": True}, wish("hold"), "is about to begin a step"),
        ({"waits_for": "approval"}, wish("promote"), "waits for a person's answer"),
        ({"finishing": {"alias": None}}, wish("hold"), "version 2 is taking over"),
        ({}, wish("weight", step=1, weight=5), "is at 10 % by now"),
    ],
)
def test_who_comes_second_or_too_late_is_refused(change, act, why):
    record = first_step()
    with pytest.raises(RolloutChanged, match=why):
        steered(replace(record, detail={**record.detail, **change}), act, now=2000.0)


def test_nothing_is_done_to_a_rollout_without_a_step_or_that_is_over():
    with pytest.raises(RolloutChanged, match="is about to begin a step"):
        steered(BEGUN, wish("hold", step=-1), now=1.0)
    with pytest.raises(RolloutChanged, match="is over: by hand"):
        steered(aborted(first_step(), "by hand"), wish("hold"), now=1.0)
