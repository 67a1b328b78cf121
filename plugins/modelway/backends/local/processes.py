"""Processes of a local job: who runs, whether it still does, and how to stop all of it.

Of a job that another host of the same home runs, in a container of its own or on another machine, no process can be
seen: its heartbeat says that it runs, and its agent ends it when it finds that it was cancelled.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelway.job.agent.bare import AGENT, boot, claim, place
from modelway.job.agent.lease import is_fresh

#: ran attempts in earlier versions, whose jobs may still run
_SUPERVISOR = "modelway.backends.local.supervise"
EXIT, OLD_EXIT = "exit-0.json", "exit.json"
#: what the agent renews while it runs (``modelway.job.agent.lease``)
_BEAT = "pods/0.json"


def attempt_of(command: Sequence[str]) -> Path | None:
    """Return the folder of the attempt that a process runs by its command line; None where it runs none."""
    if _SUPERVISOR in command:
        return Path(command[-1])
    if AGENT in command and "--attempt" in command:
        folder, number = (command[command.index(flag) + 1 :][:1] for flag in (AGENT, "--attempt"))
        return Path(folder[0]) / f"try-{number[0]}" if folder and number else None
    return None


def ended(attempt: Path) -> bool:
    """Whether an attempt's exit is recorded, which happens when all of its other processes have ended."""
    return any((attempt / name).exists() for name in (EXIT, OLD_EXIT))


def abandon(attempt: Path) -> None:
    """Prevent an agent that has not started yet from ever starting."""
    claim(attempt, "abandoned")


def alive(attempt: Path) -> bool:
    """Whether the attempt's agent runs."""
    import psutil

    recorded = _recorded(attempt)
    if recorded is None:
        return False
    if _is_elsewhere(recorded):
        # It records itself before the first heartbeat.
        return any(is_fresh(attempt / name, beside=attempt) for name in (_BEAT, "process.json"))
    try:
        process = psutil.Process(recorded["pid"])
        return abs(process.create_time() - recorded["created"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stop(attempt: Path, *, grace_seconds: float) -> None:
    """End every process of the attempt: SIGTERM, and SIGKILL for what is left after the grace time.

    A session's id is not used again while one of its processes lives, but is afterwards. So nothing is touched once
    its exit report says that all of them have ended, nor when the machine has started again since.
    """
    for number, patience in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + patience
        signalled: set[int] = set()
        while left := set(members(attempt)):
            # Those too that started meanwhile: an agent may be about to start the job.
            for pid in left - signalled:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            signalled |= left
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        else:
            return


def members(attempt: Path) -> list[int]:
    """Return the living processes of the attempt: those of its session and their descendants in sessions of their own.

    Once the exit report is there, only the agent can be left: it writes that file when it has ended all the others.
    """
    import psutil

    recorded = _recorded(attempt)
    if recorded is None or recorded.get("boot") != boot() or _is_elsewhere(recorded):
        return []
    leader, created = recorded["pid"], recorded["created"]
    if ended(attempt):
        return [leader] if alive(attempt) else []
    seen = {process.pid: process.info for process in psutil.process_iter(["ppid", "status", "create_time"])}
    if leader in seen and abs(seen[leader]["create_time"] - created) >= 1:
        return []
    found: set[int] = set()
    newest = {pid for pid in seen if _session(pid) == leader}
    while newest:
        found |= newest
        newest = {pid for pid, info in seen.items() if info["ppid"] in newest} - found
    return sorted(pid for pid in found if seen[pid]["status"] != psutil.STATUS_ZOMBIE)


def is_elsewhere(attempt: Path) -> bool:
    """Whether the attempt's agent is, or was, a process that this one cannot see."""
    recorded = _recorded(attempt)
    return recorded is not None and _is_elsewhere(recorded)


def _is_elsewhere(recorded: Mapping[str, Any]) -> bool:
    here = place()
    # What an earlier version recorded lacks the second: it was of this machine.
    return any(recorded[name] != here.get(name) for name in ("boot", "processes") if name in recorded)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _recorded(attempt: Path) -> dict[str, Any] | None:
    try:
        recorded: dict[str, Any] = json.loads((attempt / "process.json").read_text())
    except FileNotFoundError:
        return None
    return recorded
