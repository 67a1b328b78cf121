"""Records of the jobs whose tasks are deferred, as files below the home folder, to find orphaned jobs.

Airflow calls nothing when a run is deleted, or a run or task is marked, while no triggerer has the task's trigger. So
the next follower of any job, and the end of every run, checks whether the task of each recorded job still needs it.
"""

import contextlib
import json
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelway.backends.base import Handle
from modelway.following.note_files import write_note
from modelway.following.task_state import CONTINUES

#: a record younger than this is ignored: the worker that wrote it may not have deferred its task yet
YOUNG_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class DeferredJob:
    """A job and the task that is deferred until the job is over."""

    follower: str
    """the unique name of the deferral"""
    handle: Handle
    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    model: str = ""
    key: str = ""
    """the key of the job within its run"""
    attempt: int = 1
    """the task's attempt"""
    stage: str = ""

    @property
    def state_key(self) -> str:
        """Airflow's key of the task among the states of a run."""
        return f"{self.task_id}_{self.map_index}" if self.map_index >= 0 else self.task_id


def record_deferral(home: Path, job: DeferredJob) -> None:
    """Record the job; a failure to do so is ignored, since the record is only a fallback."""
    write_note(_path(home, job.follower), asdict(job))


def deferred_job(home: Path, follower: str) -> DeferredJob | None:
    """Return the job of a deferral, None where it was not recorded."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        return _read(_path(home, follower))
    return None


def forget_deferral(home: Path, follower: str) -> None:
    """Remove the record: the task has resumed, or its job was stopped."""
    with contextlib.suppress(OSError):
        _path(home, follower).unlink(missing_ok=True)


def abandoned_jobs(home: Path) -> list[DeferredJob]:
    """Return the recorded jobs whose task is over or gone; one request to Airflow for each DAG.

    This reads states as a task, a trigger or a callback does; where Airflow does not answer, no job is returned.
    """
    recorded: dict[str, list[DeferredJob]] = defaultdict(list)
    for job in _recorded(home):
        recorded[job.dag_id].append(job)
    found = []
    for dag_id, jobs in recorded.items():
        with contextlib.suppress(Exception):
            states = _states(dag_id, sorted({job.run_id for job in jobs}))
            found += [job for job in jobs if not _is_needed(states.get(job.run_id, {}), job)]
    return found


def _is_needed(states: Mapping[str, Any], job: DeferredJob) -> bool:
    if job.state_key not in states:
        return False
    state = states[job.state_key]
    return (None if state is None else str(getattr(state, "value", state))) in CONTINUES


def _states(dag_id: str, run_ids: list[str]) -> Mapping[str, Mapping[str, Any]]:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    return RuntimeTaskInstance.get_task_states(dag_id=dag_id, run_ids=run_ids)


def _recorded(home: Path) -> list[DeferredJob]:
    found = []
    for path in (home / "deferred").glob("*.json"):
        # Another process may remove it at the same time.
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            if time.time() - path.stat().st_mtime > YOUNG_SECONDS:
                found.append(_read(path))
    return found


def _read(path: Path) -> DeferredJob:
    known = json.loads(path.read_text())
    return DeferredJob(**{**known, "handle": Handle.from_dict(known["handle"])})


def _path(home: Path, follower: str) -> Path:
    return home / "deferred" / f"{follower or 'nobody'}.json"
