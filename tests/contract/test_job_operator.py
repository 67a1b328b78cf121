"""What a failed job makes of its task, on real jobs of the local backend: the rule, the words and the record."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred
from airflow.sdk.observability import stats
from modelway.backends.base import Handle, JobState, JobStatus, Options
from modelway.errors import JobLost, SubmitFailed
from modelway.failures import FailureKind
from modelway.following.memory import AttemptMemory
from modelway.hooks.backend import backend_from_airflow
from modelway.operators import job_operator
from modelway.operators.train import TrainModelOperator

from tests.job_tasks import Task, failures_in, own_home, stored_task_code

MIB = 2**20


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


def test_code_that_raises_fails_the_task_at_once_with_its_last_lines(task, recorded):
    failing = task("raise")
    with pytest.raises(AirflowFailException, match="stage 'train' failed: ValueError: spoilt"):
        failing.attempt()
    assert "Read the last lines of the job's log" in failing.pushed["failure"]
    assert "\n  | this is raise\n" in failing.pushed["failure"]
    (record,) = recorded()
    assert (record.kind, record.rule, record.attempt, record.tried_again) == ("bad_exit", "fail", 1, False)
    assert record.cause.startswith("ValueError: spoilt")
    assert "this is raise" in record.last_lines


def test_a_killed_job_is_tried_again_and_the_success_is_noted(task, recorded):
    failing = task("kill")
    with pytest.raises(JobLost, match="was killed by SIGKILL"):
        failing.attempt()
    assert [(each.kind, each.rule, each.tried_again) for each in recorded()] == [("killed", "retry", True)]
    failing.given["job_params"] = {"does": "work"}
    assert failing.attempt()[0]["id"] == "train-000001"
    assert [each.resolved_by for each in recorded()] == [2]


def test_the_last_try_says_that_none_is_left(task, recorded):
    failing = task("kill", retries=0)
    with pytest.raises(JobLost):
        failing.attempt()
    assert [(each.rule, each.tried_again) for each in recorded()] == [("retry", False)]


@pytest.mark.parametrize(
    ("does", "rules", "error"),
    [("kill", {"killed": "fail"}, AirflowFailException), ("raise", {"bad_exit": "retry"}, JobLost)],
)
def test_the_specs_rule_holds(task, does, rules, error):
    with pytest.raises(error, match="stage 'train' failed"):
        task(does, retry_rules=rules).attempt()


def test_out_of_memory_fails_unless_the_spec_gives_more(task, recorded):
    failing = task("take 400", memory_bytes=150 * MIB)
    with pytest.raises(AirflowFailException, match=r"out of memory: .* the limit is 150 MiB\. Raise resources\.memory"):
        failing.attempt()
    assert failing.store == {}
    assert [(each.kind, each.rule) for each in recorded()] == [("out_of_memory", "fail")]


def test_out_of_memory_is_tried_again_with_twice_the_memory(task, recorded, capsys):
    failing = task("take 200", memory_bytes=150 * MIB, retry_rules={"out_of_memory": "more-memory"})
    with pytest.raises(JobLost, match="The next attempt, if one is left, gets 300Mi of memory"):
        failing.attempt()
    failing.attempt()
    assert "the job gets 300Mi of memory: an attempt before ran out of it" in capsys.readouterr().out
    (record,) = recorded()
    assert (record.kind, record.rule, record.resolved_by) == ("out_of_memory", "more-memory", 2)


def test_more_memory_is_doubled_with_each_attempt(task):
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
def test_a_refused_submit_is_tried_again_by_its_kind(task, recorded, home, monkeypatch, kind, rules, error, rule):
    def refuse(request: Any) -> Any:
        raise SubmitFailed("the API said no", kind=kind)

    monkeypatch.setattr(backend_from_airflow("local", home=home), "submit", refuse)
    with pytest.raises(error, match="stage 'train' failed: the job could not be submitted: the API said no"):
        task("work", retry_rules=rules).attempt()
    assert [(each.kind, each.rule, each.job) for each in recorded()] == [(kind.value, rule, None)]


def test_a_job_of_a_backend_that_does_not_answer_is_left_running_and_found_again(task, home, monkeypatch, recorded):
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
    assert [each.kind for each in recorded()] == ["unreachable"]


def test_a_lineage_that_is_unavailable_hides_no_failure(task, home, monkeypatch, capsys):
    monkeypatch.setenv("MODELWAY_LINEAGE_URL", "sqlite:////proc/no/such/lineage.db")
    with pytest.raises(AirflowFailException, match="ValueError: spoilt"):
        task("raise").attempt()
    assert "the failure is not in the lineage" in capsys.readouterr().out


def test_what_no_job_did_is_recorded_too(task, recorded, monkeypatch):
    failing = task("work")
    monkeypatch.setattr(TrainModelOperator, "collect", lambda self, context, **given: {}["no such key"])
    with pytest.raises(KeyError):
        failing.attempt()
    (record,) = recorded()
    assert (record.kind, record.cause, record.rule) == (None, "KeyError: 'no such key'", "retry")


def test_a_skipped_task_has_not_failed(task, home, monkeypatch):
    def skip(self: Any, context: Any, **given: Any) -> Any:
        raise AirflowSkipException("held")

    monkeypatch.setattr(TrainModelOperator, "collect", skip)
    with pytest.raises(AirflowSkipException):
        task("work").attempt()
    assert not (home / "lineage.db").exists()


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
