"""What a run does while another one rolls out at its endpoint, and what a person's answer does; on a real endpoint."""

import asyncio
import json
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import TaskAwaitingInput, TaskDeferred
from airflow.sdk.execution_time import hitl
from modelway.endpoints.local.endpoint import LocalEndpoint
from modelway.errors import EndpointNotReady, LineageUnavailable, RolloutAborted, SignatureChanged
from modelway.following.rollouts import abort_rollouts_of
from modelway.lineage.records.steering import Steering
from modelway.lineage.store import open_lineage
from modelway.operators import promote
from modelway.operators.approval import record_answer
from modelway.operators.deploy import DeployModelOperator
from modelway.operators.promote import PromoteModelOperator
from modelway.runs.rollout import Rollout
from modelway.triggers import approval as approval_trigger
from modelway.triggers import turn
from modelway.triggers.approval import ApprovalTrigger
from modelway.triggers.turn import TurnTrigger

from tests.contract.test_rollout_judged import Counters, abort
from tests.endpoint_clients import pid_at
from tests.rollout_shop import Killed, die_at_wait

#: the id of a task instance
TASK = "0199c5b0-0000-7000-8000-000000000001"


@pytest.fixture
def shop(served_shop):
    """Version 1 serves, version 2 is made."""
    return served_shop


@pytest.fixture
def halfway(shop, monkeypatch):
    """Version 2 is at 10 %, its worker is gone, and its run continues; version 3 is made."""
    deployed = shop.deploy(2)
    with monkeypatch.context() as patch:
        die_at_wait(patch, 1)
        with pytest.raises(Killed):
            shop.promote(2, deployed)
    shop.make(3)
    shop.deployed = deployed
    return shop


def deploy(shop, number, *, run=None, **options):
    version, image = shop.versions[number]
    operator = DeployModelOperator(task_id="deploy", version=version, image=image, **options)
    return operator.run(shop.context(run or number))


def test_a_run_waits_for_the_rollout_of_another_one(halfway, monkeypatch):
    with pytest.raises(TaskDeferred) as deferred:
        deploy(halfway, 3)
    assert halfway.weights == {1: 90, 2: 10}
    assert halfway.rollout(3) is None
    path, arguments = deferred.value.trigger.serialize()
    assert path == f"{TurnTrigger.__module__}.{TurnTrigger.__name__}"
    trigger = TurnTrigger(**{**json.loads(json.dumps(arguments)), "seconds": 0.1})
    asyncio.run(anext(trigger.run()))
    with pytest.raises(TaskDeferred):
        deploy(halfway, 3)
    halfway.promote(2, halfway.deployed)
    free = TurnTrigger(**json.loads(json.dumps(arguments)))
    asyncio.run(anext(free.run()))
    assert deploy(halfway, 3)["weights"] == {"2": 100, "3": 0}


def test_a_wait_continues_when_the_lineage_cannot_be_read_for_a_moment(tmp_path, monkeypatch):
    reads = []

    def open_at_the_second_time(url):
        reads.append(url)
        if len(reads) == 1:
            raise LineageUnavailable("the database does not answer")
        return open_lineage(f"sqlite:///{tmp_path}/lineage.db")

    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path))
    monkeypatch.setattr(turn, "lineage_from_airflow", open_at_the_second_time)
    monkeypatch.setattr(turn, "POLL_SECONDS", 0.01)
    trigger = TurnTrigger(endpoint="tiny", run="tiny/run-3", seconds=60)
    assert asyncio.run(anext(trigger.run())).payload == {"endpoint": "tiny"}
    assert len(reads) == 2


def test_what_a_change_failed_with_while_the_task_was_deferred_fails_the_task(halfway):
    """As its trigger reports it: looking once more would begin the change anew."""
    version, image = halfway.versions[3]
    operator = DeployModelOperator(task_id="deploy", version=version, image=image)
    failure = {"kind": "EndpointNotReady", "what": "version 3 is late", "where": "tiny", "do": None, "retryable": True}
    context = halfway.context(3) | {"ti": SimpleNamespace(xcom_push=lambda **_: None)}
    # That the attempt ended is recorded by what the tests of operators are about.
    operator.was_marked = True
    with pytest.raises(EndpointNotReady, match="tiny: version 3 is late") as failed:
        operator.resume(context, {"change": {"waits_for": "it", "memory": {}}, "failure": failure})
    assert failed.value.retryable
    assert halfway.rollout(3) is None
    assert halfway.weights == {1: 90, 2: 10}


def test_a_run_replaces_the_rollout_of_another_one(halfway):
    assert deploy(halfway, 3, when_busy="replace")["weights"] == {"1": 100, "3": 0}
    why = "replaced by the rollout of version 3 (run tiny/run-3)"
    assert (halfway.rollout(2).state, halfway.rollout(2).detail["reason"]) == ("aborted", why)
    with pytest.raises(RolloutAborted, match="was aborted: replaced by the rollout of version 3"):
        halfway.promote(2, halfway.deployed)
    assert halfway.weights == {1: 100, 3: 0}
    halfway.promote(3, halfway.deploy(3))
    assert (halfway.weights, halfway.champion) == ({3: 100}, 3)


def test_a_run_is_refused_while_another_one_rolls_out(halfway):
    busy = r"version 2 is being rolled out \(run tiny/run-2\), and one rollout at a time is allowed"
    with pytest.raises(RolloutAborted, match=busy):
        deploy(halfway, 3, when_busy="refuse")
    assert (halfway.weights, halfway.rollout(3)) == ({1: 90, 2: 10}, None)
    halfway.failed.add("run-2")
    assert deploy(halfway, 3, when_busy="refuse")["weights"] == {"1": 100, "3": 0}


def test_the_rollout_of_another_environment_is_in_nobodys_way(halfway):
    assert deploy(halfway, 3, endpoint="tiny-prod", when_busy="refuse")["endpoint"] == "tiny-prod"
    assert halfway.weights == {1: 90, 2: 10}
    assert halfway.lineage.weights("tiny-prod") == {3: 100}


def test_a_rollback_goes_back_at_once_even_to_another_signature(shop):
    shop.make(3, output="z")
    shop.promote(3, shop.deploy(3, allow=True))
    context = shop.context("back") | {"params": {"rollout": "rollback", "reason": "too slow"}}
    version, image = shop.versions[1]
    version = {**version, "requested": True}
    with pytest.raises(SignatureChanged):
        DeployModelOperator(task_id="deploy", version=version, image=image).run(shop.context("plain"))
    shop.failed.add("run-plain")
    deployed = DeployModelOperator(task_id="deploy", version=version, image=image).run(context)
    reported = shop.promoter(1, deployed, steps=(10, 100), interval=1000).run(context)
    assert [step["weight"] for step in reported["steps"]] == [100]
    assert (shop.weights, shop.champion) == ({1: 100}, 1)
    assert shop.rollout("back").detail["rollback"] == {"from": 3, "why": "too slow"}
    assert shop.lineage.served_before("tiny") == (1, None)


def test_a_run_gives_a_version_a_share_and_holds_it_there_until_a_person_continues(shop, monkeypatch):
    """As somebody sets the weights while no rollout runs."""
    version, image = shop.versions[2]
    form = {"params": {"hold_at": 30, "rollout": "yes", "reason": "half of Europe"}}
    deployer = DeployModelOperator(task_id="deploy", version={**version, "requested": True}, image=image)
    # The attempt before it died, here and there.
    deployed = [deployer.run(shop.context(2) | form) for _ in range(2)][1]
    for _ in range(2):
        with monkeypatch.context() as patch:
            die_at_wait(patch, 1)
            with pytest.raises(Killed):
                shop.promoter(2, deployed, steps=(10, 50, 100)).run(shop.context(2) | form)
    assert shop.weights == {1: 70, 2: 30}
    assert shop.lineage.weight_history("tiny")[0].actor == "mia"
    rollout = Rollout(store=shop.lineage, port=shop.endpoint, endpoint="tiny", run="tiny/run-2")
    assert rollout.inspect().reason == "held by mia: half of Europe"
    assert shop.rollout(2).detail["begun_by"] == {"by": "mia", "reason": "half of Europe", "weight": 30}
    shop.lineage.steer_rollout(shop.rollout(2), Steering(act="continue", by="ada", reason="it is good", step=0))
    done = shop.promoter(2, deployed).run(shop.context(2) | form)
    assert [step["weight"] for step in done["steps"]] == [30, 50, 100]
    assert shop.weights == {2: 100}
    alone = r"version 2 cannot be held at 30 %: no other version serves that gets the rest"
    with pytest.raises(RolloutAborted, match=alone):
        deployer.run(shop.context("again") | form)


def test_a_rollback_to_a_version_that_never_served_is_refused(shop):
    """Else a field of the form would be a way around approval, steps, acceptance and the check of the signature."""
    version, image = shop.versions[2]
    context = shop.context(2) | {"params": {"rollout": "rollback"}}
    deployer = DeployModelOperator(task_id="deploy", version={**version, "requested": True}, image=image)
    never = r"version 2 never served all requests here, so that there is no rollback to it\. Known: 1\."
    with pytest.raises(RolloutAborted, match=never):
        deployer.run(context)
    deployed = deploy(shop, 2)
    with pytest.raises(RolloutAborted, match=never):
        deployer.run(shop.context("back") | {"params": {"rollout": "rollback"}})
    shop.promote(2, deployed)
    assert shop.weights == {2: 100}


def test_the_endpoint_of_another_model_is_refused(shop):
    """``digits-prod`` may be a model, and the environment ``prod`` of the model ``digits``."""
    version, image = shop.versions[2]
    other = DeployModelOperator(
        task_id="deploy", version={**version, "model": "tin"}, image=image, endpoint="tiny", when_busy="replace"
    )
    with pytest.raises(RolloutAborted, match="tiny: it is the endpoint of the model tiny, and not of tin"):
        other.run(shop.context(2))
    assert (shop.weights, shop.rollout(2)) == ({1: 100}, None)


class Questions(list):
    """What Airflow's API gets to ask a person, and the answer as it returns it."""

    chosen = by = None

    def detail(self, *, ti_id):
        user = self.by and SimpleNamespace(id="7", name=self.by)
        return SimpleNamespace(
            response_received=self.chosen is not None,
            chosen_options=self.chosen,
            params_input={},
            responded_at=None,
            responded_by_user=user,
        )

    def close(self, *, ti_id, chosen_options, params_input):
        if self.chosen is not None:
            raise RuntimeError("409: it was answered")
        self.chosen = chosen_options


@pytest.fixture
def asked(monkeypatch):
    found = Questions()
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **detail: found.append(detail))
    monkeypatch.setattr(hitl, "get_hitl_detail_content_detail", found.detail)
    monkeypatch.setattr(hitl, "update_hitl_detail_response", found.close)
    monkeypatch.setattr(approval_trigger, "SETTLE_SECONDS", 0.0)
    return found


def ask(shop, deployed, **options):
    """Roll version 2 out until a person has to answer; return what rolls out."""
    promoter = shop.promoter(2, deployed, steps=(50, 100), approval=True, **options)
    with pytest.raises(TaskDeferred) as waiting:
        promoter.run(shop.context(2) | {"ti": SimpleNamespace(id=TASK, try_number=1, max_tries=2)})
    assert waiting.value.method_name == "answered"
    # as a triggerer makes it from what Airflow stored
    _, arguments = waiting.value.trigger.serialize()
    promoter.waits = ApprovalTrigger(**{**json.loads(json.dumps(arguments)), "poll_interval": 0.02})
    return promoter


def fires(trigger):
    async def first():
        return await asyncio.wait_for(anext(trigger.run()), 60)

    return asyncio.run(first()).payload


def failed(promoter, shop, event, match):
    with pytest.raises(Exception, match=match):
        promoter.answered(shop.context(2) | {"ti": SimpleNamespace(xcom_push=lambda **_: None)}, event)


def answer(option):
    user = {"id": "7", "name": "mia"}
    return {"chosen_options": [option], "params_input": {}, "responded_at": None, "responded_by_user": user}


def test_a_person_approves_before_the_last_step(shop, asked):
    promoter = ask(shop, shop.deploy(2))
    (question,) = asked
    assert question["options"] == ["Approve", "Reject"]
    assert question["subject"] == "Give all traffic of tiny to version 2?"
    assert "- at 50 %: " in question["body"]
    assert (shop.weights, shop.rollout(2).detail["waits_for"]) == ({1: 50, 2: 50}, "approval")
    reported = promoter.answered(shop.context(2), answer("Approve"))
    assert [step["weight"] for step in reported["steps"]] == [50, 100]
    assert (shop.weights, shop.champion) == ({2: 100}, 2)
    approval = shop.rollout(2).detail["approval"]
    assert (approval["approved"], approval["by"]) == (True, "mia")


def test_a_version_whose_server_ends_while_a_person_is_asked_is_rolled_back_and_the_question_closed(shop, asked):
    promoter = ask(shop, shop.deploy(2))
    status = shop.endpoint.status("tiny")
    os.kill(pid_at(next(each.url for each in status.predictors if each.version == 2)), signal.SIGKILL)
    event = fires(promoter.waits)
    assert (shop.weights, shop.rollout(2).state, asked.chosen) == ({1: 100, 2: 0}, "aborted", ["Reject"])
    assert "the server of version 2 ended" in shop.rollout(2).detail["reason"]
    failed(promoter, shop, event, "the server of version 2 ended")
    # who answers now changes nothing any more
    failed(promoter, shop, answer("Approve"), "the server of version 2 ended")
    assert (shop.weights, shop.champion) == ({1: 100, 2: 0}, 1)


def test_a_version_that_fails_while_a_person_is_asked_is_rolled_back(shop, asked, monkeypatch):
    promoter = ask(shop, shop.deploy(2), mode="ab")
    Counters(monkeypatch, v1=(50, 0), v2=(50, 9))
    event = fires(promoter.waits)
    assert (shop.weights, shop.rollout(2).state, asked.chosen) == ({1: 100, 2: 0}, "aborted", ["Version 1"])
    assert "requests to the new version failed" in shop.rollout(2).detail["reason"]
    failed(promoter, shop, event, "requests to the new version failed")


def test_a_person_is_waited_for_longer_than_the_step_may_take_and_while_nothing_can_be_read(shop, asked, monkeypatch):
    promoter = ask(shop, shop.deploy(2))
    record, days = shop.rollout(2), 2 * 86400
    times = {name: record.detail[name] - days for name in ("since", "waits_since")}
    shop.lineage.save_rollout(replace(record, detail={**record.detail, **times}))
    counters = Counters(monkeypatch, v1=(50, 0), v2=(50, 0))
    counters.out_of_reach = 3

    def read():
        if counters.total["v2"][0] >= 500:
            asked.chosen, asked.by = ["Approve"], "mia"
        return Counters.read(counters)

    monkeypatch.setattr(LocalEndpoint, "metrics", lambda endpoint, name: read())
    event = fires(promoter.waits)
    assert (event["chosen_options"], event["responded_by_user"]["name"]) == (["Approve"], "mia")
    assert shop.rollout(2).state == "running"
    answer = promoter.answered(shop.context(2), event)
    assert answer["steps"][0]["counts"]["2"]["requests"] >= 500
    assert shop.weights == {2: 100}


def test_a_rollout_that_somebody_else_ends_does_not_wait_for_a_person(shop, asked):
    promoter = ask(shop, shop.deploy(2))
    abort("mia rolled it back")
    event = fires(promoter.waits)
    assert asked.chosen == ["Reject"]
    failed(promoter, shop, event, "mia rolled it back")


@pytest.mark.parametrize(
    ("state", "rollout"),
    [("scheduled", "running"), ("queued", "running"), ("unknown", "running"), ("failed", "aborted")],
)
def test_airflow_kills_the_trigger_for_an_answer_as_well_and_only_a_user_ends_the_rollout(
    shop, asked, monkeypatch, state, rollout
):
    promoter = ask(shop, shop.deploy(2))

    async def read(_ti):
        return state

    monkeypatch.setattr(approval_trigger, "state_now", read)
    asyncio.run(promoter.waits.on_kill())
    assert shop.rollout(2).state == rollout
    assert shop.weights == ({1: 50, 2: 50} if rollout == "running" else {1: 100, 2: 0})


def test_where_the_triggerer_cannot_see_the_endpoint_no_process_waits(shop, asked, monkeypatch):
    monkeypatch.setattr(promote, "is_served_here_alone", lambda target: True)
    promoter = shop.promoter(2, shop.deploy(2), steps=(50, 100), approval=True)
    with pytest.raises(TaskAwaitingInput) as waiting:
        promoter.run(shop.context(2) | {"ti": SimpleNamespace(id=TASK, try_number=1, max_tries=2)})
    assert waiting.value.method_name == "answered"
    promoter.answered(shop.context(2), answer("Approve"))
    assert shop.weights == {2: 100}


def test_an_answer_is_recorded_though_a_last_look_comes_between(shop, asked, monkeypatch):
    ask(shop, shop.deploy(2))
    rollout = Rollout(store=shop.lineage, port=shop.endpoint, endpoint="tiny", run="tiny/run-2")
    read = shop.lineage.rollout
    looks = [rollout.inspect]

    def read_then_look(endpoint, run):
        found = read(endpoint, run)
        if looks:
            looks.pop()()
        return found

    other = open_lineage(str(shop.lineage.engine.url))
    monkeypatch.setattr(
        type(shop.lineage), "rollout", lambda self, *which: (read_then_look if self is other else read)(*which)
    )
    record_answer(other, endpoint="tiny", run="tiny/run-2", event=answer("Approve"))
    assert looks == []
    assert shop.rollout(2).detail["approval"]["by"] == "mia"


def test_a_person_rejects_and_the_traffic_goes_back(shop, asked):
    promoter = ask(shop, shop.deploy(2))
    with pytest.raises(Exception, match="mia rejected version 2"):
        promoter.answered(shop.context(2) | {"ti": SimpleNamespace(xcom_push=lambda **_: None)}, answer("Reject"))
    assert (shop.weights, shop.champion, shop.rollout(2).state) == ({1: 100, 2: 0}, 1, "aborted")
    event = next(event for event in shop.lineage.events("tiny") if event.kind == "rollout-aborted")
    assert (event.detail["reason"], event.detail["approval"]["by"]) == ("mia rejected version 2", "mia")


def test_a_rejected_version_never_serves_even_if_the_worker_dies_before_the_traffic_went_back(shop, asked, monkeypatch):
    promoter = ask(shop, shop.deploy(2))

    def die(self, context, reason):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(PromoteModelOperator, "_abort", die)
        with pytest.raises(Killed):
            promoter.answered(shop.context(2), answer("Reject"))
    assert shop.rollout(2).state == "running"
    with pytest.raises(RolloutAborted, match="mia rejected version 2"):
        promoter.run(shop.context(2))
    assert (shop.weights, shop.rollout(2).state) == ({1: 100, 2: 0}, "aborted")


def test_an_approval_may_take_longer_than_the_patience_of_the_step(shop, asked):
    """What was counted meanwhile is judged as at any other time: some evidence against a version is no failure."""
    ask(shop, shop.deploy(2))
    record, hours = shop.rollout(2), 2 * 3600
    evidence = dict(record.detail["evidence"])
    evidence["tests"] = {**evidence["tests"], "errors": [1.2] * len(evidence["tests"]["errors"])}
    times = {name: record.detail[name] - hours for name in ("since", "waits_since")}
    shop.lineage.save_rollout(replace(record, detail={**record.detail, **times, "evidence": evidence}))
    record_answer(shop.lineage, endpoint="tiny", run="tiny/run-2", event=answer("Approve"))
    rollout = Rollout(store=shop.lineage, port=shop.endpoint, endpoint="tiny", run="tiny/run-2")
    verdict = rollout.inspect()
    assert verdict.action == "hold", verdict.reason
    assert not {"waits_for", "waits_since"} & rollout.record.detail.keys()


def test_choosing_the_version_before_is_no_failure_even_if_the_worker_dies_after_it(shop, asked, monkeypatch):
    promoter = ask(shop, shop.deploy(2), mode="ab")

    def die(self, rollout, status):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(PromoteModelOperator, "_finished", die)
        with pytest.raises(Killed):
            promoter.answered(shop.context(2), answer("Version 1"))
    assert shop.rollout(2).state == "aborted"
    assert promoter.run(shop.context(2))["weights"] == {"1": 100, "2": 0}


@pytest.mark.parametrize(("option", "winner"), [("Version 2", 2), ("Version 1", 1)])
def test_of_two_versions_a_person_chooses_one_and_both_choices_are_good_ends(shop, asked, option, winner):
    promoter = ask(shop, shop.deploy(2), mode="ab")
    (question,) = asked
    assert question["options"] == ["Version 2", "Version 1"]
    assert question["subject"] == "Which version serves tiny from now on?"
    assert shop.weights == {1: 50, 2: 50}
    promoter.answered(shop.context(2), answer(option))
    assert {version: weight for version, weight in shop.weights.items() if weight} == {winner: 100}
    assert shop.champion == winner
    decision = shop.rollout(2).detail["decision"]
    assert (decision["version"], decision["by"], set(decision["counts"])) == (winner, "mia", {"1", "2"})


def test_of_two_versions_the_numbers_choose_one(shop):
    shop.promoter(2, shop.deploy(2), steps=(50, 100), mode="ab").run(shop.context(2))
    assert (shop.weights, shop.champion) == ({2: 100}, 2)
    decision = shop.rollout(2).detail["decision"]
    assert (decision["version"], decision["by"]) == (2, "analysis")


def test_a_run_that_ends_gives_back_the_traffic_of_its_rollout(halfway):
    """Such as one whose worker and triggerer died, or that somebody marked while it waited for a person."""
    abort_rollouts_of("tiny/run-2", state="failed")
    assert (halfway.weights, halfway.rollout(2).state) == ({1: 100, 2: 0}, "aborted")
    assert halfway.rollout(2).detail["reason"] == "its run ended before it did (failed)"
    deployed = deploy(halfway, 3)
    abort_rollouts_of("tiny/run-3", state="failed")
    assert halfway.rollout(3).state == "running", "it has moved no traffic: a cleared run continues it"
    assert halfway.promote(3, deployed)["weights"] == {"3": 100}
    abort_rollouts_of("tiny/run-3", state="success")
    assert halfway.weights == {3: 100}
