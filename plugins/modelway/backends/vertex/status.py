"""The status of a job on Vertex AI from its state and what its agents wrote: a pure function.

Sources: the discovery document aiplatform.v1 (JobState); QUEUED is also what a job over the project's quota is.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from modelway.backends.base import JobState, JobStatus
from modelway.backends.folders.exit_status import reported_status
from modelway.backends.vertex.causes import by_message, by_platform, with_advice
from modelway.backends.vertex.jobs import VertexJob, age_seconds
from modelway.failures import FailureKind
from modelway.fields.units import format_duration
from modelway.job.agent.exit_report import decisive

Report = Mapping[str, Any]

_WAITING = {
    "QUEUED": "Vertex AI has queued it: a quota of the project may be used up",
    "PENDING": "Vertex AI prepares its machines",
    "PAUSED": "it is paused on Vertex AI",
}
_NOT_STARTED = ("QUEUED", "PENDING", "UNSPECIFIED")
_RUNNING = ("RUNNING", "UPDATING", "CANCELLING", "PAUSED")
_RAISE_LIMIT = "request other machines, have the quota raised, or raise vertex.start_within"


def status_of(job: VertexJob, reports: Sequence[Report], *, nodes: int) -> JobStatus:
    """Return the job's status.

    :param reports: what its nodes' agents wrote at their end
    """
    known = figures(reports)
    if job.state in _RUNNING or job.state in _NOT_STARTED:
        state = JobState.RUNNING if job.state in _RUNNING else JobState.PENDING
        return JobStatus(state=state, waiting=_WAITING.get(job.state))
    if job.state == "SUCCEEDED" or (job.is_over and _succeeded(reports, nodes)):
        return JobStatus(state=JobState.SUCCEEDED, **known)
    if job.is_over:
        return _failed(job, reports, known)
    # A state that is newer than this text: the job is followed, and ended by none.
    waiting = f"its state on Vertex AI is {job.state}, which this version of modelway does not know"
    return JobStatus(state=JobState.RUNNING if job.started else JobState.PENDING, waiting=waiting)


def status_without_job(reports: Sequence[Report], *, nodes: int, name: str) -> JobStatus:
    """Return the status of an attempt whose job is gone, such as one that was deleted: by what its agents wrote."""
    known = figures(reports)
    if _succeeded(reports, nodes):
        return JobStatus(state=JobState.SUCCEEDED, **known)
    if reported := _reported(reports, known):
        return reported
    return JobStatus.failed(FailureKind.VANISHED, f"the job {name} is not on Vertex AI any more", **known)


def figures(reports: Sequence[Report]) -> dict[str, Any]:
    """Return what reports say of time and memory, as fields of a status."""
    peaks = [each["peak_memory_bytes"] for each in reports if each.get("peak_memory_bytes")]
    seconds = [each["seconds"] for each in reports if each.get("seconds") is not None]
    return {
        "peak_memory_bytes": max(peaks) if peaks else None,
        "seconds": max(seconds) if seconds else None,
    }


def not_started(job: VertexJob, *, start_within: float, waited: float, now: datetime) -> JobStatus | None:
    """Return the failure of a job that no machine took in time; None while it may still start.

    :param waited: for how many seconds this process knows of it: no clock that is wrong ends a job
    """
    if job.state not in _NOT_STARTED or min(age_seconds(job, now), waited) <= start_within:
        return None
    what = f"no machine took it within {format_duration(round(start_within))}: {_WAITING.get(job.state, job.state)}"
    return JobStatus.failed(FailureKind.UNSCHEDULABLE, with_advice(what, _RAISE_LIMIT))


def _succeeded(reports: Sequence[Report], nodes: int) -> bool:
    return len(reports) == nodes and not any(each.get("kind") for each in reports)


def _failed(job: VertexJob, reports: Sequence[Report], known: dict[str, Any]) -> JobStatus:
    """Return how it failed: what the platform did comes first, then the agents' reports, then the exit status."""
    if cause := by_platform(job.code, job.message, ran=job.started is not None):
        return JobStatus.failed(*cause, **known)
    if reported := _reported(reports, known):
        return reported
    if job.state == "CANCELLED":
        what = "the job was cancelled on Vertex AI, by somebody else than modelway"
        return JobStatus.failed(FailureKind.KILLED, what, **known)
    if job.state == "EXPIRED" and job.started is None:
        what = with_advice(job.message or "Vertex AI found no machines in time", _RAISE_LIMIT)
        return JobStatus.failed(FailureKind.UNSCHEDULABLE, what, **known)
    if job.state == "EXPIRED":
        return JobStatus.failed(FailureKind.DEADLINE, job.message or "it expired on Vertex AI", **known)
    return JobStatus.failed(*by_message(job.code, job.message), **known)


def _reported(reports: Sequence[Report], known: dict[str, Any]) -> JobStatus | None:
    # A node that was stopped because another one failed explains nothing.
    explaining = [each for each in reports if each.get("kind") and not each.get("stopped")]
    report = decisive(explaining) or decisive(reports)
    return reported_status(report, **known) if report and report.get("kind") else None
