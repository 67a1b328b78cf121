"""No job outlives its run, and looking for one harms nothing."""

import logging
import threading
from types import SimpleNamespace

import pytest
from modelway import plugin
from modelway.backends.base import Handle, Job, JobState, Options, load_backend
from modelway.following import orphaned_jobs
from modelway.following.orphaned_jobs import stop_orphaned_jobs

from tests.job_folders import WAITS, pid_of, store_code, wait_for

RUN = "tiny/manual__1"


class Backend:
    """Has two jobs that are not over; refuses to stop the first."""

    def __init__(self, *, hangs=None):
        self.asked, self.cancelled, self.hangs = [], [], hangs

    def unfinished(self, *, run):
        self.asked.append(run)
        if self.hangs:
            self.hangs.wait(60)
        return [Handle(backend="local", name=name, place="/jobs", attempt=1) for name in ("first", "second")]

    def cancel(self, handle):
        if handle.name == "first":
            raise OSError("the engine is unavailable")
        self.cancelled.append(handle.name)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def backend(monkeypatch):
    made = Backend()
    monkeypatch.setattr(orphaned_jobs, "_backend", {"local": made, "other": made}.__getitem__)
    return made


def test_what_still_runs_is_stopped_one_refusal_stops_nothing_else(backend, caplog):
    stop_orphaned_jobs(RUN, ["gone", "local"])
    assert backend.asked == [RUN]
    assert backend.cancelled == ["second"]
    assert "the jobs on the backend gone are not known: KeyError" in caplog.text
    assert "could not stop job first: OSError: the engine is unavailable" in caplog.text


def test_a_backend_that_hangs_holds_up_nobody(backend, monkeypatch, caplog):
    monkeypatch.setattr(orphaned_jobs, "SECONDS", 0.2)
    backend.hangs = threading.Event()
    with caplog.at_level(logging.ERROR):
        stop_orphaned_jobs(RUN, ["local"])
    backend.hangs.set()
    assert "find the jobs on local takes too long" in caplog.text


def ended(*tasks):
    return SimpleNamespace(dag_id="tiny", run_id="manual__1", dag=SimpleNamespace(tasks=list(tasks), tags=[]))


def test_the_end_of_a_run_starts_one_look_at_the_backends_that_its_tasks_use(monkeypatch):
    started = []
    monkeypatch.setattr(
        plugin.subprocess, "Popen", lambda words, **how: started.append(words[1:]) or SimpleNamespace(wait=lambda: 0)
    )
    local, mapped = SimpleNamespace(backend="local"), SimpleNamespace(partial_kwargs={"backend": "kubernetes"})
    for end_of_run in (plugin.EndOfRuns().on_dag_run_failed, plugin.EndOfRuns().on_dag_run_success):
        end_of_run(ended(local, local, mapped, SimpleNamespace(backend="redis"), SimpleNamespace()), "timed_out")
    words = ["-m", "modelway.following.orphaned_jobs", RUN]
    assert started == [[*words, state, "kubernetes", "local"] for state in ("failed", "success")]
    # A rollout that is left behind is ended, too.
    plugin.EndOfRuns().on_dag_run_failed(ended(SimpleNamespace(deployment="{{ … }}")), "failed")
    assert started.pop() == [*words, "failed"]
    plugin.EndOfRuns().on_dag_run_failed(ended(SimpleNamespace()), "failed")
    assert len(started) == 2, "a DAG without jobs costs nothing"


def test_a_job_that_outlived_its_run_is_stopped_by_a_process_of_its_own(home, tmp_path):
    backend = load_backend("local", home=home)
    code = store_code(tmp_path / "source", WAITS)
    asked = {"model": "tiny", "key": "train", "stage": "train", "action": "train", "module": "tiny.py", "code": code}
    left, other = (
        backend.submit(backend.build_request(Job(run=run, **asked), Options())) for run in (RUN, "tiny/manual__2")
    )
    pid_of(backend, left)
    try:
        plugin.EndOfRuns().on_dag_run_failed(ended(SimpleNamespace(backend="local")), "timed_out")
        assert backend.unfinished(run=RUN) in ([left], [])
        wait_for(lambda: backend.describe(left).state is JobState.CANCELLED, seconds=60, what="the end of the job")
        assert backend.describe(other).state is JobState.RUNNING
    finally:
        backend.cancel(left)
        backend.cancel(other)
