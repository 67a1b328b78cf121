"""A rollout that is cut off, aborted or replaced at its worst moments, on a real endpoint: no traffic stays behind."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.exceptions import TaskDeferred
from modelway.cli import main
from modelway.endpoints.local.endpoint import LocalEndpoint
from modelway.errors import CapabilityMissing, EndpointNotReady, RolloutAborted, RolloutChanged
from modelway.following import metrics
from modelway.following import rollouts as ends
from modelway.following.rollouts import abort_rollout, abort_rollouts_of
from modelway.hooks.settings import load_settings
from modelway.lineage.schema.tables import rollouts as table
from modelway.operators import deploy as deploying
from modelway.operators.deploy import DeployModelOperator
from modelway.runs import rollout as running
from sqlalchemy import update

from tests.contract.test_rollout_judged import Counters, abort, begin, rollout_of
from tests.contract.test_rollout_judged import serving as serving
from tests.rollout_shop import Killed, die_at_wait


@pytest.fixture
def ended(monkeypatch):
    """The states that the metric ``rollout.ended`` counted."""
    found = []
    monkeypatch.setattr(metrics, "count", lambda name, **tags: name == "rollout.ended" and found.append(tags["state"]))
    return found


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(ends, "_WAITS", (0.0, 0.0))


def unreachable(*_: object, **__: object) -> None:
    raise EndpointNotReady("the endpoint does not answer")


def deploy(shop, number, **options):
    version, image = shop.versions[number]
    return DeployModelOperator(task_id="deploy", version=version, image=image, **options).run(shop.context(number))


def test_a_version_that_serves_already_is_never_withdrawn(serving, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(deploying, "golden_difference", unreachable)
        with pytest.raises(EndpointNotReady):
            serving.deploy(1, run="again", requested=True)
    assert (serving.weights, serving.rollout("again").detail["already_served"]) == ({1: 100}, True)
    who = {"endpoint": "tiny", "target": "local", "run": "tiny/run-again", "actor": "mia"}
    assert abort_rollout(load_settings(), **who, reason="not accepted", withdraw=True) is not None
    assert (serving.weights, serving.answering()) == ({1: 100}, 1.0)


def test_a_version_that_could_not_be_withdrawn_is_withdrawn_at_the_end_of_its_run(serving, monkeypatch):
    serving.deploy(2)
    who = {"endpoint": "tiny", "target": "local", "run": "tiny/run-2", "actor": "mia"}
    with monkeypatch.context() as patch:
        patch.setattr(LocalEndpoint, "apply", unreachable)
        with pytest.raises(EndpointNotReady):
            abort_rollout(load_settings(), **who, reason="not accepted", withdraw=True)
    assert serving.weights == {1: 100, 2: 0}
    abort_rollouts_of("tiny/run-2", state="failed")
    assert (serving.weights, serving.rollout(2).state) == ({1: 100}, "aborted")


def test_a_rollout_that_is_aborted_counts_once_whoever_aborts_it(serving, monkeypatch, ended):
    deployed = begin(serving, monkeypatch)
    assert abort("a user ended the task") is not None
    assert abort("a user ended the task again") is None
    for _ in range(2):
        retried(serving, deployed)
    abort_rollouts_of("tiny/run-2", state="failed")
    assert ended == ["aborted"]


def not_returned(shop, monkeypatch):
    """Abort the rollout of version 2 at 10 % while the endpoint does not answer."""
    deployed = begin(shop, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(LocalEndpoint, "set_weights", unreachable)
        with pytest.raises(EndpointNotReady):
            abort("a user ended the task")
    assert (shop.weights, shop.rollout(2).state) == ({1: 90, 2: 10}, "aborted")
    return deployed


def retried(shop, deployed):
    with pytest.raises(RolloutAborted, match="was aborted: a user ended the task"):
        shop.promote(2, deployed)


def its_run_ended(shop, deployed):
    abort_rollouts_of("tiny/run-2", state="failed")


def another_one_deployed(shop, deployed):
    shop.make(3)
    deploy(shop, 3)


@pytest.mark.parametrize("then", [retried, its_run_ended, another_one_deployed])
def test_traffic_that_an_abort_could_not_return_is_returned_later(serving, monkeypatch, then):
    deployed = not_returned(serving, monkeypatch)
    then(serving, deployed)
    assert {version: weight for version, weight in serving.weights.items() if weight} == {1: 100}
    assert "returning" not in serving.rollout(2).detail


def test_traffic_of_an_abort_that_was_killed_is_returned_later(serving, monkeypatch):
    deployed = begin(serving, monkeypatch)

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(ends, "_return", die)
        with pytest.raises(Killed):
            abort("a user ended the task")
    retried(serving, deployed)
    assert serving.weights == {1: 100, 2: 0}


@pytest.mark.parametrize("then", [retried, its_run_ended, another_one_deployed])
def test_a_share_that_a_killed_task_gave_after_an_abort_is_returned_later(serving, monkeypatch, then):
    """Somebody else ends the rollout in the moment in which its task gives the version its share, and dies of it."""
    deployed, set_weights, saved = serving.deploy(2), LocalEndpoint.set_weights, []
    Counters(monkeypatch, v1=(90, 0), v2=(10, 0))

    def abort_first(self, name, weights):
        if weights.get("v2") and not saved:
            saved.append(abort("a user ended the task"))
            set_weights(self, name, weights)
            raise Killed
        return set_weights(self, name, weights)

    with monkeypatch.context() as patch:
        patch.setattr(LocalEndpoint, "set_weights", abort_first)
        with pytest.raises(Killed):
            serving.promote(2, deployed)
    assert (serving.weights, serving.rollout(2).state) == ({1: 90, 2: 10}, "aborted")
    then(serving, deployed)
    assert {version: weight for version, weight in serving.weights.items() if weight} == {1: 100}
    assert "returning" not in serving.rollout(2).detail


def test_an_attempt_that_finds_its_rollout_ended_moves_no_weights(serving, monkeypatch):
    begin(serving, monkeypatch)
    rollout, split = rollout_of(serving), running.split

    def end_first(status, percents):
        abort("a user ended the task")
        return split(status, percents)

    monkeypatch.setattr(running, "split", end_first)
    with pytest.raises(RolloutAborted, match="was aborted: a user ended the task"):
        rollout.advance(run_id="run-2")
    assert serving.weights == {1: 100, 2: 0}
    abort_rollouts_of("tiny/run-2", state="failed")
    assert "returning" not in serving.rollout(2).detail


def test_a_rollout_of_an_endpoint_that_is_gone_for_good_is_abandoned_by_a_person(serving, monkeypatch, capsys):

    def move_away(number):
        record = serving.rollout(number)
        serving.lineage.save_rollout(replace(record, detail={**record.detail, "target": "elsewhere"}))

    begin(serving, monkeypatch)
    assert main(["endpoint", "abandon", "tiny"]) == 1
    assert "it can be read (target local), so that the rollout of version 2 can end" in capsys.readouterr().err
    move_away(2)
    with pytest.raises(CapabilityMissing, match="'elsewhere' is not an endpoint target"):
        abort("a user ended the task")
    serving.make(3)
    with pytest.raises(EndpointNotReady, match="version 2 does not give its traffic back, .*'elsewhere'") as refused:
        deploy(serving, 3)
    assert "where it is gone for good: modelway endpoint abandon tiny" in str(refused.value)
    assert main(["endpoint", "abandon", "tiny"]) == 0
    assert "(run tiny/run-2) has nothing left to do" in capsys.readouterr().out
    assert "returning" not in serving.rollout(2).detail
    assert serving.rollout(3).state == "running", "it has only begun"
    deployed = deploy(serving, 3)
    with monkeypatch.context() as patch:
        die_at_wait(patch, 1)
        with pytest.raises(Killed):
            serving.promote(3, deployed)
    assert main(["endpoint", "abandon", "tiny"]) == 1
    move_away(3)
    assert main(["endpoint", "abandon", "tiny"]) == 0
    assert serving.rollout(3).state == "aborted"
    assert serving.rollout(3).detail["reason"].startswith("abandoned by ")
    capsys.readouterr()
    assert main(["endpoint", "abandon", "tiny"]) == 0
    assert capsys.readouterr().out == "no rollout of an endpoint 'tiny' has anything left to do\n"


def test_a_rollout_that_is_replaced_gives_its_traffic_back_before_the_next_version_starts(serving, monkeypatch):
    begin(serving, monkeypatch)
    serving.make(3)
    with monkeypatch.context() as patch:
        patch.setattr(LocalEndpoint, "apply", unreachable)
        with pytest.raises(EndpointNotReady):
            deploy(serving, 3, when_busy="replace")
    assert (serving.weights, serving.rollout(2).state) == ({1: 100, 2: 0}, "aborted")
    assert "returning" not in serving.rollout(2).detail


def test_a_late_return_leaves_the_share_of_the_next_rollout(serving, monkeypatch):
    begin(serving, monkeypatch)
    serving.make(3)
    return_once, late = ends._return_once, []

    def return_late(*args, **options):
        if not late:
            late.append(True)
            deployed = deploy(serving, 3)
            with monkeypatch.context() as patch:
                die_at_wait(patch, 1)
                with pytest.raises(Killed):
                    serving.promote(3, deployed)
        return return_once(*args, **options)

    monkeypatch.setattr(ends, "_return_once", return_late)
    abort("a user ended the task")
    assert (serving.weights, serving.rollout(3).state) == ({1: 90, 3: 10}, "running")


def during_the_takeover(monkeypatch, work):
    """Do something when version 2 takes over and version 1 is about to be stopped."""
    apply, found = LocalEndpoint.apply, []

    def work_then_apply(self, spec):
        if len(spec.predictors) == 1 and not found:
            found.append(None)
            found[0] = work()
        return apply(self, spec)

    monkeypatch.setattr(LocalEndpoint, "apply", work_then_apply)
    return found


def test_a_version_that_takes_over_is_not_aborted_any_more(serving, monkeypatch, ended):
    found = during_the_takeover(monkeypatch, lambda: abort("a user ended the task"))
    deployed = serving.deploy(2)
    for _ in range(2):
        # Another attempt finds it done.
        serving.promote(2, deployed)
    assert (found, ended) == ([None], ["done"])
    assert (serving.weights, serving.rollout(2).state, serving.champion) == ({2: 100}, "done", 2)


def test_a_version_that_takes_over_is_not_replaced(serving, monkeypatch):
    serving.make(3)

    def replace_it():
        with pytest.raises(TaskDeferred):
            deploy(serving, 3, when_busy="replace")
        return serving.weights

    found = during_the_takeover(monkeypatch, replace_it)
    serving.promote(2, serving.deploy(2))
    assert found == [{1: 0, 2: 100}]
    assert (serving.weights, serving.rollout(2).state, serving.champion) == ({2: 100}, "done", 2)
    assert deploy(serving, 3, when_busy="replace")["weights"] == {"2": 100, "3": 0}


@pytest.fixture
def half_taken(serving, monkeypatch):
    """The last attempt to let version 2 take over failed, before or after version 1 was stopped."""

    def fail(where, name):
        serving.deployed = serving.deploy(2)
        real = getattr(where, name)

        def fail_at_the_takeover(*args, **options):
            (found,) = (each for each in args if hasattr(each, "predictors"))
            return unreachable() if len(found.predictors) == 1 else real(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(where, name, fail_at_the_takeover)
            with pytest.raises(EndpointNotReady):
                serving.promote(2, serving.deployed, last_attempt=True)
        assert (serving.champion, serving.rollout(2).state) == (1, "running"), "an alias moves when the version serves"
        return serving

    return fail


def took_over(shop):
    served, state = shop.lineage.served_before("tiny"), shop.rollout(2).state
    steps = [step["weight"] for step in shop.rollout(2).detail["results"]]
    return (shop.weights, shop.champion, state, served, steps) == ({2: 100}, 2, "done", (2, 1), [10, 50, 100])


def test_a_takeover_that_could_not_stop_the_version_before_is_completed_at_the_end_of_the_run(half_taken):
    shop = half_taken(LocalEndpoint, "apply")
    assert shop.weights == {1: 0, 2: 100}
    abort_rollouts_of("tiny/run-2", state="failed")
    assert took_over(shop)


def test_a_takeover_that_was_not_recorded_is_completed_by_a_retry(half_taken):
    shop = half_taken(running, "record_traffic")
    assert shop.weights == {2: 100}
    shop.promote(2, shop.deploy(2))
    assert took_over(shop)


def test_a_takeover_whose_run_has_ended_is_completed_by_the_next_deployment(half_taken):
    shop = half_taken(LocalEndpoint, "apply")
    shop.make(3)
    shop.failed.add("run-2")
    assert deploy(shop, 3)["weights"] == {"2": 100, "3": 0}
    assert (shop.champion, shop.rollout(2).state, shop.rollout(3).detail["stable"]) == (2, "done", 2)


def test_a_takeover_of_a_version_that_is_gone_ends_and_is_in_nobodys_way(half_taken):
    shop = half_taken(LocalEndpoint, "apply")
    shop.endpoint.delete("tiny")
    abort_rollouts_of("tiny/run-2", state="failed")
    reason = "version 2 is no longer behind the endpoint"
    assert (shop.rollout(2).state, shop.rollout(2).detail["reason"]) == ("aborted", reason)


def test_a_process_that_read_a_rollout_before_its_next_step_writes_nothing(serving, monkeypatch):
    begin(serving, monkeypatch)
    rollout = rollout_of(serving)
    before = rollout.record
    rollout.advance(run_id="run-2")
    with pytest.raises(RolloutChanged, match="was changed by another process"):
        serving.lineage.save_rollout(replace(before, detail={**before.detail, "verdict": {}}))
    assert (serving.rollout(2).step, serving.weights) == (1, {1: 50, 2: 50})
    assert abort("by hand") is not None
    assert serving.weights == {1: 100, 2: 0}


def test_a_rollout_in_which_nothing_happens_shows_that_it_lives(serving, monkeypatch):
    begin(serving, monkeypatch, interval=7200)
    counters = Counters(monkeypatch, v1=(0, 0), v2=(0, 0))
    rollout, long_ago = rollout_of(serving), datetime.now(UTC) - timedelta(minutes=50)
    rollout.inspect()
    for out_of_reach in (0, 1):
        with serving.lineage.engine.begin() as connection:
            connection.execute(update(table).where(table.c.run_id == "tiny/run-2").values(updated_at=long_ago))
        counters.out_of_reach = out_of_reach
        events = serving.lineage.events("tiny")
        assert rollout.inspect().action == "hold"
        assert serving.rollout(2).updated_at > long_ago
        assert serving.lineage.events("tiny") == events
