"""The peaks of memory of all processes below one, from /proc (Linux)."""

import threading
from collections import defaultdict
from pathlib import Path

#: seconds between two readings
INTERVAL = 0.05


class Watch:
    """Reads ``/proc/<pid>/status`` of all descendants of a process until it is stopped."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._peaks: dict[tuple[int, str], int] = {}
        self._names: dict[tuple[int, str], str] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read_until_ended, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def peaks(self) -> dict[str, int]:
        """Return the largest peak of memory in bytes, by kind of process."""
        found: dict[str, int] = defaultdict(int)
        for key, value in self._peaks.items():
            found[self._names[key]] = max(found[self._names[key]], value)
        return dict(found)

    def _read_until_ended(self) -> None:
        while not self._ended.wait(INTERVAL):
            self._read()
        self._read()

    def _read(self) -> None:
        parents: dict[int, tuple[int, str]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    parents[int(entry.name)] = (int(fields[1]), fields[19])
                except OSError:
                    continue
        for pid, (_, began) in parents.items():
            if pid != self._root and self._is_below(pid, parents):
                self._note(pid, began)

    def _is_below(self, pid: int, parents: dict[int, tuple[int, str]]) -> bool:
        while pid in parents:
            pid = parents[pid][0]
            if pid == self._root:
                return True
        return False

    def _note(self, pid: int, began: str) -> None:
        place, key = Path(f"/proc/{pid}"), (pid, began)
        try:
            status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines() if ":" in line)
            words = (place / "cmdline").read_text().split("\0")
        except OSError:
            return
        if "VmHWM" in status:
            self._peaks[key] = int(status["VmHWM"].split()[0]) * 1024
        if words[0]:
            self._names[key] = kind_of(words)
        self._names.setdefault(key, "other")


def kind_of(words: list[str]) -> str:
    """Return what a process is by its command line."""
    if "-m" in words:
        module = words[words.index("-m") + 1]
        return "job" if module == "modelway.job" else module
    return "modelway run" if any("modelway" in word for word in words[:3]) else Path(words[0]).name
