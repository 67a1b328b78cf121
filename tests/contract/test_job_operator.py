"""What a failed job makes of its task, on real jobs of the local backend: the rule, the words and the record."""

import os
import signal
import threading
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, AirflowTaskTimeout, TaskDeferred
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.sdk.execution_time.timeout import timeout
from airflow.sdk.observability import stats
from modelway.backends.base import Handle, JobState, JobStatus, Options
from modelway.errors import JobLost, SubmitFailed
from modelway.failures import FailureKind
from modelway.following.claim import Claim
from modelway.following.follower import Follower
from modelway.following.memory import AttemptMemory
from modelway.hooks.backend import backend_from_airflow
from modelway.lineage.records.version import FailureRecord
from modelway.lineage.store import open_lineage
from modelway.operators import job_operator
from modelway.operators.train import TrainModelOperator

from tests.job_folders import store_code, wait_for

MIB = 2**20
#: counts its tries, and does in each what its number in ``params`` says
CODE = """
import os, signal, time
def train(job):
    with open(job.folder / 'tries.txt', 'a') as file: file.write('x')
    does = job.params['does']
    print('this is', does)
    if does == 'raise': raise ValueError('spoilt')
    if does == 'kill': os.kill(os.getpid(), signal.SIGKILL)
    if does == 'sleep': time.sleep(600)
    if does.startswith('take'):
        room = bytearray(int(does.split()[1]) * 2**20)
        time.sleep(1)
    with job.checkpoint(step=1) as path: path.write_text('done')
def evaluate(job, checkpoint): return {}
def export(job, checkpoint): ...
"""


class Ti(SimpleNamespace):
    start_date = None

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.pushed[key] = value


class Store(dict):
    """Stands for Airflow's store of a task's state, which one task has for all of its tries."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


class Task:
    """One task of a run: each ``attempt`` executes a fresh operator, as Airflow's workers do."""

    def __init__(self, code: dict[str, Any], *, does: str, retries: int = 2, **options: Any) -> None:
        self.given = {"code": code, "job_params": {"does": does}, "options": options}
        self.tries, self.retries, self.store, self.clear_number, self.pushed = 0, retries, Store(), 0, {}

    def context(self) -> Any:
        run = {"dag_id": "tiny", "run_id": "now", "clear_number": self.clear_number, "triggering_user_name": "mia"}
        now = datetime(2026, 3, 10, tzinfo=UTC)
        dag_run = SimpleNamespace(**run, run_type=SimpleNamespace(value="manual"), start_date=now, run_after=now)
        known = {
            "dag_id": "tiny",
            "run_id": "now",
            "task_id": "train",
            "try_number": self.tries,
            "max_tries": self.retries,
            "map_index": -1,
        }
        return {"dag_run": dag_run, "ti": Ti(**known, pushed=self.pushed), "task_state_store": self.store}

    def attempt(self) -> Any:
        self.tries += 1
        return TrainModelOperator(task_id="train", **self.given).execute(self.context())

    def resume(self, event: Any) -> Any:
        return TrainModelOperator(task_id="train", **self.given).resume(self.context(), event)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path / "home"))
    for name in ("MODELWAY_LINEAGE_URL", "MODELWAY_ARTIFACT_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_REGISTRY", "http://registry")
    return tmp_path / "home"


@pytest.fixture
def task(tmp_path):
    code = {"model": "tiny", "module": "tiny.py", **store_code(tmp_path, CODE).to_dict()}

    def make(does: str, **more: Any) -> Task:
        return Task(code, does=does, **more)

    return make


@pytest.fixture
def told(home):
    """Return a function that gives what the lineage has of the run's failures."""

    def read() -> tuple[FailureRecord, ...]:
        return open_lineage(f"sqlite:///{home}/lineage.db").account("now", model="tiny").failures

    return read


def test_code_that_raises_fails_the_task_at_once_with_its_last_lines(task, told):
    failing = task("raise")
    with pytest.raises(AirflowFailException, match="stage 'train' failed: ValueError: spoilt"):
        failing.attempt()
    assert "Read the last lines of the job's log" in failing.pushed["failure"]
    assert "\n  | this is raise\n" in failing.pushed["failure"]
    (record,) = told()
    assert (record.kind, record.rule, record.attempt, record.tried_again) == ("bad_exit", "fail", 1, False)
    assert record.cause.startswith("ValueError: spoilt")
    assert "this is raise" in record.last_lines


def test_a_killed_job_is_tried_again_and_the_success_is_noted(task, told):
    failing = task("kill")
    with pytest.raises(JobLost, match="was killed by SIGKILL"):
        failing.attempt()
    assert [(each.kind, each.rule, each.tried_again) for each in told()] == [("killed", "retry", True)]
    failing.given["job_params"] = {"does": "work"}
    assert failing.attempt()[0]["id"] == "train-000001"
    assert [each.resolved_by for each in told()] == [2]


def test_the_last_try_says_that_none_is_left(task, told):
    failing = task("kill", retries=0)
    with pytest.raises(JobLost):
        failing.attempt()
    assert [(each.rule, each.tried_again) for each in told()] == [("retry", False)]


@pytest.mark.parametrize(
    ("does", "rules", "error"),
    [("kill", {"killed": "fail"}, AirflowFailException), ("raise", {"bad_exit": "retry"}, JobLost)],
)
def test_the_specs_rule_holds(task, does, rules, error):
    with pytest.raises(error, match="stage 'train' failed"):
        task(does, retry_rules=rules).attempt()


def test_out_of_memory_fails_unless_the_spec_gives_more(task, told):
    failing = task("take 400", memory_bytes=150 * MIB)
    with pytest.raises(AirflowFailException, match=r"out of memory: .* the limit is 150 MiB\. Raise resources\.memory"):
        failing.attempt()
    assert failing.store == {}
    assert [(each.kind, each.rule) for each in told()] == [("out_of_memory", "fail")]


def test_out_of_memory_is_tried_again_with_twice_the_memory(task, told, capsys):
    failing = task("take 200", memory_bytes=150 * MIB, retry_rules={"out_of_memory": "more-memory"})
    with pytest.raises(JobLost, match="The next attempt, if one is left, gets 300Mi of memory"):
        failing.attempt()
    failing.attempt()
    assert "the job gets 300Mi of memory: an attempt before ran out of it" in capsys.readouterr().out
    (record,) = told()
    assert (record.kind, record.rule, record.resolved_by) == ("out_of_memory", "more-memory", 2)


def test_more_memory_is_doubled_with_each_try(task):
    failing = task("take 700", memory_bytes=100 * MIB, retry_rules={"out_of_memory": "more-memory"})
    for limit in ("200Mi", "400Mi"):
        with pytest.raises(JobLost, match=f"The next attempt, if one is left, gets {limit} of memory"):
            failing.attempt()


def test_a_clear_begins_with_the_specs_memory_again_and_no_other_job_inherits_it(task):
    failing = task("take 400", memory_bytes=150 * MIB, retry_rules={"out_of_memory": "more-memory"})
    with pytest.raises(JobLost):
        failing.attempt()
    operator, context = TrainModelOperator(task_id="train", **failing.given), failing.context()

    def limit(**changes: Any) -> int | None:
        job = replace(operator.job(context), **changes)
        return AttemptMemory(context=context, job=job, options=Options(**operator.options)).limit()

    assert limit() == 300 * MIB
    assert limit(clear_number=1) == 150 * MIB
    assert limit(key="evaluate/another") == 150 * MIB


@pytest.mark.parametrize("broken", ["no store", "store that refuses"])
def test_out_of_memory_is_never_tried_again_unchanged(task, broken):
    failing = task("take 400", memory_bytes=150 * MIB, retry_rules={"out_of_memory": "more-memory"})
    if broken == "no store":
        context = failing.context
        failing.context = lambda: {k: v for k, v in context().items() if k != "task_state_store"}
    else:
        failing.store.set = lambda key, value: 1 / 0
    with pytest.raises(AirflowFailException, match="out of memory.*the memory of the next attempt cannot be stored"):
        failing.attempt()


def test_without_a_limit_there_is_nothing_to_double(task):
    failing = task("work", retry_rules={"out_of_memory": "more-memory"})
    status = JobStatus.failed(FailureKind.OUT_OF_MEMORY, "the node's kernel killed it")
    handle = {"backend": "local", "name": "tiny-1", "place": "/nowhere", "attempt": 1}
    failing.tries = 1
    with pytest.raises(AirflowFailException, match="Set resources.memory: without a limit there is nothing to double"):
        failing.resume({"handle": handle, "status": status.to_dict()})


@pytest.mark.parametrize(
    ("kind", "rules", "error", "rule"),
    [
        (FailureKind.UNREACHABLE, {}, JobLost, "retry"),
        (FailureKind.QUOTA, {"quota": "fail"}, AirflowFailException, "fail"),
        (FailureKind.FORBIDDEN, {}, AirflowFailException, "fail"),
        (FailureKind.FORBIDDEN, {"forbidden": "retry"}, JobLost, "retry"),
    ],
)
def test_a_refused_submit_is_tried_again_by_its_kind(task, told, home, monkeypatch, kind, rules, error, rule):
    def refuse(request: Any) -> Any:
        raise SubmitFailed("the API said no", kind=kind)

    monkeypatch.setattr(backend_from_airflow("local", home=home), "submit", refuse)
    with pytest.raises(error, match="stage 'train' failed: the job could not be submitted: the API said no"):
        task("work", retry_rules=rules).attempt()
    assert [(each.kind, each.rule, each.job) for each in told()] == [(kind.value, rule, None)]


def test_a_job_of_a_backend_that_does_not_answer_is_left_running_and_found_again(task, home, monkeypatch, told):
    failing = task("sleep")
    monkeypatch.setattr(job_operator, "PATIENCE_SECONDS", 0.5)
    with pytest.raises(TaskDeferred) as deferred:
        failing.attempt()
    handle, follower = deferred.value.trigger.handle, deferred.value.trigger.follower
    assert [path.stem for path in home.glob("deferred/*.json")] == [follower]
    status = JobStatus.failed(FailureKind.UNREACHABLE, "the backend did not answer for 10 minutes")
    with pytest.raises(JobLost, match="the job, if it runs, continues and is found again"):
        failing.resume({"handle": handle, "status": status.to_dict(), "follower": follower})
    assert list(home.glob("deferred/*.json")) == []
    backend = backend_from_airflow("local", home=home)
    assert backend.describe(Handle.from_dict(handle)).state is JobState.RUNNING
    with pytest.raises(TaskDeferred) as again:
        failing.attempt()
    assert again.value.trigger.handle == handle
    assert again.value.trigger.follower != follower
    backend.cancel(Handle.from_dict(handle))
    assert [each.kind for each in told()] == ["unreachable"]


def test_a_lineage_that_is_away_hides_no_failure(task, home, monkeypatch, capsys):
    monkeypatch.setenv("MODELWAY_LINEAGE_URL", "sqlite:////proc/no/such/lineage.db")
    with pytest.raises(AirflowFailException, match="ValueError: spoilt"):
        task("raise").attempt()
    assert "the failure is not in the lineage" in capsys.readouterr().out


def test_what_no_job_did_is_recorded_too(task, told, monkeypatch):
    failing = task("work")
    monkeypatch.setattr(TrainModelOperator, "collect", lambda self, context, **given: {}["no such key"])
    with pytest.raises(KeyError):
        failing.attempt()
    (record,) = told()
    assert (record.kind, record.cause, record.rule) == (None, "KeyError: 'no such key'", "retry")


def test_a_skipped_task_has_not_failed(task, home, monkeypatch):
    def skip(self: Any, context: Any, **given: Any) -> Any:
        raise AirflowSkipException("held")

    monkeypatch.setattr(TrainModelOperator, "collect", skip)
    with pytest.raises(AirflowSkipException):
        task("work").attempt()
    assert not (home / "lineage.db").exists()


@pytest.fixture
def asked(monkeypatch):
    """Answer as Airflow does when it is asked for the task's state; without one the task is gone."""

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
        before = signal.signal(signal.SIGTERM, lambda *given: operator.on_kill())

        def strike() -> None:
            wait_for(lambda: list(home.glob("jobs/**/tries.txt")), what="the job")
            os.kill(os.getpid(), number)

        thread = threading.Thread(target=strike)
        thread.start()
        try:
            return operator.execute(one.context())
        finally:
            thread.join()
            signal.signal(signal.SIGTERM, before)

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


def test_a_worker_that_has_to_end_hands_its_job_to_the_triggerer(task, asked, signalled, the_job, monkeypatch):
    monkeypatch.setattr(job_operator, "PATIENCE_SECONDS", 600.0)
    asked("running")
    with pytest.raises(TaskDeferred):
        signalled(task("sleep"))
    assert the_job() == "runs"


@pytest.mark.parametrize("states", [("failed",), ("success",), ("skipped",), ("removed",), ()])
def test_the_job_of_a_task_that_is_over_is_stopped(task, asked, signalled, the_job, monkeypatch, states, told):
    monkeypatch.setattr(job_operator, "PATIENCE_SECONDS", 600.0)
    asked(*states)
    with pytest.raises(JobLost, match="the job was cancelled"):
        signalled(task("sleep"))
    assert the_job() == "is over"
    # A mark is told as such, and not as a job that was cancelled by itself.
    (record,) = told()
    marked = bool(states) and states[0] != "removed"
    assert (record.rule == "marked", f"was marked {states[0]}" in record.cause if marked else False) == (marked, marked)


@pytest.mark.parametrize("state", ["restarting", "queued", None, "nobody answers"])
def test_the_job_of_a_task_that_starts_anew_or_cannot_be_asked_for_is_left(
    task, asked, signalled, the_job, monkeypatch, capsys, state
):
    asks, step = asked(state), Follower.step

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
    task, asked, signalled, the_job, monkeypatch
):
    monkeypatch.setattr(job_operator, "PATIENCE_SECONDS", 600.0)
    asked("running")
    with pytest.raises(AirflowTaskTimeout), timeout(600):
        signalled(task("sleep"), signal.SIGALRM)
    assert the_job() == "is over"


def test_a_try_that_airflow_ends_leaves_the_job_to_the_one_that_follows_it_now(task, asked, home, the_job, monkeypatch):
    monkeypatch.setattr(job_operator, "PATIENCE_SECONDS", 600.0)
    asked("failed")
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


def test_on_hosts_with_homes_of_their_own_a_job_keeps_its_task_in_the_worker(task, on_host, asked):
    asked("running")
    on_host("a")
    assert task("fine").attempt()


def test_with_a_home_for_all_hosts_the_triggerer_follows_the_job(task, on_host, monkeypatch, the_job, home):
    on_host("a")
    monkeypatch.setenv("MODELWAY_SHARED_HOME", "true")
    monkeypatch.setenv("MODELWAY_HOME", str(home))
    with pytest.raises(TaskDeferred):
        task("sleep").attempt()
    assert the_job() == "runs"


def test_a_retry_on_another_host_says_why_it_begins_anew(task, on_host, asked, capsys):
    asked("running")
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


def test_what_a_killed_task_left_on_a_host_is_stopped_by_its_next_job(task, on_host, asked, tmp_path, monkeypatch):
    asked("running")
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


def test_of_two_attempts_that_follow_one_job_the_later_one_has_it(task, asked, home, the_job, monkeypatch):
    monkeypatch.setattr(job_operator, "PATIENCE_SECONDS", 600.0)
    asked("running")
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


def test_a_job_that_ended_is_among_airflows_metrics(task):
    sent: list[tuple[str, dict[str, str]]] = []

    class Recorder:
        """What Airflow's own client of StatsD or OpenTelemetry offers."""

        def incr(self, stat: str, count: int = 1, rate: float = 1, *, tags: dict[str, str]) -> None:
            sent.append((stat, tags))

        def timing(self, stat: str, dt: Any, *, tags: dict[str, str]) -> None:
            assert dt.total_seconds() >= 0
            sent.append((stat, tags))

    stats.initialize(factory=Recorder, export_legacy_names=False)
    try:
        with pytest.raises(AirflowFailException):
            task("raise").attempt()
    finally:
        stats.initialize(factory=NoStatsLogger, export_legacy_names=False)
    about = {"model": "tiny", "stage": "train", "backend": "local"}
    assert sent[0] == ("modelway.job.ended", {**about, "state": "failed", "failure": "bad_exit"})
    assert sent[1] == ("modelway.job.duration", about)
