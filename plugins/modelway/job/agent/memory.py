"""What the kernel reports of this container's memory: its limit, and how often it killed a process for lack of it.

Both versions of control groups are read: version 1 has a tree for memory, version 2 one tree for everything.
"""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

#: a limit beyond this is none: version 1 expresses "no limit" as a huge number
_NO_LIMIT = 1 << 60


def limit_bytes() -> int | None:
    """Return how much memory this container may use, or None where nothing limits it."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        for folder in _groups():
            with contextlib.suppress(OSError, ValueError):
                found = int((folder / name).read_text())
                return found if found < _NO_LIMIT else None
    return None


def kills() -> int | None:
    """Return how many processes of this container the kernel has killed for memory; None where that is unknown."""
    for name in ("memory.events", "memory.oom_control"):
        for folder in _groups():
            with contextlib.suppress(OSError, ValueError):
                lines = (folder / name).read_text().splitlines()
                counts = dict(line.split() for line in lines if len(line.split()) == 2)
                if "oom_kill" in counts:
                    return int(counts["oom_kill"])
    return None


def killed_one_of(before: int | None, *, returncode: int, alone: bool) -> bool | None:
    """Whether the kernel killed one of the job's processes for memory since ``before``; None where that is unknown.

    :param alone: nothing but the job runs in this group; else it may have killed a process of another job
    """
    after = kills()
    if after is None:
        return None if alone else False
    return after > (before or 0) and (alone or returncode == -signal.SIGKILL)


def be_killed_first(pid: int) -> None:
    """Make the kernel choose that process rather than this one when memory runs out."""
    with contextlib.suppress(OSError, ValueError):
        mine = int(Path("/proc/self/oom_score_adj").read_text())
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(min(1000, mine + 500)))


def _groups() -> list[Path]:
    """Return the folders that may describe this process's group: its own path where it is visible, else the root."""
    root = Path("/sys/fs/cgroup")
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                found.append(root / path.lstrip("/"))
            elif "memory" in controllers.split(","):
                found.append(root / "memory" / path.lstrip("/"))
    # Inside a container the group's own folder is mounted as the root.
    return [*found, root, root / "memory"]
