"""A version is accepted by the model's own tests, as a real job against its real predictor, before it gets traffic."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from modelway.lineage.records.version import CandidateRecord
from modelway.lineage.schema.tables import rollouts
from modelway.operators import job_operator
from modelway.operators.accept import AcceptVersionOperator
from modelway.triggers import job as job_trigger
from modelway.triggers.acceptance import AcceptanceTrigger
from sqlalchemy import update

from tests.job_folders import store_code
from tests.rollout_shop import Shop
from tests.task_instance import Store, Ti

#: what ``params`` says decides what the model's own tests find
CODE = """
import numpy
def accept(job, served):
    (request,) = served.golden.values()
    answer = served.infer(request.inputs)
    numpy.testing.assert_allclose(answer["y"], request.outputs["y"], rtol=1e-3)
    assert served.version <= job.params["most"], f"version {served.version} is not wanted"
    return {"rows": len(answer["y"])}
"""
#: by what a command gets
COMMAND = """
import os, urllib.request
golden = os.listdir(os.environ["MODELWAY_GOLDEN"])
assert sorted(golden) == ["inputs.safetensors", "outputs.safetensors"], golden
assert os.environ["MODELWAY_ENDPOINT_URL"].endswith("/versions/" + os.environ["MODELWAY_VERSION"])
print(urllib.request.urlopen(os.environ["MODELWAY_ENDPOINT_URL"] + "/ready").status)
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_REGISTRY", "http://registry")
    monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)
    shop = Shop(tmp_path)
    shop.make(1)
    stored = store_code(tmp_path / "package", CODE, **{"check.py": COMMAND})
    shop.code = {"model": "tiny", "module": "tiny.py", **stored.to_dict()}
    yield shop
    shop.endpoint.delete("tiny")


def accept(shop, number, *, most=9, run=None, params=None, **options):
    context = shop.context(run or number)
    context["dag_run"].clear_number = 0
    context["dag_run"].run_after = datetime(2026, 3, 10, tzinfo=UTC)
    context["dag_run"].start_date = None
    context["dag_run"].run_type = SimpleNamespace(value="manual")
    context["ti"] = Ti(
        dag_id="tiny",
        run_id="run",
        task_id="accept",
        try_number=1,
        max_tries=2,
        map_index=-1,
        start_date=None,
        pushed={},
    )
    context["task_state_store"] = Store()
    operator = AcceptVersionOperator(
        task_id="accept",
        code=shop.code,
        version=shop.versions[number][0],
        deployment=shop.deployed,
        job_params={"most": most},
        **options,
    )
    return operator.execute(context)


def test_a_version_that_answers_as_its_author_wants_is_accepted(shop):
    shop.deployed = shop.deploy(1)
    assert accept(shop, 1) == {"metrics": {"rows": 2.0}}
    shop.promote(1, shop.deployed)
    assert accept(shop, 1, most=0) == {"metrics": {}}, "its rollout is over"
    assert shop.weights == {1: 100}


def test_a_version_of_a_sweep_is_tested_with_the_parameters_of_its_candidate(shop):
    others = [CandidateRecord(name=f"c0{n}", params={"most": 0}, state="trained") for n in (1, 3)]
    selected = CandidateRecord(name="c02", params={"most": 9, "rate": 0.5}, state="selected")
    shop.make(2, candidates=(others[0], selected, others[1]))
    shop.deployed = shop.deploy(2)
    assert accept(shop, 2, most=0, searched=["most"]) == {"metrics": {"rows": 2.0}}


def test_a_long_acceptance_shows_that_its_rollout_lives(shop, monkeypatch, tmp_path):
    """Another Airflow takes one for dead of which nothing is recorded for an hour."""
    monkeypatch.setattr(job_operator, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(job_trigger, "SETTLE_SECONDS", 0.0)
    shop.deployed = shop.deploy(1)
    continues = tmp_path / "goes-on"
    wait = f"import os, time\nwhile not os.path.exists({str(continues)!r}): time.sleep(0.05)"
    with pytest.raises(TaskDeferred) as deferred:
        accept(shop, 1, command=["python", "-c", wait])
    _, arguments = deferred.value.trigger.serialize()
    trigger = AcceptanceTrigger(**{**json.loads(json.dumps(arguments)), "poll_interval": 0.05})
    long_ago = datetime.now(UTC) - timedelta(minutes=50)
    with shop.lineage.engine.begin() as connection:
        connection.execute(update(rollouts).values(updated_at=long_ago))

    async def follow():
        fires = asyncio.create_task(anext(trigger.run()))
        while shop.rollout(1).updated_at == long_ago and not fires.done():
            await asyncio.sleep(0.05)
        continues.touch()
        return await asyncio.wait_for(fires, 60)

    event = asyncio.run(follow()).payload
    assert shop.rollout(1).updated_at > long_ago
    assert event["status"]["state"] == "succeeded"


def test_a_worker_that_follows_a_long_acceptance_shows_it_as_well(shop):
    shop.deployed = shop.deploy(1)
    long_ago = datetime.now(UTC) - timedelta(minutes=50)
    with shop.lineage.engine.begin() as connection:
        connection.execute(update(rollouts).values(updated_at=long_ago))
    accept(shop, 1)
    assert shop.rollout(1).updated_at > long_ago


def test_a_command_finds_the_version_by_its_environment(shop):
    shop.deployed = shop.deploy(1)
    assert accept(shop, 1, command=["python", "check.py"]) == {"metrics": {}}


def test_a_version_that_is_not_accepted_is_withdrawn_and_the_one_before_serves_on(shop):
    shop.roll_out(1)
    shop.make(2)
    shop.deployed = shop.deploy(2)
    message = r"version 2 is not accepted: .*version 2 is not wanted \(tiny.py:7 in accept"
    with pytest.raises(AirflowFailException, match=message):
        accept(shop, 2, most=1)
    assert (shop.weights, shop.answering(), shop.champion) == ({1: 100}, 1.0, 1)
    assert shop.rollout(2).state == "aborted"
    assert "version 2 is not wanted" in shop.rollout(2).detail["reason"]
    assert shop.lineage.weights("tiny") == {1: 100, 2: 0}


def test_where_nothing_served_before_nothing_serves_after(shop):
    shop.deployed = shop.deploy(1)
    with pytest.raises(AirflowFailException, match="version 1 is not accepted"):
        accept(shop, 1, most=0)
    assert shop.endpoint.status("tiny") is None
    assert (shop.rollout(1).state, shop.lineage.weights("tiny")) == ("aborted", {1: 0})
