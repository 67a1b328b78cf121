"""The jobs elsewhere that ``modelway run`` or ``demo`` began, as files in their home, to find those that continue.

Such a command has no Airflow left when it was killed, so that nothing stops the jobs of its run on Docker or
Kubernetes. A job on this machine is found by its processes.
"""

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from modelway.backends.base import Handle
from modelway.following.note_files import write_note
from modelway.platforms.processes.marked import MARK


@dataclass(frozen=True, kw_only=True)
class StartedJob:
    """A job and the run that it is of."""

    handle: Handle
    run: str


def record_started(home: Path, job: StartedJob) -> None:
    """Record a job, where a command started this process; where that cannot be, the job is only harder to find."""
    if not os.environ.get(MARK) or job.handle.backend == "local":
        return
    write_note(_path(home, job.handle), asdict(job))


def forget_started(home: Path, handle: Handle) -> None:
    """Remove the record: the job is over."""
    with contextlib.suppress(OSError):
        _path(home, handle).unlink(missing_ok=True)


def started_jobs(home: Path) -> list[StartedJob]:
    """Return the recorded jobs by their names; a file that is no record is passed over."""
    found = []
    for path in sorted((home / "started-jobs").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            known = json.loads(path.read_text())
            found.append(StartedJob(handle=Handle.from_dict(known["handle"]), run=str(known["run"])))
    return found


def _path(home: Path, handle: Handle) -> Path:
    return home / "started-jobs" / f"{handle.backend}-{handle.name}.json"
