"""The processes below this one: memory, processor time, and how to end all of them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

#: of prctl(2): become the parent of every descendant whose own parent ends
_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, as process 1 of a container is by itself."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants() -> list[int]:
    """Return the processes below this one, without zombies."""
    table = _table()
    children: dict[int, list[int]] = {}
    for pid, (parent, _, _) in table.items():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    newest = [os.getpid()]
    while newest:
        newest = [child for parent in newest for child in children.get(parent, ())]
        found += newest
    return [pid for pid in found if not table[pid][1].startswith("Z")]


def _table() -> dict[int, tuple[int, str, int | None]]:
    """Return all processes: pid to parent, state and, where it is known already, resident bytes."""
    found: dict[int, tuple[int, str, int | None]] = {}
    if not os.path.isdir("/proc/1"):
        # macOS has no /proc.
        listed = subprocess.run(["ps", "-axo", "pid=,ppid=,stat=,rss="], capture_output=True, text=True)
        for pid, parent, state, kib in (line.split() for line in listed.stdout.splitlines()):
            found[int(pid)] = int(parent), state, int(kib) * 1024
        return found
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name of the program, in parentheses, may contain anything.
            state, above = (entry / "stat").read_text(errors="replace").rsplit(")", 1)[1].split()[:2]
            found[int(entry.name)] = int(above), state, None
    return found


def memory_bytes() -> int:
    """Return the resident memory of all processes below this one."""
    if not os.path.isdir("/proc/1"):
        table = _table()
        return sum(table[pid][2] or 0 for pid in descendants() if pid in table)
    pages = 0
    for pid in descendants():
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds() -> float:
    """Return the processor time of all processes that were ever below this one."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    ticks = 0
    for pid in descendants():
        with contextlib.suppress(OSError, ValueError, IndexError):
            # utime, stime and, of its own children that have ended, cutime and cstime: proc(5).
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rsplit(")", 1)[1].split()[11:15]
            ticks += sum(map(int, fields))
    return ended.ru_utime + ended.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


def largest_bytes() -> int:
    """Return the peak memory of the largest of this process's ended children; only this catches one that grew fast."""
    return in_bytes(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, platform=sys.platform)


def in_bytes(maxrss: int, *, platform: str) -> int:
    """Return ``ru_maxrss`` of getrusage(2) in bytes: macOS counts bytes, the others KiB."""
    return maxrss if platform == "darwin" else maxrss * 1024


def send(number: signal.Signals) -> bool:
    """Send a signal to every process below this one; return whether there was any."""
    found = descendants()
    for pid in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    return bool(found)


def reap() -> dict[int, int]:
    """Collect the exit statuses of all children that have ended: pid to what ``subprocess`` calls a return code."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return ended


def end_all(*, within_seconds: float) -> None:
    """Kill every process below this one and reap it."""
    deadline = time.monotonic() + within_seconds
    while send(signal.SIGKILL) and time.monotonic() < deadline:
        reap()
        time.sleep(0.01)
    reap()
