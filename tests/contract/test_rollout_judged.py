"""How a rollout is judged on a real endpoint: by real counts and by scripted ones, in the task and in the trigger."""

import asyncio
import json
import os
import signal
from dataclasses import replace

import httpx
import pytest
from airflow.sdk.exceptions import TaskDeferred
from modelway.endpoints.base import PredictorMetrics
from modelway.endpoints.local.endpoint import LocalEndpoint
from modelway.errors import EndpointNotReady, LineageUnavailable, RolloutAborted, RolloutChanged
from modelway.following.rollouts import abort_rollout
from modelway.hooks.settings import load_settings
from modelway.lineage.records.rollout import step_texts
from modelway.lineage.records.steering import Steering
from modelway.lineage.store import Lineage
from modelway.operators import promote
from modelway.runs import rollout_record
from modelway.runs.rollout import Rollout
from modelway.triggers import rollout as rollout_trigger
from modelway.triggers.rollout import RolloutTrigger

from tests.endpoint_clients import ask, eventually
from tests.rollout_shop import Killed, die_at_wait
from tests.tiny_model import infer_body


@pytest.fixture
def serving(served_shop, monkeypatch):
    """Version 1 serves, version 2 is made."""
    monkeypatch.setattr(promote, "LOOK_SECONDS", 0.05)
    return served_shop


class Counters:
    """What an endpoint counts from one look to the next, in place of its real counts."""

    def __init__(self, monkeypatch, **each):
        """Add (requests, errors) by predictor at each look."""
        self.each = each
        self.total = dict.fromkeys(each, (0, 0))
        self.since = 1.0
        self.out_of_reach = 0
        monkeypatch.setattr(LocalEndpoint, "metrics", lambda endpoint, name: self.read())

    def read(self):
        if self.out_of_reach:
            self.out_of_reach -= 1
            raise EndpointNotReady("the gateway does not answer")
        for name, (requests, errors) in self.each.items():
            before = self.total[name]
            self.total[name] = (before[0] + requests, before[1] + errors)
        return {name: self.metrics(*counts) for name, counts in self.total.items()}

    def metrics(self, requests, errors):
        nothing = dict.fromkeys(("client_errors", "broken_answers", "rerouted"), 0)
        return PredictorMetrics(requests=requests, server_errors=errors, since=self.since, **nothing)

    def restart(self):
        self.total, self.since = dict.fromkeys(self.each, (0, 0)), self.since + 1


def rollout_of(shop):
    return Rollout(store=shop.lineage, port=shop.endpoint, endpoint="tiny", run="tiny/run-2")


def begin(shop, monkeypatch, **options):
    """Begin the first step of version 2, whose worker then dies; return its deployment."""
    deployed = shop.deploy(2)
    with monkeypatch.context() as patch:
        die_at_wait(patch, 1)
        with pytest.raises(Killed):
            shop.promote(2, deployed, **options)
    return deployed


def abort(reason):
    who = {"endpoint": "tiny", "target": "local", "run": "tiny/run-2", "actor": "mia"}
    return abort_rollout(load_settings(), **who, reason=reason)


def test_a_version_that_answers_real_requests_well_is_promoted_with_the_numbers(serving, monkeypatch):
    deployed, asked, wait = serving.deploy(2), [], promote.PromoteModelOperator._wait
    url = serving.endpoint.status("tiny").url

    def ask_then_wait(self, rollout):
        asked.append(len(ask(url, 120)))
        wait(self, rollout)

    monkeypatch.setattr(promote.PromoteModelOperator, "_wait", ask_then_wait)
    done = serving.promote(2, deployed, steps=(50, 100), requests=20)
    first, last = done["steps"]
    assert first["action"] == last["action"] == "promote"
    assert sum(counts["requests"] for counts in first["counts"].values()) == asked[0]
    assert first["counts"]["2"]["requests"] >= 20
    assert {"failing", "split"} <= first["tests"].keys()
    assert all(each["e"] < each["limit"] for each in first["tests"].values())
    assert last["counts"] == {"1": {"requests": 0, "errors": 0}, "2": {"requests": 120, "errors": 0}}
    record = serving.rollout(2)
    assert record.detail["results"] == done["steps"]
    assert serving.lineage.version("tiny", 2).rollouts == (record,)
    evidence = rollout_record.evidence_of(record)
    assert evidence.canary.timed >= evidence.canary_total.requests > 120


def test_a_version_whose_requests_fail_is_rolled_back_with_the_numbers(serving, monkeypatch):
    deployed = serving.deploy(2)
    Counters(monkeypatch, v1=(90, 1), v2=(10, 4))
    with pytest.raises(RolloutAborted, match=r"of \d+ requests to the new version failed"):
        serving.promote(2, deployed, requests=100)
    assert (serving.weights, serving.champion) == ({1: 100, 2: 0}, 1)
    record = serving.rollout(2)
    assert (record.state, record.step) == ("aborted", 0)
    (step,) = record.detail["results"]
    assert (step["action"], step["reason"]) == ("rollback", record.detail["reason"])
    assert any(each["e"] > each["limit"] for each in step["tests"].values())


def test_a_version_whose_answers_are_not_finite_is_rolled_back_with_the_numbers(serving, monkeypatch):
    """Its golden answers are, and so are those to most callers."""
    serving.make(3, scale=4e37)
    deployed, wait = serving.deploy(3), promote.PromoteModelOperator._wait
    url = f"{serving.endpoint.status('tiny').url}/v2/models/tiny/infer"

    def ask_then_wait(self, rollout):
        with httpx.Client() as client:
            answers = [client.post(url, json=infer_body(value=10.0)) for _ in range(150)]
        assert {answer.status_code for answer in answers} == {200}
        wait(self, rollout)

    monkeypatch.setattr(promote.PromoteModelOperator, "_wait", ask_then_wait)
    with pytest.raises(RolloutAborted, match=r"of [\d,]+ answers of the new version are invalid, and 0 of"):
        serving.promote(3, deployed, steps=(50, 100), requests=20)
    assert (serving.weights, serving.champion) == ({1: 100, 3: 0}, 1)
    (step,) = serving.rollout(3).detail["results"]
    counts = step["counts"]["3"]
    assert (counts["errors"], counts["invalid"]) == (0, counts["requests"])
    assert step["tests"]["invalid"]["e"] > step["tests"]["invalid"]["limit"]
    assert step_texts(serving.rollout(3))[0].new.endswith(f"0 failed, {counts['invalid']} invalid")


def test_errors_that_the_stable_version_has_too_do_not_count(serving, monkeypatch):
    deployed = serving.deploy(2)
    Counters(monkeypatch, v1=(180, 9), v2=(20, 1))
    done = serving.promote(2, deployed, steps=(10, 100), requests=200)
    assert done["steps"][0]["counts"]["2"]["errors"] >= 10
    assert serving.champion == 2


def test_without_traffic_no_version_is_promoted(serving):
    deployed = serving.deploy(2)
    with pytest.raises(RolloutAborted, match="at 10 %: 0 of at least 100 requests reached the new version"):
        serving.promote(2, deployed, requests=100, analysis={"patience": "1s"})
    assert (serving.weights, serving.champion) == ({1: 100, 2: 0}, 1)


def test_a_step_of_its_own_time_and_requests_waits_for_both(serving):
    steps = [{"weight": 10, "hold": "10m", "requests": 7}, 100]
    with pytest.raises(TaskDeferred) as deferred:
        serving.promote(2, serving.deploy(2), steps=steps)
    first, last = rollout_record.plan_of(serving.rollout(2))
    assert (first.weight, first.hold_seconds, first.requests) == (10, 600, 7)
    assert (last.weight, last.hold_seconds, last.requests) == (100, 0, 0)
    assert deferred.value.trigger.step == 0


def test_a_gateway_that_restarts_in_mid_step_repeats_no_request_and_counts_on(serving, monkeypatch):
    begin(serving, monkeypatch, steps=(50, 100), requests=1000)
    rollout, url = rollout_of(serving), serving.endpoint.status("tiny").url
    ask(url, 30)
    rollout.inspect()
    folder = serving.home / "endpoints" / "tiny"
    pid = json.loads((folder / "state.json").read_text())["gateway"]["pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: serving.endpoint.status("tiny").gateway_ready and _pid(folder) != pid)
    assert rollout.inspect().action == "hold"
    ask(url, 20)
    assert rollout.inspect().action == "hold"
    evidence = rollout_record.evidence_of(rollout.record)
    assert evidence.canary_total.requests + evidence.stable_total.requests == 50


def _pid(folder):
    return json.loads((folder / "state.json").read_text())["gateway"]["pid"]


def test_killed_between_the_weights_and_their_record_a_retry_begins_the_step_again(serving, monkeypatch):
    deployed, save = serving.deploy(2), Lineage.save_rollout

    def die_at_the_second_step(self, record, **options):
        if record.step == 1:
            raise Killed
        return save(self, record, **options)

    Counters(monkeypatch, v1=(90, 0), v2=(10, 0))
    with monkeypatch.context() as patch:
        patch.setattr(Lineage, "save_rollout", die_at_the_second_step)
        with pytest.raises(Killed):
            serving.promote(2, deployed, steps=(10, 12, 100))
    assert serving.weights == {1: 88, 2: 12}
    assert (serving.rollout(2).step, serving.rollout(2).detail["moving"]) == (0, True)
    done = serving.promote(2, deployed, steps=(10, 12, 100))
    assert [step["weight"] for step in done["steps"]] == [10, 12, 100]
    assert (serving.weights, serving.champion) == ({2: 100}, 2)


def test_a_rollout_that_is_ended_while_its_weights_move_gets_no_traffic(serving, monkeypatch):
    deployed, set_weights = serving.deploy(2), LocalEndpoint.set_weights

    def end_it_first(self, name, weights):
        if weights.get("v2"):
            abort("by hand")
        return set_weights(self, name, weights)

    monkeypatch.setattr(LocalEndpoint, "set_weights", end_it_first)
    with pytest.raises(RolloutAborted, match="by hand"):
        serving.promote(2, deployed)
    assert (serving.weights, serving.rollout(2).state) == ({1: 100, 2: 0}, "aborted")


def test_a_look_after_the_end_does_not_bring_a_rollout_back(serving, monkeypatch):
    begin(serving, monkeypatch)
    stale = rollout_of(serving).record
    assert abort("by hand") is not None
    with pytest.raises(RolloutAborted, match="by hand"):
        rollout_of(serving).inspect()
    with pytest.raises(RolloutAborted, match="by hand"):
        serving.lineage.save_rollout(replace(stale, detail={**stale.detail, "verdict": {}}))
    assert serving.rollout(2).state == "aborted"


def test_an_endpoint_that_does_not_answer_for_a_while_is_waited_for(serving, monkeypatch):
    begin(serving, monkeypatch)
    counters = Counters(monkeypatch, v1=(90, 0), v2=(10, 0))
    counters.out_of_reach = 3
    rollout = rollout_of(serving)
    verdicts = [rollout.inspect() for _ in range(5)]
    assert [verdict.action for verdict in verdicts] == ["hold", "hold", "hold", "promote", "promote"]
    assert "cannot be read: EndpointNotReady: the gateway does not answer" in verdicts[0].reason


def test_a_weight_that_was_changed_by_hand_is_named(serving, monkeypatch):
    begin(serving, monkeypatch)
    serving.endpoint.set_weights("tiny", {"v1": 70, "v2": 30})
    verdict = rollout_of(serving).inspect()
    assert verdict.action == "hold"
    assert "version 2 has 30% of the requests in place of 10 %: its weight was changed by hand" in verdict.reason


def test_a_return_that_the_endpoint_refuses_first_is_attempted_again(serving, monkeypatch):
    begin(serving, monkeypatch)
    set_weights, refused = LocalEndpoint.set_weights, []

    def refuse_once(self, name, weights):
        if not refused:
            refused.append(name)
            raise EndpointNotReady("the gateway does not answer")
        return set_weights(self, name, weights)

    monkeypatch.setattr(LocalEndpoint, "set_weights", refuse_once)
    assert abort("by hand") is not None
    assert (refused, serving.weights) == (["tiny"], {1: 100, 2: 0})


@pytest.mark.parametrize("results", ["results", "told"])
def test_a_rollout_that_an_earlier_modelway_began_is_judged_to_its_end(serving, monkeypatch, results):
    deployed = begin(serving, monkeypatch)
    record = serving.rollout(2)
    counts = {name: {"requests": 5, "errors": 0, "since": 1.0} for name in ("1", "2")}
    detail = {"stable": 1, "steps": [10, 100], results: [], "since": record.detail["since"], "counts": counts}
    serving.lineage.save_rollout(replace(record, detail={**detail, "restarts": 0}))
    counters = Counters(monkeypatch, v1=(90, 0), v2=(10, 0))
    counters.total = {"v1": (5, 0), "v2": (5, 0)}
    done = serving.promote(2, deployed)
    assert [step["weight"] for step in done["steps"]] == [10, 100]
    assert done["steps"][0]["counts"] == {"1": {"requests": 90, "errors": 0}, "2": {"requests": 10, "errors": 0}}
    assert serving.champion == 2


@pytest.fixture
def quick_trigger(monkeypatch):
    monkeypatch.setattr(rollout_trigger, "SETTLE_SECONDS", 0.0)


def deferred_trigger(shop, deployed, **options):
    """Return the trigger that the task defers to, as a triggerer makes it from what Airflow stored."""
    with pytest.raises(TaskDeferred) as deferred:
        shop.promote(2, deployed, **options)
    _, arguments = deferred.value.trigger.serialize()
    return RolloutTrigger(**{**json.loads(json.dumps(arguments)), "poll_interval": 0.02})


def fires(trigger, *, seconds=30):
    async def first():
        return await asyncio.wait_for(anext(trigger.run()), seconds)

    return asyncio.run(first())


def test_a_triggerer_that_is_restarted_in_mid_hold_continues_with_the_evidence(serving, monkeypatch, quick_trigger):
    """The time is not over; the counts of the first triggerer and those of the second one together are enough."""
    deployed = serving.deploy(2)
    Counters(monkeypatch, v1=(90, 0), v2=(10, 0))
    options = {"steps": [{"weight": 10, "hold": "10m", "requests": 300}, 100]}
    trigger = deferred_trigger(serving, deployed, **options)

    async def ends():
        task = asyncio.create_task(anext(trigger.run()))
        while _seen(serving) < 100:
            await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(ends())
    before = _seen(serving)
    assert 100 <= before < 300
    second = RolloutTrigger(**{**trigger.serialize()[1], "poll_interval": 0.02})
    monkeypatch.setattr(rollout_record, "step_of", _without_time)
    fires(second)
    assert _seen(serving) >= 300
    assert serving.rollout(2).detail["verdict"]["action"] == "promote"
    done = serving.promote(2, deployed, **options)
    assert [step["weight"] for step in done["steps"]] == [10, 100]


def _without_time(record):
    return replace(rollout_record.plan_of(record)[record.step], hold_seconds=0.0)


def _seen(shop):
    return rollout_record.evidence_of(shop.rollout(2)).canary_total.requests


def test_the_trigger_returns_the_traffic_of_a_version_that_fails_at_once(serving, monkeypatch, quick_trigger):
    """Its task need not run for that, and fails when it does."""
    deployed = serving.deploy(2)
    counters = Counters(monkeypatch, v1=(90, 0), v2=(10, 0))
    trigger = deferred_trigger(serving, deployed, interval=1000)
    counters.each["v2"] = (10, 10)
    fires(trigger)
    assert (serving.weights, serving.rollout(2).state) == ({1: 100, 2: 0}, "aborted")
    with pytest.raises(RolloutAborted, match="was aborted: .* requests to the new version failed"):
        serving.promote(2, deployed, interval=1000)


def test_the_trigger_outlasts_counters_that_restart_and_an_endpoint_out_of_reach(serving, monkeypatch, quick_trigger):
    deployed = serving.deploy(2)
    counters = Counters(monkeypatch, v1=(90, 0), v2=(10, 0))
    trigger = deferred_trigger(serving, deployed, steps=[{"weight": 10, "hold": "10m", "requests": 100}, 100])
    monkeypatch.setattr(rollout_record, "step_of", _without_time)
    counters.restart()
    counters.out_of_reach = 4
    fires(trigger)
    assert _seen(serving) >= 100
    assert serving.rollout(2).state == "running"


def test_a_trigger_that_is_created_again_after_a_long_hold_waits_for_the_lineage(serving, monkeypatch, quick_trigger):
    """Its database may start together with the triggerer: the task would fail for that, and its last attempt abort."""
    deployed = serving.deploy(2)
    Counters(monkeypatch, v1=(90, 0), v2=(10, 0))
    trigger = deferred_trigger(serving, deployed, steps=[{"weight": 10, "hold": "10m", "requests": 100}, 100])
    trigger.until -= 100_000
    opened, refused = rollout_trigger.lineage_from_airflow, []

    def refuse_twice(url):
        if len(refused) < 2:
            refused.append(url)
            raise LineageUnavailable("the lineage database does not answer")
        return opened(url)

    monkeypatch.setattr(rollout_trigger, "lineage_from_airflow", refuse_twice)
    monkeypatch.setattr(rollout_record, "step_of", _without_time)
    fires(trigger)
    assert (len(refused), serving.rollout(2).detail["verdict"]["action"]) == (2, "promote")


def test_a_trigger_of_a_step_that_is_over_judges_nothing(serving, monkeypatch, quick_trigger):
    deployed = serving.deploy(2)
    trigger = deferred_trigger(serving, deployed, interval=1000)
    rollout_of(serving).advance(run_id="run-2")
    before = serving.rollout(2)
    fires(trigger)
    assert serving.rollout(2) == before


def test_a_person_sets_the_share_of_a_version_holds_it_and_promotes_it(serving, monkeypatch):
    """A worker finds what the page recorded, and the weights say who set them."""
    deployed = begin(serving, monkeypatch, requests=10)

    def steer(act, step, **more):
        wish = Steering(act=act, by="mia", reason="a talk", step=step, **more)
        serving.lineage.steer_rollout(serving.rollout(2), wish)

    steer("weight", 0, weight=35)
    with monkeypatch.context() as patch:
        patch.setattr(promote, "LOOK_SECONDS", 0.0)
        sleep = promote.PromoteModelOperator._sleep

        def die_when_held(self, seconds):
            if serving.rollout(2).step == 1:
                raise Killed
            sleep(self, seconds)

        patch.setattr(promote.PromoteModelOperator, "_sleep", die_when_held)
        with pytest.raises(Killed):
            serving.promote(2, deployed)
    assert serving.weights == {1: 65, 2: 35}
    assert serving.lineage.weight_history("tiny")[0].actor == "mia"
    assert rollout_of(serving).inspect().reason == "held by mia: a talk"
    steer("promote", 1)
    done = serving.promote(2, deployed)
    assert done["weights"] == {"2": 100}
    assert [step["weight"] for step in done["steps"]] == [10, 35, 100]
    kinds = [(each.kind, each.actor) for each in serving.lineage.version("tiny", 2).events]
    assert {("rollout-weight", "mia"), ("rollout-promote", "mia")} <= set(kinds)


def test_a_record_that_a_person_changed_between_two_looks_is_read_again(serving, monkeypatch):
    deployed = begin(serving, monkeypatch)
    look, changed = Rollout.inspect, []

    def changed_meanwhile(self):
        if not changed:
            changed.append(True)
            wish = Steering(act="promote", by="mia", reason="enough", step=0)
            serving.lineage.steer_rollout(serving.rollout(2), wish)
            raise RolloutChanged("the rollout was changed by another process")
        return look(self)

    monkeypatch.setattr(Rollout, "inspect", changed_meanwhile)
    assert [step["weight"] for step in serving.promote(2, deployed)["steps"]] == [10, 100]


def test_a_hold_that_comes_after_the_verdict_on_a_step_still_holds_it(serving, monkeypatch):
    """The page has said that it is held: neither the next step begins, nor does the version take over."""
    deployed, wait, at = begin(serving, monkeypatch, steps=(10, 100)), promote.PromoteModelOperator._wait, [0]

    def steer(act, step):
        wish = Steering(act=act, by="mia", reason="a talk", step=step)
        serving.lineage.steer_rollout(serving.rollout(2), wish)

    def hold_after_the_verdict(self, rollout):
        if "held" in rollout.record.detail:
            raise Killed
        wait(self, rollout)
        if rollout.record.step == at[0]:
            steer("hold", at[0])

    monkeypatch.setattr(promote.PromoteModelOperator, "_wait", hold_after_the_verdict)
    for step, weights in enumerate(({1: 90, 2: 10}, {1: 0, 2: 100})):
        at[0] = step
        with pytest.raises(Killed):
            serving.promote(2, deployed, steps=(10, 100))
        record = serving.rollout(2)
        assert (record.step, record.state, serving.weights) == (step, "running", weights)
        assert rollout_of(serving).inspect().reason == "held by mia: a talk"
        steer("continue", step)
    monkeypatch.setattr(promote.PromoteModelOperator, "_wait", wait)
    assert serving.promote(2, deployed, steps=(10, 100))["weights"] == {"2": 100}


def test_a_version_does_not_take_over_whose_share_a_person_has_set_since_the_verdict(serving, monkeypatch):
    begin(serving, monkeypatch, steps=(100,))
    rollout = rollout_of(serving)
    assert rollout.inspect().action == "promote"
    wish = Steering(act="weight", by="mia", reason="too early", step=0, weight=30)
    serving.lineage.steer_rollout(serving.rollout(2), wish)
    with pytest.raises(RolloutChanged, match="a person has changed the steps"):
        rollout.finish(alias="champion")
    assert (serving.rollout(2).state, serving.champion) == ("running", 1)
