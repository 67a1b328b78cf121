"""A task of a run that trains as its operator does, attempt after attempt, in a home of its own."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from modelway.lineage.records.version import FailureRecord
from modelway.lineage.store import open_lineage
from modelway.operators.train import TrainModelOperator

from tests.job_folders import store_code
from tests.task_instance import Store, Ti

#: counts its tries, and does in each what its number in ``params`` says
CODE = """
import os, signal, time
def train(job):
    with open(job.folder / 'tries.txt', 'a') as file: file.write('x')
    does = job.params['does']
    print('this is', does)
    if does == 'raise': raise ValueError('spoilt')
    if does == 'kill': os.kill(os.getpid(), signal.SIGKILL)
    if does == 'sleep': time.sleep(600)
    if does.startswith('take'):
        room = bytearray(int(does.split()[1]) * 2**20)
        time.sleep(1)
    with job.checkpoint(step=1) as path: path.write_text('done')
def evaluate(job, checkpoint): return {}
def export(job, checkpoint): ...
"""


class Task:
    """One task of a run: each ``attempt`` executes a fresh operator, as Airflow's workers do."""

    def __init__(self, code: dict[str, Any], does: str, *, retries: int = 2, **options: Any) -> None:
        self.given = {"code": code, "job_params": {"does": does}, "options": options}
        self.tries, self.retries, self.store, self.clear_number, self.pushed = 0, retries, Store(), 0, {}

    def context(self) -> Any:
        run = {"dag_id": "tiny", "run_id": "now", "clear_number": self.clear_number, "triggering_user_name": "mia"}
        now = datetime(2026, 3, 10, tzinfo=UTC)
        dag_run = SimpleNamespace(**run, run_type=SimpleNamespace(value="manual"), start_date=now, run_after=now)
        known = {
            "dag_id": "tiny",
            "run_id": "now",
            "task_id": "train",
            "try_number": self.tries,
            "max_tries": self.retries,
            "map_index": -1,
        }
        return {"dag_run": dag_run, "ti": Ti(**known, pushed=self.pushed), "task_state_store": self.store}

    def attempt(self) -> Any:
        self.tries += 1
        return TrainModelOperator(task_id="train", **self.given).execute(self.context())

    def resume(self, event: Any) -> Any:
        return TrainModelOperator(task_id="train", **self.given).resume(self.context(), event)


def own_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder the home of modelway, without settings of the machine's own."""
    monkeypatch.setenv("MODELWAY_HOME", str(folder / "home"))
    for name in ("MODELWAY_LINEAGE_URL", "MODELWAY_ARTIFACT_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_REGISTRY", "http://registry")
    return folder / "home"


def stored_task_code(folder: Path) -> dict[str, Any]:
    """Store the code of the tasks, and return what the task ``package`` says of it."""
    return {"model": "tiny", "module": "tiny.py", **store_code(folder, CODE).to_dict()}


def failures_in(home: Path) -> tuple[FailureRecord, ...]:
    """Return what the lineage of a home has of the run's failures."""
    return open_lineage(f"sqlite:///{home}/lineage.db").account("now", model="tiny").failures
