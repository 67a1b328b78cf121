"""How an attempt ended by its agent's exit report, as the status of the job."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelway.backends.base import JobState, JobStatus
from modelway.backends.folders import generations
from modelway.failures import FailureKind
from modelway.job.agent.exit_report import checked_report


def figures_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a report says of time and memory, as fields of a status."""
    return {"seconds": report.get("seconds"), "peak_memory_bytes": report.get("peak_memory_bytes") or None}


def reported_status(report: Mapping[str, Any], **known: Any) -> JobStatus:
    """Return the status that a report stands for."""
    if not report.get("kind"):
        return JobStatus(state=JobState.SUCCEEDED, **known)
    reason = str(report.get("reason") or "it ended without giving a reason")
    status = JobStatus.failed(FailureKind(report["kind"]), reason, **known)
    if report.get("retryable") is None:
        return status
    return replace(status, retryable=bool(report["retryable"]))


def exits_of(attempt: Path, *, nodes: int) -> list[dict[str, Any]]:
    """Return how the nodes' agents ended, as far as they wrote it."""
    found = (generations.read(attempt / f"exit-{node}.json") for node in range(nodes))
    return [checked_report(each) for each in found if each]
