"""How an attempt ended, by what its processes left behind: the exit status, the kernel's count, their own reports."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelway.job.left_files import document_below, names_below

MIB = 2**20
#: of the reason why a job ended, in characters
LONGEST_REASON = 2000
LARGEST_ERROR = 1 << 20
MOST_ERRORS = 10_000
INIT_STATUS = 2
STOPPED_STATUS = 143
#: the agent's exit status, by the kind of failure (the values of ``modelway.failures.FailureKind``)
STATUS_OF_KIND = {"bad_exit": 1, "init": INIT_STATUS, "deadline": 124, "out_of_memory": 137, "killed": 137}

#: how a process may end because another one failed: its library aborts, or torchrun ends it
_AFTERMATH = (signal.SIGABRT, signal.SIGTERM)
#: of the machines of one attempt, what explains the failure best comes first: the others lose their connection to it
_EXPLAINS = ("out_of_memory", "deadline", "init", "stopped", "killed", "bad_exit")


@dataclass
class ExitReport:
    """How an attempt ended, as ``exit-<node>.json`` has it."""

    returncode: int | None = None
    signal: str | None = None
    reason: str | None = None
    kind: str | None = None
    out_of_memory: bool = False
    stopped: bool = False
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    retryable: bool | None = None

    @property
    def status(self) -> int:
        """The agent's own exit status."""
        if self.stopped:
            return STOPPED_STATUS
        return STATUS_OF_KIND[self.kind] if self.kind else 0

    def to_json(self) -> str:
        """Return the file's text."""
        fields = vars(self).items()
        return json.dumps({name: value for name, value in fields if name != "retryable" or value is not None})


def report_of(
    *,
    attempt: Path,
    returncode: int,
    lines: list[str],
    over_time: float | None,
    killed_for_memory: bool | None,
    peak_bytes: int,
    limit_bytes: int | None,
    noticed: bool,
    ended_by_force: bool,
) -> ExitReport:
    """Return how the job's code ended.

    :param lines: the last lines that it printed
    :param over_time: the timeout in seconds when it was killed because of it
    :param killed_for_memory: whether the kernel killed one of its processes for memory; None: the kernel does not say
    :param noticed: its code was requested to stop
    :param ended_by_force: it was requested to stop, did not, and was killed
    """
    report = ExitReport(peak_memory_bytes=peak_bytes)
    report.returncode = returncode if returncode >= 0 else None
    report.signal = signal.Signals(-returncode).name if returncode < 0 else None
    if returncode == 0:
        return report
    error = _reported_error(attempt)
    number = returncode if returncode < 0 else _number_of_a_worker(lines)
    if killed_for_memory is None and limit_bytes:
        killed_for_memory = number == -signal.SIGKILL and peak_bytes > 0.95 * limit_bytes
    if over_time is not None:
        report.kind, report.reason = "deadline", f"stopped after its timeout of {over_time:g} seconds"
    elif killed_for_memory:
        report.kind, report.out_of_memory = "out_of_memory", True
        limit = f", the limit is {limit_bytes / MIB:.0f} MiB" if limit_bytes else ""
        report.reason = f"out of memory: its processes used {peak_bytes / MIB:.0f} MiB{limit}"
    elif noticed and (ended_by_force or not error or error.get("stopped")):
        report.kind, report.stopped = "killed", True
        report.reason = str(error["reason"]) if error else "the job was requested to stop and did not end in time"
    elif number < 0 and not (error and -number in _AFTERMATH):
        report.kind, report.reason = "killed", f"the job's process was killed by {signal.Signals(-number).name}"
    elif error:
        report.kind, report.reason = "bad_exit", str(error["reason"])
        # Such as a registry that did not answer the image job.
        report.retryable = True if error.get("retryable") is True else None
    else:
        report.kind, report.reason = "bad_exit", f"the job's process ended with exit status {returncode}"
    return report


def checked_report(left: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an ``exit-<node>.json``, checked: a job's code may have written anything in its place."""
    seconds, peak = left.get("seconds"), left.get("peak_memory_bytes")
    kind = left.get("kind")
    report = {
        "kind": kind if kind in STATUS_OF_KIND else "bad_exit" if kind else None,
        "reason": str(left.get("reason") or "it ended without giving a reason")[:LONGEST_REASON] if kind else None,
        "stopped": left.get("stopped") is True,
        "out_of_memory": left.get("out_of_memory") is True,
        "seconds": _amount(seconds),
        "peak_memory_bytes": None if (amount := _amount(peak)) is None else int(amount),
    }
    return report | ({"retryable": left["retryable"]} if isinstance(left.get("retryable"), bool) else {})


def _amount(value: Any) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**63:
        return value
    return None


def decisive(reports: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return which of the machines' ``exit-<node>.json`` decides how the attempt ended; None where there is none."""

    def place(report: Mapping[str, Any]) -> int:
        kind = "stopped" if report.get("stopped") else report.get("kind")
        return _EXPLAINS.index(kind) if kind in _EXPLAINS else len(_EXPLAINS)

    return min(reports, key=place, default=None)


def _reported_error(attempt: Path) -> dict[str, Any] | None:
    """Return what the job's processes reported on their end: that they stopped on request, else the first failure."""
    found = []
    names = [name for name in names_below(attempt) if name.startswith("error-") and name.endswith(".json")]
    for name in names[:MOST_ERRORS]:
        error = document_below(attempt, name, most=LARGEST_ERROR)
        if error is not None and isinstance(error.get("reason"), str) and isinstance(error.get("at", 0), (int, float)):
            found.append({**error, "reason": error["reason"][:LONGEST_REASON]})
    found.sort(key=lambda error: (not error.get("stopped"), error.get("at", 0)))
    return found[0] if found else None


def _number_of_a_worker(lines: list[str]) -> int:
    """Return the exit code of the process that failed first according to torchrun's report; 0 where there is none."""
    codes = [match[1] for line in lines if (match := re.search(r"exitcode\s*:\s*(-?\d+) \(pid", line))]
    return int(codes[-1]) if codes else 0
