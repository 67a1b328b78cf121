"""How a custom job's state and error, and what its agents wrote, become the status of a job."""

from datetime import UTC, datetime, timedelta

import pytest
from modelway.backends.base import Handle, JobState
from modelway.backends.vertex.jobs import ACTIVE, OVER, VertexJob
from modelway.backends.vertex.pace import Pace
from modelway.backends.vertex.status import not_started, status_of, status_without_job
from modelway.failures import FailureKind as K

from tests.google import documents

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def job(state, *, message="", code=0, started=True, age=60):
    document = {"name": "projects/1/locations/r/customJobs/7", "state": f"JOB_STATE_{state}"}
    document |= {"createTime": (NOW - timedelta(seconds=age)).isoformat().replace("+00:00", "Z")}
    if started:
        document["startTime"] = document["createTime"]
    if message or code:
        document["error"] = {"code": code, "message": message}
    return VertexJob.of(document)


@pytest.mark.parametrize(
    ("state", "started", "seen"),
    [
        ("UNSPECIFIED", False, JobState.PENDING),
        ("QUEUED", False, JobState.PENDING),
        ("PENDING", False, JobState.PENDING),
        ("RUNNING", True, JobState.RUNNING),
        ("UPDATING", True, JobState.RUNNING),
        ("CANCELLING", True, JobState.RUNNING),
        ("PAUSED", True, JobState.RUNNING),
        ("SUCCEEDED", True, JobState.SUCCEEDED),
        ("FAILED", True, JobState.FAILED),
        ("CANCELLED", True, JobState.FAILED),
        ("EXPIRED", True, JobState.FAILED),
        ("PARTIALLY_SUCCEEDED", True, JobState.FAILED),
        ("BRAND_NEW", True, JobState.RUNNING),
        ("BRAND_NEW", False, JobState.PENDING),
    ],
)
def test_each_state_has_its_counterpart(state, started, seen):
    status = status_of(job(state, started=started), (), nodes=1)
    assert status.state is seen
    if state == "BRAND_NEW":
        assert status.waiting == "its state on Vertex AI is BRAND_NEW, which this version of modelway does not know"


def test_every_state_that_google_describes_is_known():
    """A name that is misspelt here would be one that is newer than modelway."""
    schema = documents.methods("aiplatform")[0].schemas["GoogleCloudAiplatformV1CustomJob"]
    described = {name.removeprefix("JOB_STATE_") for name in schema["properties"]["state"]["enum"]}
    assert described == {*ACTIVE, *OVER, "UNSPECIFIED"}
    for state in ACTIVE:
        assert "does not know" not in str(status_of(job(state), (), nodes=1).waiting)


def exited(status):
    return f"The replica workerpool0-0 exited with a non-zero status of {status}. Termination reason: Error."


@pytest.mark.parametrize(
    ("message", "code", "kind", "retryable"),
    [
        (exited(1), 3, K.BAD_EXIT, False),
        (exited(2), 3, K.INIT, False),
        (exited(124), 3, K.DEADLINE, False),
        (exited(139), 3, K.KILLED, True),
        (
            "The replica workerpool0-0 ran out of memory and exited with a non-zero status of 137",
            3,
            K.OUT_OF_MEMORY,
            False,
        ),
        ("workerpool0-0 exited with a non-zero status of 9(SIGKILL)", 3, K.OUT_OF_MEMORY, False),
        ("Internal error occurred for the current attempt", 13, K.NODE_LOST, True),
        ("The job timed out", 4, K.DEADLINE, False),
        ("The following quota metrics exceed quota limits: aiplatform.googleapis.com/x_gpus", 8, K.QUOTA, True),
        ("Failed to pull image eu-docker.pkg.dev/p/r/i:1", 3, K.IMAGE_PULL, False),
        ("Permission 'storage.objects.get' denied", 7, K.FORBIDDEN, False),
        ("The spot VM was preempted", 8, K.PREEMPTED, True),
        ("", 0, K.VANISHED, True),
        ("something that nobody has seen yet", 2, K.VANISHED, True),
    ],
)
def test_an_error_becomes_a_kind_of_failure_with_its_message(message, code, kind, retryable):
    status = status_of(job("FAILED", message=message, code=code), (), nodes=1)
    assert (status.failure, status.retryable) == (kind, retryable)
    assert message in status.reason
    assert status.reason


STOCKOUT = "Resources are insufficient in region: us-central1. Try a different region or use a different accelerator."


def test_a_stockout_is_no_machine_before_the_start_and_a_preemption_after_it():
    before = status_of(job("FAILED", message=STOCKOUT, code=8, started=False), (), nodes=1)
    assert before.failure is K.UNSCHEDULABLE
    assert "choose another vertex.region" in before.reason
    assert status_of(job("FAILED", message=STOCKOUT, code=8), (), nodes=1).failure is K.PREEMPTED


def report(**fields):
    return {"kind": None, "reason": None, "stopped": False, "seconds": 3.5, "peak_memory_bytes": 10, **fields}


def test_an_agents_report_says_more_than_an_exit_status():
    raised = report(kind="bad_exit", reason="ZeroDivisionError: division by zero (tiny.py:3 in train)")
    status = status_of(job("FAILED", message=exited(1), code=3), [raised], nodes=1)
    assert (status.failure, status.reason) == (K.BAD_EXIT, raised["reason"])
    assert (status.seconds, status.peak_memory_bytes) == (3.5, 10)


@pytest.mark.parametrize(
    "printed",
    [
        "PermissionError: [Errno 13] Permission denied: '/data'",
        "RuntimeError: quota exceeded",
        "torch.OutOfMemoryError: CUDA out of memory",
        "the worker was preempted",
        "ValueError: cannot find image 7",
        "TimeoutError: timed out",
    ],
)
def test_what_the_code_printed_does_not_decide_why_it_failed(printed):
    failed = job("FAILED", message=f"{exited(1)} {printed}", code=3)
    alone = status_of(failed, (), nodes=1)
    assert (alone.failure, alone.reason) == (K.BAD_EXIT, f"{exited(1)} {printed}")
    raised = report(kind="out_of_memory", reason="out of memory: the limit is 1 GiB")
    reported = status_of(failed, [raised], nodes=1)
    assert (reported.failure, reported.reason) == (K.OUT_OF_MEMORY, raised["reason"])


def test_memory_that_is_used_up_counts_before_the_reports_of_the_other_machines():
    text = "The replica workerpool0-0 exited with a non-zero status of 137. Termination reason: OOMKilled."
    other = report(kind="bad_exit", reason="RuntimeError: Connection closed by peer")
    found = status_of(job("FAILED", message=f"{text} step 7", code=3), [other], nodes=2)
    assert found.failure is K.OUT_OF_MEMORY


def test_a_job_whose_nodes_all_succeeded_has_succeeded_whatever_the_platform_did_afterwards():
    assert status_of(job("FAILED", message="Internal error", code=13), [report()], nodes=1).state is JobState.SUCCEEDED
    assert status_of(job("FAILED", message="Internal error", code=13), [report()], nodes=2).state is JobState.FAILED


def test_a_job_that_was_deleted_is_judged_by_its_reports():
    assert status_without_job([report()], nodes=1, name="mw-1").state is JobState.SUCCEEDED
    gone = status_without_job([], nodes=1, name="mw-1")
    assert (gone.failure, gone.reason) == (K.VANISHED, "the job mw-1 is not on Vertex AI any more")


def test_of_several_nodes_the_one_that_explains_the_failure_is_reported():
    stopped = report(kind="killed", reason="stopped", stopped=True)
    first = report(kind="out_of_memory", reason="out of memory: the limit is 1 GiB")
    status = status_of(job("FAILED", message=exited(143), code=3), [stopped, first], nodes=2)
    assert status.failure is K.OUT_OF_MEMORY


def late(state="QUEUED", *, age, waited, started=False):
    found = job(state, started=started, age=age)
    return not_started(found, start_within=3600, waited=waited, now=NOW)


def test_a_job_that_no_machine_takes_in_time_failed():
    status = late(age=4000, waited=4000)
    assert status.failure is K.UNSCHEDULABLE
    assert status.reason.startswith("no machine took it within 1h: Vertex AI has queued it: a quota of the project")
    assert late("PENDING", age=4000, waited=4000).failure is K.UNSCHEDULABLE
    assert late("RUNNING", age=4000, waited=4000, started=True) is None
    assert late(age=3000, waited=3000) is None


def test_a_clock_that_is_wrong_ends_no_job():
    assert late(age=90_000, waited=5) is None, "this machine's clock is a day ahead"
    assert late(age=-90_000, waited=5000) is None, "it is a day behind"


def test_the_more_jobs_are_followed_the_less_often_each_is_inspected(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("modelway.backends.vertex.pace.time.monotonic", lambda: now[0])
    pace = Pace()
    handles = [Handle(backend="vertex", name="n", place="p", attempt=1, mark=f"p/r/{n}") for n in range(1000)]
    pace.followed(handles[0], over=False)
    assert pace.poll_seconds == 2
    assert [pace.may_read_log(handles[0]) for _ in range(2)] == [True, False]
    for handle in handles:
        pace.followed(handle, over=False)
    assert pace.poll_seconds == 40
    now[0] += 200
    assert not pace.may_read_log(handles[0]), "four logs a second"
    now[0] += 100
    assert pace.may_read_log(handles[0])
    now[0] += 601
    for handle in handles[:50]:
        pace.followed(handle, over=False)
    assert pace.poll_seconds == 2, "the others are followed elsewhere"
    for handle in handles[:50]:
        pace.followed(handle, over=True)
    assert pace.poll_seconds == 2
