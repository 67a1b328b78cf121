"""A version's way to production through a real Airflow: accepted, released, approved or rejected, and rolled back."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Lab, wait_for

from tests.endpoint_clients import pid_at

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
MODELWAY = Path(sys.executable).parent / "modelway"
MODEL, PROD, PROMOTE = "released", "released-prod", "serve.promote"
RUN_SECONDS = 300
#: what a person takes to answer, at least
PERSON_SECONDS = 10


@pytest.fixture(scope="module")
def released(lab: Lab):
    """The lab with two versions of the model, each of which its run has brought to the environment dev."""
    assert lab.finish(MODEL) == "success", lab.states(MODEL)
    run_id = lab.api.trigger(MODEL)
    assert ended(lab, run_id) == "success", lab.api.tasks(MODEL, run_id)
    yield lab
    for name in ("released-dev", PROD):
        lab.endpoint.delete(name)


def ended(lab: Lab, run_id: str) -> str:
    wait_for(lambda: lab.api.run_state(MODEL, run_id) in ("success", "failed"), RUN_SECONDS)
    return lab.api.run_state(MODEL, run_id)


def command(lab: Lab, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run the command as a person does who reaches the Airflow and its lineage over the network."""
    environment = {
        **os.environ,
        "AIRFLOW_CONN_MODELWAY_AIRFLOW": lab.api.url.replace("://", f"://admin:{lab.airflow.password}@"),
        "MODELWAY_LINEAGE_URL": str(lab.lineage.engine.url.render_as_string(hide_password=False)),
        "MODELWAY_MODELS": str(lab.models),
        "MODELWAY_HOME": str(lab.home),
    }
    return subprocess.run([MODELWAY, *words], env=environment, capture_output=True, text=True)


def release(lab: Lab, version: str, *more: str) -> str:
    """Release a version to production and return the run's id."""
    done = command(lab, "release", MODEL, version, "--env", "prod", *more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"version {version} of released goes to prod: run " in done.stdout
    return done.stdout.partition(": run ")[2].split()[0]


def weights(lab: Lab, endpoint: str) -> dict[int, int]:
    status = lab.endpoint.status(endpoint)
    return {each.version: each.weight for each in status.predictors} if status else {}


def wait_for_question(lab: Lab, run_id: str) -> str:
    """Wait until a person has to answer, and return where."""
    path = f"/dags/{MODEL}/dagRuns/{run_id}/taskInstances/{PROMOTE}/-1/hitlDetails"
    states = lambda: {task.task_id: task.state for task in lab.api.tasks(MODEL, run_id)}  # noqa: E731
    asks = lambda: getattr(rollout(lab, run_id), "detail", {}).get("waits_for") == "approval"  # noqa: E731
    waits = lambda: states()[PROMOTE] == "deferred" and asks()  # noqa: E731
    wait_for(lambda: waits() or "failed" in states().values(), RUN_SECONDS)
    assert waits(), states()
    assert "Give all traffic of released-prod to version 2?" in lab.api.call("GET", path)["subject"]
    # No person is faster than Airflow's scheduler, which fails a task that continues before it saw its process end.
    time.sleep(PERSON_SECONDS)
    return path


def rollout(lab: Lab, run_id: str):
    return lab.lineage.rollout(PROD, f"{MODEL}/{run_id}")


def test_a_run_brings_its_version_to_the_first_environment_and_no_further(released):
    assert weights(released, "released-dev") == {2: 100}
    assert released.xcom(MODEL, "serve.accept")["metrics"]["requests"] > 0
    assert released.lineage.aliases(MODEL) == {"candidate": 2}
    assert released.lineage.weights(PROD) == {}


def test_a_version_is_released_and_the_next_one_after_a_person_approved(released):
    first = release(released, "1", "--wait", "--reason", "the first one")
    assert weights(released, PROD) == {1: 100}
    assert released.lineage.aliases(MODEL)["champion"] == 1
    assert released.lineage.rollout(PROD, f"{MODEL}/{first}").state == "done"
    second = release(released, "2")
    path = wait_for_question(released, second)
    assert weights(released, PROD) == {1: 50, 2: 50}
    released.api.call("PATCH", path, json={"chosen_options": ["Approve"], "params_input": {}})
    assert ended(released, second) == "success"
    assert weights(released, PROD) == {2: 100}
    answer = rollout(released, second).detail["approval"]
    assert (answer["approved"], answer["by"]) == (True, "admin")


def test_the_version_that_served_before_comes_back_at_once(released):
    done = command(released, "rollback", MODEL, "--wait", "--reason", "users complain")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the traffic of prod goes back from version 2 of released to version 1" in done.stdout
    assert weights(released, PROD) == {1: 100}
    assert released.lineage.aliases(MODEL)["champion"] == 1
    detail = released.lineage.rollouts(PROD)[0].detail["rollback"]
    assert detail["from"] == 2
    assert "users complain" in detail["why"]
    refused = command(released, "rollback", MODEL)
    assert refused.returncode == 1
    assert "there is nothing to return to: no version before 1 served" in refused.stderr


def test_a_person_rejects_a_version(released):
    run_id = release(released, "2")
    path = wait_for_question(released, run_id)
    released.api.call("PATCH", path, json={"chosen_options": ["Reject"], "params_input": {}})
    assert ended(released, run_id) == "failed"
    wait_for(lambda: weights(released, PROD) == {1: 100, 2: 0})
    closed = rollout(released, run_id)
    assert (closed.state, closed.detail["approval"]["approved"]) == ("aborted", False)


def test_a_version_whose_server_ends_while_a_person_is_asked_is_rolled_back_and_the_question_closed(released):
    run_id = release(released, "2")
    path = wait_for_question(released, run_id)
    (mine,) = (each for each in released.endpoint.status(PROD).predictors if each.version == 2)
    os.kill(pid_at(mine.url), signal.SIGKILL)
    assert ended(released, run_id) == "failed"
    closed = rollout(released, run_id)
    assert (closed.state, weights(released, PROD)) == ("aborted", {1: 100, 2: 0})
    assert "the server of version 2 ended" in closed.detail["reason"]
    question = released.api.call("GET", path)
    assert (question["response_received"], question["chosen_options"]) == (True, ["Reject"])
    assert question["responded_by_user"] is None


def test_a_rollback_ends_the_rollout_that_is_running(released):
    run_id = release(released, "2")
    wait_for_question(released, run_id)
    done = command(released, "rollback", MODEL, "--reason", "not today")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the rollout of version 2 of released is ended; version 1 gets all traffic" in done.stdout
    assert released.api.run_state(MODEL, run_id) == "failed"
    assert rollout(released, run_id).state == "aborted"
    wait_for(lambda: weights(released, PROD) == {1: 100, 2: 0})
    requested = next(each for each in released.lineage.events(MODEL) if each.kind == "rollback-requested")
    assert "not today" in requested.detail["reason"]
