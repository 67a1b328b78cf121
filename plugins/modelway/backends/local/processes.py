"""Processes of a local job: who runs, whether it still does, and how to stop all of it."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that none gets out of sight (Linux only)."""
    import ctypes

    set_child_subreaper = 36
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def claim(attempt: Path, word: str) -> bool:
    """Write ``word`` into the try's claim file unless it is claimed already; return whether this call wrote it."""
    try:
        descriptor = os.open(attempt / "claim", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(word)
    return True


def abandon(attempt: Path) -> None:
    """Keep a supervisor that has not begun yet from ever beginning."""
    claim(attempt, "abandoned")


def record_self(attempt: Path) -> None:
    """Write who supervises the try: pid, start time and the machine's boot, since a pid alone is used again."""
    import psutil

    me = psutil.Process()
    beside = attempt / ".process.json.part"
    beside.write_text(json.dumps({"pid": me.pid, "created": me.create_time(), "boot": boot()}))
    beside.replace(attempt / "process.json")


def boot() -> str:
    """Return what tells this start of the machine from every other one."""
    import psutil

    try:
        # The boot time that psutil computes moves whenever the clock is set.
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{psutil.boot_time():.0f}"


def alive(attempt: Path) -> bool:
    """Whether the try's supervisor runs."""
    import psutil

    recorded = _recorded(attempt)
    if recorded is None:
        return False
    try:
        process = psutil.Process(recorded["pid"])
        return abs(process.create_time() - recorded["created"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stop(attempt: Path, *, grace_seconds: float) -> None:
    """End every process of the try: SIGTERM, and SIGKILL for what is left after the grace time.

    A session's id is not used again while one of its processes lives, but is afterwards. So nothing is touched once
    ``exit.json`` tells that all of them have ended, nor when the machine has started again since.
    """
    for number, patience in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + patience
        told: set[int] = set()
        while left := set(members(attempt)):
            # Those too that began meanwhile: a supervisor may be about to start the job.
            for pid in left - told:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            told |= left
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        else:
            return


def members(attempt: Path) -> list[int]:
    """Return the living processes of the try: those of its session and their descendants in sessions of their own.

    Once ``exit.json`` is there, only the supervisor can be left: it writes that file when it has ended all the others.
    """
    import psutil

    recorded = _recorded(attempt)
    if recorded is None or recorded.get("boot") != boot():
        return []
    leader, created = recorded["pid"], recorded["created"]
    if (attempt / "exit.json").exists():
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
