"""Processes that outlive their starter, found again by an argument that no other process has: the marker."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import psutil

import modelway

#: variable that says which command started a process, so that the next one finds what a killed one left behind
MARK = "MODELWAY_STARTED_BY"
#: variables of the starter that a server may see: none of Airflow's, no credentials
_PASSED = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
#: (starter, child) by the child's id, so that children are reaped once they end
_children: dict[int, tuple[int, subprocess.Popen[bytes]]] = {}


def spawn(argv: Sequence[str], *, folder: Path, log: Path) -> int:
    """Start a process in a session of its own, with a clean environment, and return its id.

    :param folder: its working directory
    :param log: its output is appended here
    """
    environ = {name: os.environ[name] for name in _PASSED if name in os.environ}
    environ["PYTHONPATH"] = str(Path(modelway.__file__).parents[1])
    environ["PYTHONUNBUFFERED"] = "1"
    with log.open("ab") as output:
        child = subprocess.Popen(
            argv,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children[child.pid] = os.getpid(), child
    return child.pid


def running(pid: int | None, marker: str) -> bool:
    """Return whether ``pid`` is still the process whose command line has the argument ``marker``."""
    return pid is not None and _process(pid, marker) is not None


def exit_status(pid: int) -> int | None:
    """Return the exit status of an ended process that this one started, None when it runs or is not known here."""
    child = _child(pid)
    return None if child is None else child.poll()


def reap() -> None:
    """Wait for the children that have ended, so that none stays as a zombie."""
    for pid, (starter, child) in list(_children.items()):
        if starter == os.getpid() and child.poll() is not None:
            del _children[pid]


def strays(folder: Path, known: Mapping[int, str], *, programs: Collection[str]) -> Iterator[tuple[int, str]]:
    """Yield (pid, marker) of a folder's processes that are not in ``known``, as after a crash of the starter.

    :param known: markers by the processes' ids
    :param programs: names of programs, and of modules that Python runs; other processes are ignored
    """
    inside = f"{folder}{os.sep}"
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            argv = process.cmdline()
            if not _runs_one_of(programs, argv):
                continue
            for argument in argv:
                if argument.startswith(inside) and known.get(process.pid) != argument:
                    yield process.pid, argument


def stop(pid: int | None, marker: str, *, patience: float, first: signal.Signals = signal.SIGTERM) -> None:
    """End a process: signal ``first``, and SIGKILL after ``patience`` seconds. One that is gone already is fine."""
    if pid is None or (process := _process(pid, marker)) is None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(first)
    if wait_gone(pid, marker, patience=patience):
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
    wait_gone(pid, marker, patience=5)


def wait_gone(pid: int, marker: str, *, patience: float) -> bool:
    """Wait until a process has ended; False when it is still there after ``patience`` seconds."""
    end = time.monotonic() + patience
    while running(pid, marker):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def tail(log: Path, *, lines: int = 12) -> str:
    """Return the last lines of a log, for an error message."""
    try:
        text = log.read_bytes()[-8192:].decode(errors="replace")
    except OSError:
        return "(no log)"
    return "\n".join(text.strip().splitlines()[-lines:]) or "(the log is empty)"


def _process(pid: int, marker: str) -> psutil.Process | None:
    child = _child(pid)
    # a child's own command line is empty for a moment after its start
    started = child is not None and child.poll() is None and marker in cast(Sequence[str], child.args)
    try:
        process = psutil.Process(pid)
        # a zombie has an empty command line
        return process if started or marker in process.cmdline() else None
    except psutil.Error:
        return None


def _child(pid: int) -> subprocess.Popen[bytes] | None:
    """Return a child of this very process; a fork inherits its starter's list, but cannot wait for them."""
    starter, child = _children.get(pid, (None, None))
    return child if starter == os.getpid() else None


def _runs_one_of(programs: Collection[str], argv: Sequence[str]) -> bool:
    return any(word in programs for word in (*argv, *(os.path.basename(word) for word in argv[:1])))
