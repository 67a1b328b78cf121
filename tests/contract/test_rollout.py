"""Deploy and promote with a real endpoint and lineage, cut off at every point a crash or a user can choose."""

import asyncio
import json
import os
import signal
import time

import pytest
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred
from modelway.endpoints.local.endpoint import LocalEndpoint
from modelway.endpoints.shares import percentages
from modelway.errors import (
    EndpointNotReady,
    RolloutAborted,
    SignatureChanged,
    UnknownModel,
    UnknownVersion,
    VerificationFailed,
)
from modelway.hooks.lineage import flush_exporters
from modelway.lineage.store import Lineage
from modelway.operators.build_image import BuildImageOperator
from modelway.operators.promote import PromoteModelOperator
from modelway.runs import rollout_record
from modelway.triggers.rollout import RolloutTrigger

from tests.endpoint_clients import pid_at
from tests.exporter_servers import recording_server
from tests.rollout_shop import Killed, Shop, die_at_wait


@pytest.fixture
def shop(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_REGISTRY", "http://registry")
    shop = Shop(tmp_path)
    shop.make(1)
    yield shop
    shop.endpoint.delete("tiny")


@pytest.fixture
def serving(served_shop):
    """Version 1 serves, version 2 is made."""
    return served_shop


def test_the_first_version_gets_everything(shop):
    reported = shop.roll_out(1)
    assert reported["weights"] == {"1": 100}
    assert (shop.weights, shop.champion, shop.rollout(1).state) == ({1: 100}, 1, "done")
    assert shop.answering() == 1.0


def test_a_second_version_takes_over_in_steps_and_the_first_is_stopped(serving):
    deployed = serving.deploy(2)
    assert deployed["weights"] == {"1": 100, "2": 0}
    assert serving.answering() == 1.0
    reported = serving.promote(2, deployed)
    assert [step["weight"] for step in reported["steps"]] == [10, 50, 100]
    assert (serving.weights, serving.champion, serving.answering()) == ({2: 100}, 2, 2.0)
    changes = [(change.version, change.weight) for change in serving.lineage.weight_history("tiny")]
    assert [weight for version, weight in reversed(changes) if version == 2] == [0, 10, 50, 100]


#: half of the requests for a version of another model
BESIDE = {
    "weight": 50,
    "replicas": 2,
    "predictors": [{"name": "small", "model": "other", "version": "v1", "weight": 50, "replicas": 1}],
}


def shares_of(shop):
    status = shop.endpoint.status("tiny")
    return percentages({each.name: each.weight for each in status.predictors})


def test_a_rollout_leaves_the_shares_of_predictors_made_by_hand(shop):
    shop.make(1, model="other", scale=9)
    shop.promote(1, shop.deploy(1, serving=BESIDE))
    assert shares_of(shop) == {"v1": 50, "small": 50}
    shop.make(2)
    deployed = shop.deploy(2, serving=BESIDE)
    assert shares_of(shop) == {"v1": 50, "v2": 0, "small": 50}
    finished = shop.promote(2, deployed, steps=(10, 50, 100))
    assert (shares_of(shop), finished["weights"]) == ({"v2": 50, "small": 50}, {"2": 50})
    replicas = {each.name: each.ready_replicas for each in shop.endpoint.status("tiny").predictors}
    assert replicas == {"v2": 2, "small": 1}
    changes = [(each.model, each.version, each.weight) for each in reversed(shop.lineage.weight_history("tiny"))]
    assert [weight for model, version, weight in changes if (model, version) == ("tiny", 2)] == [0, 5, 25, 50]
    assert [weight for model, *_, weight in changes if model == "other"] == [50]


def test_an_aborted_rollout_returns_only_what_it_moved(shop, monkeypatch):
    shop.make(1, model="other", scale=9)
    shop.promote(1, shop.deploy(1, serving=BESIDE))
    shop.make(2)
    deployed = shop.deploy(2, serving=BESIDE)
    die_at_wait(monkeypatch, 1)
    with pytest.raises(Killed):
        shop.promote(2, deployed, steps=(10, 100))
    assert shares_of(shop) == {"v1": 45, "v2": 5, "small": 50}
    trigger = RolloutTrigger(until=time.time() + 1000, endpoint="tiny", target="local", run="tiny/run-2")
    asyncio.run(trigger.on_kill())
    assert shares_of(shop) == {"v1": 50, "v2": 0, "small": 50}


def test_a_wrong_first_version_beside_others_is_stopped_alone(shop):
    shop.make(1, model="other", scale=9)
    shop.make(2, wrong=True)
    with pytest.raises(VerificationFailed):
        shop.deploy(2, serving=BESIDE)
    assert shares_of(shop) == {"small": 100}


@pytest.mark.parametrize(
    ("predictor", "error", "message"),
    [
        ({"model": "nobody"}, UnknownModel, "nobody"),
        ({"version": "best"}, UnknownVersion, "no version 'best'"),
    ],
)
def test_a_predictor_of_a_version_that_is_not_there_is_refused(shop, predictor, error, message):
    shop.make(1, model="other", scale=9)
    serving = {**BESIDE, "predictors": [BESIDE["predictors"][0] | predictor]}
    with pytest.raises(error, match=message):
        shop.deploy(1, serving=serving)
    assert shop.endpoint.status("tiny") is None


def test_a_finished_run_that_is_cleared_moves_nothing(serving):
    serving.roll_out(2)
    before, history = serving.endpoint.status("tiny"), serving.lineage.weight_history("tiny")
    serving.roll_out(2)
    serving.roll_out(1)
    assert serving.endpoint.status("tiny") == before
    assert serving.lineage.weight_history("tiny") == history


def test_killed_before_the_rollout_is_closed_a_cleared_run_closes_it(serving, monkeypatch):
    deployed = serving.deploy(2)
    save_rollout = Lineage.save_rollout

    def die_when_done(self, record, **options):
        if record.state == "done":
            raise Killed
        return save_rollout(self, record, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Lineage, "save_rollout", die_when_done)
        with pytest.raises(Killed):
            serving.promote(2, deployed)
    assert serving.rollout(2).state == "running"
    serving.roll_out(2)
    assert (serving.weights, serving.champion, serving.rollout(2).state) == ({2: 100}, 2, "done")


def test_cleared_at_100_percent_the_stable_version_is_still_there(serving, monkeypatch):
    die_at_wait(monkeypatch, 3)
    with pytest.raises(Killed):
        serving.promote(2, serving.deploy(2))
    assert serving.weights == {1: 0, 2: 100}
    deployed = serving.deploy(2)
    assert serving.weights == {1: 0, 2: 100}
    serving.promote(2, deployed)
    assert (serving.weights, serving.champion) == ({2: 100}, 2)


def test_a_retry_continues_from_the_step_reached(serving, monkeypatch):
    deployed = serving.deploy(2)
    die_at_wait(monkeypatch, 2)
    with pytest.raises(Killed):
        serving.promote(2, deployed)
    assert serving.weights == {1: 50, 2: 50}
    reported = serving.promote(2, deployed)
    assert [step["weight"] for step in reported["steps"]] == [10, 50, 100]
    assert serving.champion == 2


def test_a_new_run_keeps_the_champion_not_the_unproven_canary(serving, monkeypatch):
    deployed = serving.deploy(2)
    die_at_wait(monkeypatch, 2)
    with pytest.raises(Killed):
        serving.promote(2, deployed, steps=(10, 90, 100))
    assert serving.weights == {1: 10, 2: 90}
    serving.make(3)
    serving.failed.add("run-2")
    serving.deploy(3)
    assert serving.rollout(2).detail["reason"] == "its run has ended (failed)"
    assert (serving.weights, serving.champion) == ({1: 100, 3: 0}, 1)


def test_a_wrong_first_version_is_taken_down(shop):
    shop.make(2, wrong=True)
    with pytest.raises(VerificationFailed, match="output 'y' is not the checkpoint's"):
        shop.deploy(2)
    assert shop.endpoint.status("tiny") is None
    shop.failed.add("run-2")
    shop.deploy(1)
    assert shop.weights == {1: 100}


def test_a_wrong_second_version_gets_no_traffic_and_is_taken_down(serving):
    serving.make(3, wrong=True)
    with pytest.raises(VerificationFailed):
        serving.deploy(3)
    assert (serving.weights, serving.answering()) == ({1: 100}, 1.0)


def test_a_version_with_another_signature_is_refused_before_traffic_moves(serving):
    serving.make(3, output="z")
    missing = r"output 'y' \(FP32 \[-1, 4\]\) of version 1 is missing in version 3"
    with pytest.raises(SignatureChanged, match=rf"version 3 has another signature than version 1.*{missing}"):
        serving.deploy(3)
    assert (serving.weights, serving.answering()) == ({1: 100}, 1.0)
    assert serving.deploy(3, allow=True)["weights"] == {"1": 100, "3": 0}


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_version_whose_answers_are_not_finite_is_compared_like_any_other(shop):
    """The golden inputs hold 0, and 0 times infinity is NaN."""
    shop.make(2, scale=float("-inf"))
    assert shop.deploy(2)["weights"] == {"2": 100}


def test_an_old_failed_run_that_is_cleared_does_not_replace_a_newer_version(serving):
    serving.make(3)
    serving.roll_out(3)
    with pytest.raises(RolloutAborted, match="version 3 serves already and is newer than version 2"):
        serving.deploy(2)
    assert (serving.weights, serving.champion) == ({3: 100}, 3)


def test_an_older_version_that_somebody_asks_for_takes_over_in_steps(serving):
    serving.roll_out(2)
    reported = serving.take_back(1, run="back", asked=True, held=None)
    assert [step["weight"] for step in reported["steps"]] == [50, 100]
    assert (serving.weights, serving.champion, serving.answering()) == ({1: 100}, 1, 1.0)
    # The run that made version 2, cleared now, moves nothing back.
    serving.roll_out(2)
    assert (serving.weights, serving.champion) == ({1: 100}, 1)


def test_a_version_that_serves_already_may_be_taken_again(serving):
    before = serving.endpoint.status("tiny")
    reported = serving.take_back(1, run="again", asked=False, held=None)
    assert (reported["weights"], serving.champion, serving.answering()) == ({"1": 100}, 1, 1.0)
    assert serving.endpoint.status("tiny") == before


def test_a_run_that_is_held_touches_nothing(serving):
    before = serving.endpoint.status("tiny")
    for task in (serving.deploy, serving.take_back):
        with pytest.raises(AirflowSkipException, match="a backfill moves nothing"):
            task(2, run="backfill", held="a backfill moves nothing")
    assert (serving.endpoint.status("tiny"), serving.lineage.rollout("tiny", "tiny/run-backfill")) == (before, None)


def test_an_image_is_tagged_as_the_spec_says(shop):
    version, image = shop.versions[1]
    assert image["tag"] == "v1"
    operator = BuildImageOperator(task_id="build", version=version, tag="tiny-{version}-rc")
    assert operator.run(shop.context(1))["tag"] == "tiny-1-rc"


def test_a_canary_that_dies_is_taken_back_and_the_rollout_stays_aborted(serving, monkeypatch):
    deployed = serving.deploy(2)
    (canary,) = (each for each in serving.endpoint.status("tiny").predictors if each.version == 2)
    wait = PromoteModelOperator._wait

    def kill_then_wait(self, rollout):
        os.kill(pid_at(canary.url), signal.SIGKILL)
        wait(self, rollout)

    monkeypatch.setattr(PromoteModelOperator, "_wait", kill_then_wait)
    with pytest.raises(RolloutAborted, match="version 2 (is not ready any more|ended during this step)"):
        serving.promote(2, deployed)
    assert (serving.weights, serving.champion, serving.answering()) == ({1: 100, 2: 0}, 1, 1.0)
    assert serving.rollout(2).state == "aborted"
    with pytest.raises(RolloutAborted, match="was aborted: .*version 2 (is not ready|ended)"):
        serving.roll_out(2)
    assert serving.weights == {1: 100, 2: 0}


def test_a_canary_that_another_run_removed_closes_the_rollout(serving, monkeypatch):
    deployed = serving.deploy(2)
    die_at_wait(monkeypatch, 1)
    with pytest.raises(Killed):
        serving.promote(2, deployed)
    serving.make(3)
    serving.failed.add("run-2")
    serving.deploy(3)
    with pytest.raises(RolloutAborted, match="this run's rollout was aborted: its run has ended"):
        serving.promote(2, deployed)
    assert serving.rollout(2).state == "aborted"
    assert serving.weights == {1: 100, 3: 0}


@pytest.mark.parametrize("last_attempt", [False, True])
def test_the_last_try_that_fails_gives_the_traffic_back(serving, monkeypatch, last_attempt):
    deployed = serving.deploy(2)

    def no_gateway(self, name):
        raise EndpointNotReady("the gateway does not answer")

    with monkeypatch.context() as patch:
        die_at_wait(patch, 1)
        with pytest.raises(Killed):
            serving.promote(2, deployed)
    monkeypatch.setattr(LocalEndpoint, "metrics", no_gateway)
    monkeypatch.setattr(rollout_record, "gives_up_at", lambda record: record.detail["since"])
    with pytest.raises(EndpointNotReady):
        serving.promote(2, deployed, last_attempt=last_attempt)
    assert serving.rollout(2).state == ("aborted" if last_attempt else "running")
    assert serving.weights == ({1: 100, 2: 0} if last_attempt else {1: 90, 2: 10})


def test_a_user_who_ends_the_task_gets_the_traffic_back(serving):
    promoter = serving.promoter(2, serving.deploy(2), interval=14)
    signal.signal(signal.SIGALRM, lambda number, frame: promoter.on_kill())
    signal.setitimer(signal.ITIMER_REAL, 1)
    began = time.monotonic()
    with pytest.raises(RolloutAborted, match="a user ended the task"):
        promoter.run(serving.context(2))
    assert time.monotonic() - began < 10
    assert (serving.weights, serving.rollout(2).state) == ({1: 100, 2: 0}, "aborted")


def test_a_user_who_ends_the_deferred_task_gets_the_traffic_back(serving, monkeypatch):
    deployed = serving.deploy(2)
    die_at_wait(monkeypatch, 2)
    with pytest.raises(Killed):
        serving.promote(2, deployed)
    trigger = RolloutTrigger(until=time.time() + 1000, endpoint="tiny", target="local", run="tiny/run-2")
    path, arguments = trigger.serialize()
    assert path == f"{RolloutTrigger.__module__}.{RolloutTrigger.__name__}"
    again = RolloutTrigger(**json.loads(json.dumps(arguments)))
    asyncio.run(again.on_kill())
    assert (serving.weights, serving.rollout(2).state) == ({1: 100, 2: 0}, "aborted")
    asyncio.run(again.on_kill())
    assert serving.rollout(2).state == "aborted"


def test_images_and_weights_of_deploy_and_of_a_stop_reach_an_exporter(serving, monkeypatch):
    """Whoever writes the lineage writes for the exporters: build_image, deploy, the trigger that a stop reaches."""
    with recording_server() as server:
        monkeypatch.setenv("MODELWAY_OPENLINEAGE_URL", server.url)
        serving.make(3)
        deployed = serving.deploy(3)
        flush_exporters()
        facets = [event["dataset"]["facets"] for event in server.taken]
        built, weight = facets[-2]["modelway_image"], facets[-1]["modelway_serving"]
        assert (built["version"], built["reference"]) == ("3", serving.versions[3][1]["reference"])
        assert (weight["endpoint"], weight["version"], weight["weight"], weight["runId"]) == ("tiny", "3", 0, "run-3")
        die_at_wait(monkeypatch, 1)
        with pytest.raises(Killed):
            serving.promote(3, deployed)
        flush_exporters()
        server.taken.clear()
        trigger = RolloutTrigger(until=time.time() + 1000, endpoint="tiny", target="local", run="tiny/run-3")
        asyncio.run(trigger.on_kill())
        flush_exporters()
        stopped = [event["dataset"]["facets"]["modelway_serving"] for event in server.taken]
        assert {each["version"]: (each["weight"], each["actor"]) for each in stopped} == {
            **{"1": (100, "airflow"), "3": (0, "airflow")}
        }


def test_what_airflow_stores_of_a_wait_has_no_password_of_the_lineage(serving, monkeypatch):
    """Airflow keeps a trigger's arguments in its own database."""
    deployed = serving.deploy(2)
    (serving.home / "s3cret.db").symlink_to(serving.home / "lineage.db")
    monkeypatch.setenv("MODELWAY_LINEAGE_URL", f"sqlite:///{serving.home}/s3cret.db")
    with pytest.raises(TaskDeferred) as deferred:
        serving.promote(2, deployed, interval=1000)
    path, arguments = deferred.value.trigger.serialize()
    assert "s3cret" not in json.dumps(arguments)
    assert arguments.keys() == {"until", "endpoint", "target", "run", "step", "poll_interval"}


def test_the_trigger_fires_when_the_time_has_come():
    async def first(trigger):
        async for event in trigger.run():
            return event.payload

    trigger = RolloutTrigger(until=time.time() + 0.3, endpoint="tiny", target="local", run="r")
    began = time.monotonic()
    assert asyncio.run(first(trigger)) == {"endpoint": "tiny"}
    assert time.monotonic() - began > 0.2
