"""One command with all its processes: how long it took, and the CPU seconds of the whole tree."""

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
#: how long processes that were stopped may take to end
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a command printed and used."""

    output: str
    wall: float
    cpu: float


def adopt_orphans() -> None:
    """Become the parent of every process below that loses its own, so that its CPU is counted (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def measure(
    words: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    afterwards: Callable[[], object] | None = None,
) -> Measured:
    """Run a command to its end and count the CPU of all its processes, those included that outlive it.

    :param folder: the working folder; the output is written beside it
    :param afterwards: ends the processes that the command leaves behind; what itself uses is not counted
    :raises SystemExit: the command failed; the message has the end of its output
    """
    log = folder.parent / f"{folder.name}.log"
    with log.open("wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        status, cpu = _wait_for(process.pid)
        wall = time.perf_counter() - began
    process.returncode = status
    text = log.read_text(errors="replace")
    if status:
        raise SystemExit(f"{' '.join(words)} ended with exit status {status}:\n{text[-3000:]}")
    if afterwards is not None:
        afterwards()
    return Measured(output=text, wall=wall, cpu=cpu + _orphans())


def _wait_for(pid: int) -> tuple[int, float]:
    """Return the exit status of a child, and the CPU of it and of all that ended before it."""
    cpu = 0.0
    while True:
        found, status, used = os.wait4(-1, 0)
        cpu += used.ru_utime + used.ru_stime
        if found == pid:
            return os.waitstatus_to_exitcode(status), cpu


def _orphans() -> float:
    """Wait for the adopted processes; return their CPU."""
    cpu, until = 0.0, time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        try:
            found, _, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return cpu
        if found:
            cpu += used.ru_utime + used.ru_stime
        else:
            time.sleep(0.05)
    raise SystemExit("processes that the command left behind did not end")
