"""Jobs whose task's worker has to end, whose task is over, or whose next attempt is on another host."""

import os
import signal
import threading
from functools import partial
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferred
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.sdk.execution_time.timeout import timeout
from modelway.errors import JobLost
from modelway.following.claim import Claim
from modelway.following.follower import Follower
from modelway.hooks.backend import backend_from_airflow
from modelway.operators import job_operator
from modelway.operators.train import TrainModelOperator

from tests.job_folders import wait_for
from tests.job_tasks import Task, failures_in, own_home, stored_task_code


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    return own_home(tmp_path, monkeypatch)


@pytest.fixture
def task(tmp_path):
    return partial(Task, stored_task_code(tmp_path))


@pytest.fixture
def recorded(home):
    """Return a function that gives what the lineage has of the run's failures."""
    return partial(failures_in, home)


@pytest.fixture
def airflow_answers(monkeypatch):
    """Answer the question for the task's state as Airflow does; without one the task is gone."""

    def answer(*states: str | None) -> list[Any]:
        asks: list[Any] = []

        def get_task_states(**given: Any) -> Any:
            asks.append(given)
            if states == ("nobody answers",):
                raise EOFError
            return {"now": dict.fromkeys(states and given["task_ids"], *states)}

        monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", get_task_states)
        return asks

    return answer


@pytest.fixture
def signalled(home):
    """Return a function that executes a task as its process does, and is sent a signal once its job runs."""

    def execute(one: Task, number: signal.Signals = signal.SIGTERM) -> Any:
        operator = TrainModelOperator(task_id="train", **one.given)
        before, struck = signal.signal(signal.SIGTERM, lambda *given: operator.on_kill()), threading.Event()

        def strike() -> None:
            wait_for(lambda: any("tries.txt" in files for *_, files in os.walk(home / "jobs")), what="the job")
            struck.set()
            os.kill(os.getpid(), number)

        thread = threading.Thread(target=strike)
        thread.start()
        try:
            return operator.execute(one.context())
        finally:
            thread.join()
            signal.signal(signal.SIGTERM, before)
            assert struck.is_set(), "what ended the task was no signal of this test"

    return execute


@pytest.fixture
def the_job(home):
    """Return a function that says where the only job stands; what still runs at the end is stopped."""
    backend = backend_from_airflow("local", home=home)

    def jobs() -> list[Any]:
        return backend.unfinished(run="tiny/now")

    yield lambda: "runs" if jobs() else "is over"
    for handle in jobs():
        backend.cancel(handle)


def test_a_worker_that_has_to_end_hands_its_job_to_the_triggerer(
    task, airflow_answers, signalled, the_job, monkeypatch
):
    monkeypatch.setattr(job_operator, "PATIENCE_SECONDS", 600.0)
    airflow_answers("running")
    with pytest.raises(TaskDeferred):
        signalled(task("sleep"))
    assert the_job() == "runs"


@pytest.mark.parametrize("states", [("failed",), ("success",), ("skipped",), ("removed",), ()])
def test_the_job_of_a_task_that_is_over_is_stopped(
    task, airflow_answers, signalled, the_job, monkeypatch, states, recorded
):
    monkeypatch.setattr(job_operator, "PATIENCE_SECONDS", 600.0)
    airflow_answers(*states)
    with pytest.raises(JobLost, match="the job was cancelled"):
        signalled(task("sleep"))
    assert the_job() == "is over"
    # A mark is recorded as such, and not as a job that was cancelled by itself.
    (record,) = recorded()
    marked = bool(states) and states[0] != "removed"
    assert (record.rule == "marked", f"was marked {states[0]}" in record.cause if marked else False) == (marked, marked)


@pytest.mark.parametrize("state", ["restarting", "queued", None, "nobody answers"])
def test_the_job_of_a_task_that_starts_anew_or_cannot_be_asked_for_is_left(
    task, airflow_answers, signalled, the_job, monkeypatch, capsys, state
):
    asks, step = airflow_answers(state), Follower.step

    class Killed(BaseException):
        """What a worker does to a process that does not end."""

    def killed_after_the_look(self: Any) -> Any:
        if asks:
            raise Killed
        return step(self)

    monkeypatch.setattr(job_operator, "PATIENCE_SECONDS", 600.0)
    monkeypatch.setattr(Follower, "step", killed_after_the_look)
    with pytest.raises(Killed):
        signalled(task("sleep"))
    assert the_job() == "runs"
    assert "is left running" in capsys.readouterr().out


def test_a_task_that_takes_too_long_stops_its_job_while_airflow_says_it_runs(
    task, airflow_answers, signalled, the_job, monkeypatch
):
    monkeypatch.setattr(job_operator, "PATIENCE_SECONDS", 600.0)
    airflow_answers("running")
    with pytest.raises(AirflowTaskTimeout), timeout(600):
        signalled(task("sleep"), signal.SIGALRM)
    assert the_job() == "is over"


def test_a_try_that_airflow_ends_leaves_the_job_to_the_one_that_follows_it_now(
    task, airflow_answers, home, the_job, monkeypatch
):
    monkeypatch.setattr(job_operator, "PATIENCE_SECONDS", 600.0)
    airflow_answers("failed")
    one, claims = task("sleep"), [""]
    first, second = (TrainModelOperator(task_id="train", **one.given) for _ in range(2))
    threads = []

    def claim() -> str:
        return "".join(path.read_text() for path in home.glob("followers/*"))

    for operator in (first, second):

        def follow(each=operator):
            with pytest.raises(JobLost, match="the job was cancelled"):
                each.execute(one.context())

        threads.append(threading.Thread(target=follow))
        threads[-1].start()
        wait_for(lambda: claim() not in claims, what="the claim")
        claims.append(claim())
    first.on_kill()
    wait_for(lambda: not first._end_requested, what="the first one's look at its task")
    assert the_job() == "runs"
    second.on_kill()
    for thread in threads:
        thread.join(timeout=30)
    assert the_job() == "is over"


@pytest.fixture
def on_host(monkeypatch, tmp_path):
    """Return a function that makes this process one of a Celery worker's host, with a home of that host's own."""

    def move(name: str) -> None:
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
        monkeypatch.setenv("MODELWAY_HOST", name)
        monkeypatch.setenv("MODELWAY_HOME", str(tmp_path / name))
        monkeypatch.setattr(job_operator, "PATIENCE_SECONDS", 0.0)

    return move


def test_on_hosts_with_homes_of_their_own_a_job_keeps_its_task_in_the_worker(task, on_host, airflow_answers):
    airflow_answers("running")
    on_host("a")
    assert task("fine").attempt()


def test_with_a_home_for_all_hosts_the_triggerer_follows_the_job(task, on_host, monkeypatch, the_job, home):
    on_host("a")
    monkeypatch.setenv("MODELWAY_SHARED_HOME", "true")
    monkeypatch.setenv("MODELWAY_HOME", str(home))
    with pytest.raises(TaskDeferred):
        task("sleep").attempt()
    assert the_job() == "runs"


def test_a_retry_on_another_host_says_why_it_begins_anew(task, on_host, airflow_answers, capsys):
    airflow_answers("running")
    one = task("kill", retries=2)
    on_host("a")
    with pytest.raises(JobLost):
        one.attempt()
    one.given["job_params"] = {"does": "fine"}
    on_host("b")
    assert one.attempt()
    printed = capsys.readouterr().out
    assert "attempt 1 began this job on the host a, whose home is not that of this host, b: it begins anew" in printed
    # A host that had it before, and has it again, has nothing to say.
    on_host("b")
    assert one.attempt()
    assert capsys.readouterr().out.count("began this job") == 0


def test_what_a_killed_task_left_on_a_host_is_stopped_by_its_next_job(
    task, on_host, airflow_answers, tmp_path, monkeypatch
):
    airflow_answers("running")
    on_host("a")

    class Killed(BaseException):
        """What ends a task's process, and leaves the record that it made."""

    def killed(*_: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Follower, "step", killed)
        patch.setattr(job_operator, "forget_deferral", killed)
        with pytest.raises(Killed):
            task("sleep").attempt()
    backend = backend_from_airflow("local", home=tmp_path / "a")
    assert backend.unfinished(run="tiny/now")
    (record,) = (tmp_path / "a" / "deferred").glob("*.json")
    os.utime(record, (0, 0))
    # It has ended on another host meanwhile.
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **_: {"now": {"train": "success"}})
    other = task("fine")
    operator = TrainModelOperator(task_id="other", **other.given)
    context = other.context()
    context["ti"].task_id = "other"
    operator.execute(context)
    assert not backend.unfinished(run="tiny/now")


def test_of_two_attempts_that_follow_one_job_the_later_one_has_it(task, airflow_answers, home, the_job, monkeypatch):
    monkeypatch.setattr(job_operator, "PATIENCE_SECONDS", 600.0)
    airflow_answers("running")
    one, ended = task("sleep"), []

    def follow() -> None:
        with pytest.raises(JobLost, match="attempt 2 of this task follows the job"):
            one.attempt()
        ended.append("the first")

    thread = threading.Thread(target=follow)
    thread.start()
    wait_for(lambda: list(home.glob("followers/*")), what="the first attempt's claim")
    (claim,) = home.glob("followers/*")
    later = Claim(home=home, job=claim.name, attempt=2)
    later.acquire()
    thread.join(timeout=60)
    assert (ended, the_job()) == (["the first"], "runs")
    # However late it comes, an earlier attempt takes nothing back.
    earlier = Claim(home=home, job=claim.name, attempt=1)
    earlier.acquire()
    assert (earlier.is_superseded(), later.is_superseded()) == (True, False)
