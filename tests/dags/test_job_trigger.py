"""What the trigger of a job promises: each line once, a job left alone while its task wants it, a light load."""

import asyncio
import json
import os
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from modelway.backends.base import Handle, JobState, JobStatus
from modelway.errors import LineageUnavailable
from modelway.following.deferral import DeferredJob, record_deferral
from modelway.lineage.store import open_lineage
from modelway.triggers import job as job_module
from modelway.triggers.job import JobTrigger

HANDLE = Handle(backend="fake", name="job", place="/jobs", attempt=1).to_dict()


class Backend:
    """A job that prints what a test gives and continues until ``over``."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.over, self.cancelled, self.slow = False, 0, 0.0

    def describe(self, handle: Handle) -> JobStatus:
        time.sleep(self.slow)
        return JobStatus(state=JobState.SUCCEEDED if self.over else JobState.RUNNING, seconds=1.5)

    def logs(self, handle: Handle, *, offset: int = 0) -> tuple[str, int]:
        return "".join(f"{line}\n" for line in self.lines[offset:]), len(self.lines)

    def cancel(self, handle: Handle) -> None:
        self.cancelled += 1


@pytest.fixture
def backend(monkeypatch) -> Backend:
    made = Backend()
    monkeypatch.setattr(job_module, "backend_from_airflow", lambda name, *, home: made)
    monkeypatch.setattr(job_module, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(job_module, "_last_check", -job_module.ABANDONED_SECONDS)
    return made


class Log(list):
    """Stands for the task's log."""

    def info(self, form: str, *words: Any) -> None:
        self.append(form % words)


@pytest.fixture
def make(tmp_path, backend):
    """Return a function that makes a trigger as a triggerer does, from what is stored of it."""

    def make(log: Log, **more: Any) -> JobTrigger:
        trigger = JobTrigger(handle=HANDLE, home=str(tmp_path), poll_interval=0.01, **{"follower": "f", **more})
        path, kwargs = trigger.serialize()
        assert path == "modelway.triggers.job.JobTrigger"
        again = JobTrigger(**json.loads(json.dumps(kwargs)))
        again._log = log
        return again

    return make


async def events(trigger: JobTrigger) -> list[Any]:
    return [event.payload async for event in trigger.run()]


async def until(condition) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def stopped_in_the_middle(make, backend: Backend, log: Log) -> None:
    """Follow the job until everything it printed is logged, then stop as a triggerer does that shuts down."""

    async def follow() -> None:
        task = asyncio.create_task(events(make(log, offset=1)))
        await asyncio.wait_for(until(lambda: log and log[-1] == backend.lines[-1]), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(follow())


def test_it_fires_once_with_the_handle_and_the_status(make, backend):
    backend.lines, backend.over, log = ["a", "b"], True, Log()
    (event,) = asyncio.run(events(make(log)))
    assert (event["handle"], event["status"]["state"], event["status"]["seconds"]) == (HANDLE, "succeeded", 1.5)
    assert log == ["a", "b"]


def test_a_job_whose_backend_is_made_anew_after_a_refusal_is_followed_by_that(make, backend, monkeypatch):
    """Such as with a new key; Airflow cannot look up the connection at first."""
    refused, answers = Backend(), []
    refused.describe = lambda handle: JobStatus(state=JobState.UNKNOWN, reason="the key is not accepted")
    unavailable = LineageUnavailable("Airflow cannot say whether there is a connection", do="Try again")

    def found(name, *, home):
        answers.append(name)
        if len(answers) in (1, 3):
            raise unavailable
        return refused if len(answers) < 5 else backend

    monkeypatch.setattr(job_module, "backend_from_airflow", found)
    monkeypatch.setattr(job_module, "CONNECTION_PAUSES", (0.01,))
    monkeypatch.setattr(job_module, "_last_check", time.monotonic())
    backend.lines, backend.over, log = ["a"], True, Log()
    (event,) = asyncio.run(events(make(log)))
    assert (event["status"]["state"], log[-1], len(answers)) == ("succeeded", "a", 5)


def test_a_triggerer_killed_before_its_event_is_stored_fires_again_and_repeats_nothing(make, backend):
    backend.lines, backend.over, log = ["a", "b"], True, Log()
    first, second = (asyncio.run(events(make(log))) for _ in range(2))
    assert first == second
    assert log == ["a", "b"]


def test_a_restarted_triggerer_continues_at_the_very_line(make, backend):
    backend.lines, log = ["the worker had this", "one", "two"], Log()
    stopped_in_the_middle(make, backend, log)
    backend.lines += ["three", "four"]
    stopped_in_the_middle(make, backend, log)
    backend.lines, backend.over = [*backend.lines, "five"], True
    asyncio.run(events(make(log, offset=1)))
    assert log == ["one", "two", "three", "four", "five"]


def test_another_deferral_begins_where_its_worker_ended(make, backend):
    backend.lines, log = ["the worker had this", "one"], Log()
    stopped_in_the_middle(make, backend, log)
    backend.over, log = True, Log()
    asyncio.run(events(make(log, offset=0, follower="g")))
    assert log == ["the worker had this", "one"]


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the trigger runs after it."""


@pytest.mark.parametrize("logged", range(5))
def test_a_triggerer_killed_between_two_lines_repeats_none_and_loses_none(make, backend, logged):
    backend.lines, log = ["the worker had this", "one", "two", "three", "four", "five"], Log()

    class Dying(Log):
        lines = logged

        def info(self, form: str, *words: Any) -> None:
            if len(self) == self.lines:
                raise Killed
            super().info(form, *words)

    before = Dying()
    with pytest.raises(Killed):
        asyncio.run(events(make(before, offset=1)))
    # Since then the job has printed more, and the next triggerer dies of the same.
    backend.lines += ["six"]
    again = Dying()
    again.lines = 1
    with pytest.raises(Killed):
        asyncio.run(events(make(again, offset=1)))
    backend.lines, backend.over = [*backend.lines, "seven"], True
    asyncio.run(events(make(log, offset=1)))
    assert before + again + log == ["one", "two", "three", "four", "five", "six", "seven"]


def test_a_triggerer_killed_before_a_lines_place_is_kept_repeats_that_line_alone(make, backend, monkeypatch):
    backend.lines, log = ["the worker had this", "one", "two", "three"], Log()
    write = job_module.LogPosition.write

    def killed(self: Any, offset: int, *, lines: int = 0) -> None:
        if lines == 2:
            raise Killed
        write(self, offset, lines=lines)

    with monkeypatch.context() as patch:
        patch.setattr(job_module.LogPosition, "write", killed)
        with pytest.raises(Killed):
            asyncio.run(events(make(log, offset=1)))
    backend.over = True
    asyncio.run(events(make(log, offset=1)))
    assert log == ["one", "two", "two", "three"]


def task(**more: Any) -> Any:
    return SimpleNamespace(**{"dag_id": "tiny", "task_id": "train.train", "run_id": "r", "map_index": -1, **more})


@pytest.mark.parametrize(
    ("map_index", "states", "cancelled"),
    [
        (-1, {"r": {"train.train": "failed"}}, 1),
        (-1, {"r": {"train.train": "success"}}, 1),
        (-1, {"r": {"train.train": "skipped"}}, 1),
        # Another triggerer follows the job now.
        (-1, {"r": {"train.train": "deferred"}}, 0),
        # It was cleared, and takes the job up again.
        (-1, {"r": {"train.train": None}}, 0),
        (-1, {"r": {"train.train": "running"}}, 0),
        (3, {"r": {"train.train_3": "deferred", "train.train": "failed"}}, 0),
        (3, {"r": {"train.train_3": "removed"}}, 1),
        # The task or the run is gone.
        (-1, {"r": {}}, 1),
        (-1, {}, 1),
    ],
)
def test_a_kill_stops_the_job_unless_its_task_continues(make, backend, monkeypatch, map_index, states, cancelled):
    asked = []
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **given: asked.append(given) or states)
    trigger = make(Log())
    trigger._task_instance = task(map_index=map_index)
    asyncio.run(trigger.on_kill())
    assert backend.cancelled == cancelled
    assert asked[0]["run_ids"] == ["r"]


@pytest.mark.parametrize(("state", "resolved_by"), [("failed", None), ("success", 2), ("skipped", None)])
def test_a_mark_that_ends_a_deferred_task_is_in_the_account_of_the_run(make, tmp_path, monkeypatch, state, resolved_by):
    monkeypatch.setenv("MODELWAY_LINEAGE_URL", f"sqlite:///{tmp_path}/lineage.db")
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **given: {"r": {"train.train": state}})
    place = {"dag_id": "tiny", "run_id": "r", "task_id": "train.train", "model": "tiny", "key": "train.train"}
    record_deferral(
        tmp_path, DeferredJob(follower="f", handle=Handle.from_dict(HANDLE), attempt=2, stage="train", **place)
    )
    trigger = make(Log())
    trigger._task_instance = task()
    asyncio.run(trigger.on_kill())
    (record,) = open_lineage(f"sqlite:///{tmp_path}/lineage.db").account("r", model="tiny").failures
    assert record.cause == f"the task was marked {state} in Airflow, by itself or with its run, while its job ran"
    assert (record.key, record.attempt, record.job, record.rule) == ("train.train", 2, "job", "marked")
    assert record.resolved_by == resolved_by


def test_a_kill_stops_the_job_where_the_task_cannot_be_asked_for(make, backend, monkeypatch):
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **given: 1 / 0)
    trigger = make(Log())
    trigger._task_instance = task()
    asyncio.run(trigger.on_kill())
    assert backend.cancelled == 1


def test_200_jobs_on_a_slow_backend_leave_the_loop_and_its_threads_to_others(make, backend):
    backend.slow, longest = 0.1, 0.0

    async def follow() -> float:
        nonlocal longest
        triggers = [make(Log(), follower=f"f{number}") for number in range(200)]
        tasks = [asyncio.create_task(events(trigger)) for trigger in triggers]
        await asyncio.sleep(0.3)
        for _ in range(10):
            begun = time.monotonic()
            await asyncio.to_thread(lambda: None)
            longest = max(longest, time.monotonic() - begun)
        backend.over = True
        await asyncio.wait_for(asyncio.gather(*tasks), 60)
        return longest

    asyncio.run(follow())
    assert longest < 1.0, "asyncio's own threads wait for jobs"
    assert sum(thread.name.startswith("modelway-job") for thread in threading.enumerate()) <= 32


def test_a_triggerer_that_comes_back_stops_the_jobs_that_lost_their_task(make, backend, tmp_path, monkeypatch):
    handle = Handle.from_dict({**HANDLE, "name": "left"})
    record_deferral(
        tmp_path, DeferredJob(follower="left", handle=handle, dag_id="tiny", run_id="gone", task_id="train")
    )
    os.utime(tmp_path / "deferred" / "left.json", (0, 0))
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **asked: {})
    backend.over, log = True, Log()
    asyncio.run(events(make(log)))
    asyncio.run(events(make(log, follower="g")))
    assert backend.cancelled == 1
    assert log == ["job left was stopped: its task in run gone is over"]
    assert not list(tmp_path.glob("deferred/*"))
