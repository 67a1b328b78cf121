"""Records of the remote jobs that ``modelway run`` or ``demo`` started, as files in their home, to find orphaned ones.

When such a command is killed, its Airflow is gone too, so that nothing stops the jobs of its run on Docker or
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
    """A job and its run."""

    handle: Handle
    run: str


def record_started(home: Path, job: StartedJob) -> None:
    """Record a job, where a command started this process; a failure is ignored, since the record is only a fallback."""
    if not os.environ.get(MARK) or job.handle.backend == "local":
        return
    write_note(_path(home, job.handle), asdict(job))


def forget_started(home: Path, handle: Handle) -> None:
    """Remove the record: the job is over."""
    with contextlib.suppress(OSError):
        _path(home, handle).unlink(missing_ok=True)


def started_jobs(home: Path) -> list[StartedJob]:
    """Return the recorded jobs by name; files that are no records are ignored."""
    found = []
    for path in sorted((home / "started-jobs").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            known = json.loads(path.read_text())
            found.append(StartedJob(handle=Handle.from_dict(known["handle"]), run=str(known["run"])))
    return found


def _path(home: Path, handle: Handle) -> Path:
    return home / "started-jobs" / f"{handle.backend}-{handle.name}.json"
