"""Runs of ``modelway run`` that were interrupted or killed: their rollouts end, and Airflow records them as failed."""

import contextlib
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from modelway.localairflow.processes import LocalAirflow

#: a target that does not answer for so long gets its traffic back by the next rollout
SECONDS = 120.0
_UNFINISHED = "state IN ('queued', 'running')"


def close_unfinished_runs(airflow: LocalAirflow, *, log: Path) -> None:
    """Return the traffic of rollouts whose run is over without an end, and record these runs as failed.

    Only the process that has locked the home may call this, and only while it runs no DAG: the database is then
    nobody else's, and what is recorded as running is not.

    :param airflow: the Airflow of ``modelway run``, prepared
    :param log: gets what the processes print that return the traffic
    """
    database = airflow.folder / "airflow.db"
    for run in _unfinished(database):
        # What a scheduler's listener starts when a run ends.
        words = [sys.executable, "-P", "-m", "modelway.following.orphaned_jobs", run, "failed"]
        with log.open("ab") as output, contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                words,
                env=airflow.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                timeout=SECONDS,
                check=False,
            )
        dag_id, _, run_id = run.partition("/")
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute(
                f"UPDATE dag_run SET state = 'failed' WHERE dag_id = ? AND run_id = ? AND {_UNFINISHED}",
                (dag_id, run_id),
            )


def _unfinished(database: Path) -> list[str]:
    """Return the keys of the runs that are recorded as running; none before the database is made."""
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute(f"SELECT dag_id, run_id FROM dag_run WHERE {_UNFINISHED} ORDER BY id").fetchall()
    except sqlite3.OperationalError:
        return []
    return [f"{dag_id}/{run_id}" for dag_id, run_id in rows]
