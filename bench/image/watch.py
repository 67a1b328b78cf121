"""What a process costs: its time, its CPU and that of a daemon that works for it, its memory, what it writes."""

import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")
#: seconds between two looks at the memory
_PAUSE = 0.01


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of one push; a daemon's work is in it."""

    seconds: float
    cpu_seconds: float
    memory_mb: float
    """Peak of the memory that no file stands for, of the process started (with a daemon: of the daemon)."""
    written_mb: float
    """What reached disks, but for the registry's."""
    work_seconds: float
    """Without the start of the process."""
    output: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def measured(command: Sequence[str], *, environment: Mapping[str, str], daemons: Sequence[str] = ()) -> Cost:
    """Run a command and return its cost.

    :param daemons: names of processes that work for it
    """
    watched = list(_pids(daemons))
    before = [_work(pid) for pid in watched]
    began, children = time.perf_counter(), os.times()
    with subprocess.Popen(command, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        look = _Look([*watched, process.pid] if watched else [process.pid])
        look.start()
        output, errors = process.communicate()
    seconds, after = time.perf_counter() - began, os.times()
    look.stop()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{errors.decode()[-3000:]}")
    own = after.children_user + after.children_system - children.children_user - children.children_system
    daemon = [(now[0] - then[0], now[1] - then[1]) for then, now in zip(before, map(_work, watched), strict=True)]
    return Cost(
        seconds=round(seconds, 3),
        cpu_seconds=round(own + sum(each[0] for each in daemon), 3),
        memory_mb=round(look.peak / 1e6, 1),
        written_mb=round((look.written + sum(each[1] for each in daemon)) / 1e6, 1),
        work_seconds=float(output.decode().split()[-2]),
        output=output.decode().split()[-1],
    )


class _Look(threading.Thread):
    """Looks at the memory of processes while they run; the last of them is the one started."""

    def __init__(self, pids: Sequence[int]) -> None:
        super().__init__(daemon=True)
        self._pids, self._end, self.peak, self.written = pids, threading.Event(), 0, 0

    def run(self) -> None:
        """Look until it is stopped."""
        while not self._end.wait(_PAUSE):
            for pid in self._pids:
                self.peak = max(self.peak, _number(pid, "status", r"RssAnon:\s+(\d+)") * 1024)
            self.written = max(self.written, _number(self._pids[-1], "io", r"write_bytes: (\d+)"))

    def stop(self) -> None:
        """Stop."""
        self._end.set()
        self.join()


def _pids(names: Sequence[str]) -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                if (folder / "comm").read_text().strip() in names:
                    yield int(folder.name)
            except OSError:
                continue


def _work(pid: int) -> tuple[float, int]:
    """Return CPU seconds and written bytes of a process so far."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0, 0
    return (int(fields[11]) + int(fields[12])) / _TICKS, _number(pid, "io", r"write_bytes: (\d+)")


def _number(pid: int, file: str, pattern: str) -> int:
    try:
        found = re.search(pattern, Path(f"/proc/{pid}/{file}").read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0
