"""No job outlives its run, and looking for one harms nothing."""

import logging
import os
import threading
import time
from types import SimpleNamespace

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from modelway.backends.base import Handle
from modelway.dag import left_jobs
from modelway.dag.left_jobs import stop_left_jobs
from modelway.triggers._deferred import DeferredJob, note

CONTEXT = {"dag": SimpleNamespace(dag_id="tiny"), "run_id": "manual__1", "reason": "timed_out"}


class Backend:
    """Has two jobs that are not over; refuses to stop the first."""

    def __init__(self, *, hangs=None):
        self.asked, self.cancelled, self.hangs = [], [], hangs

    def unfinished(self, *, model, run):
        self.asked.append((model, run))
        if self.hangs:
            self.hangs.wait(60)
        return [Handle(backend="local", name=name, place="/jobs", attempt=1) for name in ("first", "second")]

    def cancel(self, handle):
        if handle.name == "first":
            raise OSError("the engine is away")
        self.cancelled.append(handle.name)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def backend(monkeypatch):
    made = Backend()
    monkeypatch.setattr(left_jobs, "_backend", {"local": made, "other": made}.__getitem__)
    return made


@pytest.fixture
def states(monkeypatch):
    """Return the states that Airflow gives for the run's tasks."""
    given = {"train.train": "failed", "evaluate.checkpoint_0": None}
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **asked: {"manual__1": given})
    return given


def test_what_still_runs_is_stopped_one_refusal_stops_nothing_else(backend, states, caplog):
    stop_left_jobs(CONTEXT, model="tiny", backends=["gone", "local"])
    assert backend.asked == [("tiny", "tiny/manual__1")]
    assert backend.cancelled == ["second"]
    assert "what is left on the backend gone is not known: KeyError" in caplog.text
    assert "could not stop job first: OSError: the engine is away" in caplog.text


@pytest.mark.parametrize("state", ["deferred", "running", "queued", "up_for_retry"])
def test_a_run_that_was_cleared_meanwhile_keeps_its_jobs(backend, states, state):
    states["train.train"] = state
    stop_left_jobs(CONTEXT, model="tiny", backends=["local"])
    assert backend.asked == []


def test_jobs_are_stopped_where_the_tasks_states_cannot_be_asked(backend, monkeypatch):
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **asked: 1 / 0)
    stop_left_jobs(CONTEXT, model="tiny", backends=["local"])
    assert backend.cancelled == ["second"]


def test_a_backend_that_hangs_holds_up_nobody(backend, states, monkeypatch, caplog):
    monkeypatch.setattr(left_jobs, "SECONDS", 0.2)
    backend.hangs = threading.Event()
    with caplog.at_level(logging.ERROR):
        stop_left_jobs(CONTEXT, model="tiny", backends=["local"])
    backend.hangs.set()
    assert "look for jobs on local takes too long" in caplog.text


def noted(home, name, *, run_id, task_id="train.train", age=3600.0, **more):
    handle = Handle(backend="local", name=name, place="/jobs", attempt=1)
    note(home, DeferredJob(follower=name, handle=handle, dag_id="tiny", run_id=run_id, task_id=task_id, **more))
    at = time.time() - age
    os.utime(home / "deferred" / f"{name}.json", (at, at))


def test_jobs_that_lost_their_task_unseen_are_stopped_at_the_next_end_of_a_run(backend, home, monkeypatch):
    known = {
        "marked": {"train.train": "failed"},
        "goes on": {"train.train": "deferred", "evaluate_0": "success", "evaluate_1": "running"},
        "cleared": {"train.train": None},
    }
    asked = []

    def states(*, dag_id, run_ids):
        asked.append((dag_id, run_ids))
        return {run_id: known[run_id] for run_id in run_ids if run_id in known}

    backend.unfinished = lambda **of: []
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", states)
    noted(home, "a", run_id="marked")
    noted(home, "b", run_id="deleted")
    noted(home, "c", run_id="goes on")
    noted(home, "d", run_id="goes on", task_id="evaluate", map_index=0)
    noted(home, "e", run_id="goes on", task_id="evaluate", map_index=1)
    noted(home, "f", run_id="cleared")
    noted(home, "g", run_id="deleted", age=0.0)
    (home / "deferred" / "torn.json").write_text("{")
    stop_left_jobs(CONTEXT, model="tiny", backends=["local"])
    assert sorted(backend.cancelled) == ["a", "b", "d"]
    assert sorted(path.stem for path in home.glob("deferred/*.json")) == ["c", "e", "f", "g", "torn"]
    assert asked[1:] == [("tiny", ["cleared", "deleted", "goes on", "marked"])], "one question for a DAG"


def test_no_job_is_stopped_where_airflow_does_not_answer(backend, home, monkeypatch):
    backend.unfinished = lambda **of: []
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **asked: 1 / 0)
    noted(home, "a", run_id="deleted")
    stop_left_jobs(CONTEXT, model="tiny", backends=["local"])
    assert backend.cancelled == []
    assert (home / "deferred" / "a.json").exists()
