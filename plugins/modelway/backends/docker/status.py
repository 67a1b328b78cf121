"""The status of a container's job, by what the engine and the agent report: a pure function of both."""

import signal
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from modelway.backends.base import JobState, JobStatus
from modelway.backends.folders.exit_status import figures_of, reported_status
from modelway.failures import FailureKind

Object = Mapping[str, Any]

MIB = 2**20
#: what Python's start and ours before the agent's may end with, see also the agent's own statuses
_NO_COMMAND = (125, 126, 127)


def status_of(inspected: Object, *, report: Object | None, cancelled: bool) -> JobStatus:
    """Return an attempt's status.

    :param inspected: the container as the engine describes it
    :param report: the agent's ``exit-0.json``; None: it wrote none
    :param cancelled: its cancellation was requested
    """
    state = inspected["State"]
    if state.get("Running") or state["Status"] in ("running", "paused", "restarting", "removing"):
        return JobStatus(
            state=JobState.RUNNING, waiting="the container is paused" if state["Status"] == "paused" else None
        )
    known = _known(state, report)
    if state["Status"] != "created" and state["ExitCode"] == 0 and report is not None:
        return JobStatus(state=JobState.SUCCEEDED, **known)
    if cancelled:
        return JobStatus(state=JobState.CANCELLED, reason="the job was cancelled", **known)
    if state["Error"]:
        return JobStatus.failed(FailureKind.INIT, f"the engine could not start the container: {_short(state['Error'])}")
    if state["Status"] == "created":
        return JobStatus(state=JobState.PENDING)
    if report is not None and report.get("kind"):
        return reported_status(report, **known)
    return _without_report(inspected, known)


def _without_report(inspected: Object, known: Mapping[str, Any]) -> JobStatus:
    """Return the status of a container whose agent could not write its exit report."""
    state, code = inspected["State"], inspected["State"]["ExitCode"]
    if state["OOMKilled"]:
        limit = inspected["HostConfig"].get("Memory")
        limited = f", the limit is {limit / MIB:.0f} MiB" if limit else " of the engine's machine"
        reason = f"out of memory: the kernel killed the container{limited}"
        kind = FailureKind.OUT_OF_MEMORY if limit else FailureKind.NODE_OUT_OF_MEMORY
        return JobStatus.failed(kind, reason, **known)
    if 128 < code < 128 + signal.NSIG and code - 128 in set(signal.Signals):
        reason = f"the container was killed by {signal.Signals(code - 128).name}"
        return JobStatus.failed(FailureKind.KILLED, reason, **known)
    if code in (0, 255):
        # The status after the engine itself was killed, or its machine went down.
        return JobStatus.failed(FailureKind.NODE_LOST, "the engine or its machine went down while the job ran", **known)
    hint = ": the image needs a python3" if code in _NO_COMMAND else ""
    reason = f"the container ended with exit status {code} before the job's code began{hint}"
    return JobStatus.failed(FailureKind.INIT, reason, **known)


def _known(state: Object, report: Object | None) -> dict[str, Any]:
    if report is not None:
        return figures_of(report)
    started, ended = moment(state["StartedAt"]), moment(state["FinishedAt"])
    return {"seconds": max(0.0, round(ended - started, 3))} if started and ended else {}


def moment(text: str) -> float | None:
    """Return a moment of the engine as seconds since 1970; None for the one that stands for never."""
    whole, _, parts = text.rstrip("Z").partition(".")
    if whole.startswith("0001-"):
        return None
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{parts or 0}")


def _short(error: str) -> str:
    """Return what an engine's chain of errors ends with."""
    parts = [part.strip() for part in error.strip().removesuffix(": unknown").split(": ") if part.strip()]
    return ": ".join(parts[-3:]).rstrip(".")
