"""Processes of a local job: who runs, whether it still does, and how to stop all of it."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU that a process can open."""
    return Path("/dev/nvidia0").exists()


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
    """Write who supervises the try: pid and start time, since a pid alone is used again."""
    import psutil

    me = psutil.Process()
    beside = attempt / ".process.json.part"
    beside.write_text(json.dumps({"pid": me.pid, "created": me.create_time()}))
    beside.replace(attempt / "process.json")


def alive(attempt: Path) -> bool:
    """Whether the try's supervisor runs."""
    import psutil

    recorded = _recorded(attempt)
    if recorded is None:
        return False
    try:
        process = psutil.Process(recorded[0])
        return abs(process.create_time() - recorded[1]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stop(attempt: Path, *, grace_seconds: float) -> None:
    """End every process of the try's session: SIGTERM, and SIGKILL for what is left after the grace time.

    A session's id is not used again while one of its processes lives, so this cannot hit a stranger.
    """
    for number, patience in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + patience
        members = session_members(attempt)
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        while session_members(attempt):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        else:
            return


def session_members(attempt: Path) -> list[int]:
    """Return the living processes of the try's session."""
    import psutil

    recorded = _recorded(attempt)
    if recorded is None:
        return []
    leader, created = recorded
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) != leader or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.pid == leader and abs(process.create_time() - created) >= 1:
                return []
            members.append(process.pid)
    return members


def _recorded(attempt: Path) -> tuple[int, float] | None:
    try:
        recorded = json.loads((attempt / "process.json").read_text())
    except FileNotFoundError:
        return None
    return recorded["pid"], recorded["created"]
