"""What a killed command left running in a home folder: found by a mark in its environment, and stopped."""

import contextlib
import json
import os
import signal
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from modelway.backends.base import Handle, load_backend
from modelway.backends.local.processes import attempt_of
from modelway.localairflow.processes import STOP_SECONDS
from modelway.platforms.processes.marked import MARK

RECORD = "started.json"


@contextmanager
def recorded_start(home: Path, *, command: str, serving: Path) -> Iterator[tuple[dict[str, str], str | None]]:
    """Record that a command starts processes in a home folder that it alone works in; first stop what another left.

    Yields the environment that marks every process of this command, and a line about what an earlier command left, if
    it left anything. A command that is killed cannot remove its record: the next one finds it.

    :param serving: the folder of the endpoints, whose processes continue
    """
    path = home / RECORD
    stopped = _stop_leftovers(path, serving=serving)
    mark = uuid.uuid4().hex
    path.write_text(json.dumps({"mark": mark, "command": command, "pid": os.getpid()}))
    try:
        yield {MARK: mark}, stopped
    finally:
        path.unlink(missing_ok=True)


def _stop_leftovers(path: Path, *, serving: Path) -> str | None:
    """Stop what the command of a record left and return a line about it; None where it left nothing."""
    try:
        record = json.loads(path.read_text())
        mark, command, pid = str(record["mark"]), record["command"], record["pid"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    left = _marked(mark, serving)
    agents = {process.pid: attempt for process in left if (attempt := _attempt_of(process, path.parent))}
    attempts = set(agents.values())
    others = sum(process.pid not in agents and _parent(process) not in agents for process in left)
    _cancel_jobs(attempts, home=path.parent)
    for number, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 5.0)):
        # A scheduler that is stopping may have started another one meanwhile.
        for process in (running := _marked(mark, serving)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        psutil.wait_procs(running, timeout=patience)
    if not left:
        return None
    kinds = ((others, "processes of its Airflow"), (len(attempts), "of its jobs"))
    parts = " and ".join(f"{count} {what}" for count, what in kinds if count)
    return f"`{command}` (process {pid}) was killed and left {parts} running: stopped"


def _marked(mark: str, serving: Path) -> list[psutil.Process]:
    """Return the running processes that have the mark, except those of endpoints."""
    found = []
    for process in psutil.process_iter():
        # Those of other users cannot be read, and are not ours.
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.environ().get(MARK) != mark:
                continue
            if process.status() != psutil.STATUS_ZOMBIE and not _serves(process, serving):
                found.append(process)
    return found


def _serves(process: psutil.Process, serving: Path) -> bool:
    return any(word.startswith(f"{serving}{os.sep}") for word in process.cmdline())


def _attempt_of(process: psutil.Process, home: Path) -> Path | None:
    """Return the folder of the attempt of a home that a process runs, None where it runs none."""
    with contextlib.suppress(psutil.Error):
        attempt = attempt_of(process.cmdline())
        return attempt if attempt and _is_attempt(attempt, home) else None
    return None


def _parent(process: psutil.Process) -> int | None:
    with contextlib.suppress(psutil.Error):
        return int(process.ppid())
    return None


def _is_attempt(path: Path, home: Path) -> bool:
    """Whether a process names an attempt of this home; its arguments may be anything."""
    number = path.name.removeprefix("try-")
    return path.is_relative_to(home.absolute() / "jobs") and ".." not in path.parts and number.isdecimal()


def _cancel_jobs(attempts: Iterable[Path], *, home: Path) -> None:
    backend = load_backend("local", home=home)
    for attempt in attempts:
        number = int(attempt.name.rpartition("-")[2])
        backend.cancel(Handle(backend="local", name=attempt.name, place=str(attempt.parent), attempt=number))
