"""What the Airflow of ``modelway run`` has recorded of its runs: read while another process runs the DAG.

That Airflow has no API server. Its database is our own file, with one writer.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from modelway.localairflow.rest import TaskState

_TASKS = "SELECT task_id, map_index, state, coalesce(duration, 0), try_number FROM task_instance"


class RecordedRun:
    """The next run of a DAG, as the progress display reads it; it may not have started yet."""

    def __init__(self, database: Path, *, dag_id: str, running: Callable[[], bool]) -> None:
        """Follow the first run that is newer than all existing ones.

        :param running: whether the process that runs the DAG still does
        """
        self._database, self._dag_id, self._running = database, dag_id, running
        self._last = max((row[0] for row in self._rows("SELECT max(id) FROM dag_run")), default=0) or 0

    def run_id(self) -> str | None:
        """Return the run's id, None before it has started."""
        found = self._rows(
            "SELECT run_id FROM dag_run WHERE dag_id = ? AND id > ? ORDER BY id LIMIT 1", self._dag_id, self._last
        )
        return str(found[0][0]) if found else None

    def state(self) -> str:
        """Return the run's state; ``failed`` where the process has ended without one."""
        # Read first: the process may end between the two reads.
        is_running = self._running()
        found = self._rows("SELECT state FROM dag_run WHERE dag_id = ? AND run_id = ?", self._dag_id, self.run_id())
        state = str(found[0][0]) if found else "queued"
        return state if is_running or state in ("success", "failed") else "failed"

    def tasks(self) -> list[TaskState]:
        """Return its task instances."""
        rows = self._rows(f"{_TASKS} WHERE dag_id = ? AND run_id = ?", self._dag_id, self.run_id())
        return [
            TaskState(task_id=task, map_index=index, state=state, seconds=float(seconds), try_number=number)
            for task, index, state, seconds, number in rows
        ]

    def _rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Read; a file that is busy at the moment has nothing new."""
        try:
            with closing(sqlite3.connect(f"{self._database.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
                return connection.execute(statement, values).fetchall()
        except sqlite3.OperationalError:
            return []
