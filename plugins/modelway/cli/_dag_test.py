"""``python -m modelway.cli._dag_test``: run a DAG once in this process, for ``modelway run``, and write the outcome.

Its environment has the settings of the Airflow of ``modelway run``, its output goes into the run's log.
"""

import gc
import json
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from modelway.errors import ModelwayError
from modelway.platforms.processes.ending import Ending


def main(model: str, about: str, outcome: Path, assignments: Sequence[str]) -> int:
    """Run the DAG with values of its form and write ``{state, values, failed}`` or ``{refused}`` as JSON.

    :param about: what a schedule would set, as JSON
    :param outcome: the file to write
    :param assignments: ``NAME=VALUE`` for fields of the form
    """
    from modelway.cli._model_spec import model_spec
    from modelway.cli.run import run_conf

    try:
        conf = run_conf(model_spec(model), assignments)
    except ModelwayError as error:
        outcome.write_text(json.dumps({"refused": str(error)}))
        return 1
    outcome.write_text(json.dumps(_test(model, conf, **json.loads(about)), default=str))
    return 0


def _test(
    model: str, conf: dict[str, Any], *, run_after: str | None, interval: list[str] | None, partition: str | None
) -> dict[str, Any]:
    """Run the DAG in this process."""
    dag = _prepared(model)
    # A run of one process calls no notifier; with a deadline, dag.test() of Airflow 3.3.2 ends in an AttributeError.
    dag.deadline = None
    dag.has_on_failure_callback = dag.has_on_success_callback = False
    _set_interval(interval, partition)
    ended = _collect_ends()
    run = dag.test(run_conf=conf, run_after=datetime.fromisoformat(run_after) if run_after else None)
    _follow_up(ended)
    failed = [(ti.task_id, ti.map_index) for ti in run.get_task_instances() if ti.state == "failed"]
    return {"state": run.state, "values": _xcoms(model, run.run_id), "failed": failed}


def _prepared(model: str) -> Any:
    """Return the model's DAG, its Airflow ready to run it."""
    # What is imported stays until the end: the garbage collector need not traverse it again and again.
    gc.disable()
    from airflow.dag_processing.dagbag import DagBag

    from modelway.localairflow.one_process import migrate, serve_one_api_version

    migrate()
    serve_one_api_version()
    dag = DagBag(dag_folder=os.environ["AIRFLOW__CORE__DAGS_FOLDER"] + "/models.py").dags[model]
    gc.freeze()
    gc.enable()
    return dag


def _set_interval(interval: list[str] | None, partition: str | None) -> None:
    """Give the run its data interval and partition: dag.test() takes neither, and counts the interval from now."""
    from airflow.models.dagrun import DagRun
    from sqlalchemy import event

    def fill(_mapper: Any, _connection: Any, run: Any) -> None:
        if interval:
            run.data_interval_start, run.data_interval_end = map(datetime.fromisoformat, interval)
        run.partition_key = partition

    event.listen(DagRun, "before_insert", fill)


def _collect_ends() -> list[tuple[str, str, Sequence[str]]]:
    """Return a list to which each run that ends is appended, instead of starting a process that stops its jobs."""
    from modelway.plugin import EndOfRuns

    ended: list[tuple[str, str, Sequence[str]]] = []
    EndOfRuns.follow_up = staticmethod(lambda run, state, backends: ended.append((run, state, backends)))
    return ended


def _follow_up(ended: Sequence[tuple[str, str, Sequence[str]]]) -> None:
    """Do for runs that ended what ``following.orphaned_jobs`` does where a scheduler runs."""
    from modelway.following.orphaned_jobs import record_end, stop_orphaned_jobs
    from modelway.following.rollouts import abort_rollouts_of

    # No task runs any more: connections are read from the database, as Airflow's own processes do.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    for run, state, backends in ended:
        abort_rollouts_of(run, state=state)
        stop_orphaned_jobs(run, backends)
        record_end(run, state)


def _xcoms(dag_id: str, run_id: str) -> list[tuple[str, int, str, Any]]:
    """Return the run's XCom values: ``[(task, map index, key, value)]``."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        rows = session.scalars(select(XComModel).where(XComModel.dag_id == dag_id, XComModel.run_id == run_id))
        return [(row.task_id, row.map_index, row.key, XComModel.deserialize_value(row)) for row in rows]


if __name__ == "__main__":
    Ending().run(lambda: sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:])))
