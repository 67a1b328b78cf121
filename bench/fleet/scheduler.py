"""``python scheduler.py MODELS RUNS FOLDER``: a real scheduler that takes runs of many models to their end.

Its executor is hollow: a task that it gets has succeeded at once, so that only Airflow's own work is measured. The DAGs
are ours, or the same tasks and edges as operators that do nothing. Prints JSON; needs nothing but this Airflow, and
makes its database in FOLDER.
"""

import json
import os
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

#: of each run: how many jobs its mapped task has
MAPPED = 2
BUNDLE = {"name": "bench", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": {}}
SPEC = """model: {name}
train:
  stages: [{{name: warmup}}, {{name: finetune}}]
select: {{metric: loss}}
max_active_runs: 16
"""
CODE = "def train(job): ...\ndef evaluate(job, checkpoint): ...\ndef export(job, checkpoint): ...\n"


def settings(folder: Path) -> dict[str, str]:
    """Return the variables of an Airflow in a folder."""
    return {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__PARALLELISM": "512",
        "AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT": "512",
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "512",
        "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "0",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([BUNDLE]),
        "AIRFLOW__API_AUTH__JWT_SECRET": "of-a-benchmark-without-an-api-server",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "MODELWAY_HOME": str(folder / "home"),
    }


def build(models: int, folder: Path) -> list[Any]:
    """Return the DAGs of so many models."""
    from modelway.dag import load_dags

    place = folder / "models"
    for number in range(models):
        own = place / f"m{number:04}"
        own.mkdir(parents=True)
        (own / "model.yaml").write_text(SPEC.format(name=own.name))
        (own / f"{own.name}.py").write_text(CODE)
    return list(load_dags(place).values())


def emptied(dag: Any) -> Any:
    """Return a DAG with the same tasks and edges, whose operators do nothing."""
    from airflow.sdk import DAG, BaseOperator

    class Empty(BaseOperator):
        def __init__(self, *, item: Any = None, **kwargs: Any) -> None:
            super().__init__(**kwargs)

    with DAG(dag_id=f"{dag.dag_id}_empty", schedule=None, max_active_runs=dag.max_active_runs) as empty:
        made: dict[str, Any] = {}
        for task in dag.topological_sort():
            if task.is_mapped:
                source = made["evaluate.divide"].output
                made[task.task_id] = Empty.partial(task_id=task.task_id).expand(item=source)
            else:
                made[task.task_id] = Empty(task_id=task.task_id, trigger_rule=task.trigger_rule)
        for task in dag.tasks:
            for after in task.downstream_task_ids:
                made[task.task_id] >> made[after]
    return empty


def store(dags: Sequence[Any], session: Any, *, folder: Path) -> None:
    """Write the DAGs into the database, as the DAG processor does."""
    from airflow.dag_processing.collection import update_dag_parsing_results_in_db
    from airflow.models.dagbundle import DagBundleModel
    from airflow.serialization.serialized_objects import LazyDeserializedDAG

    session.merge(DagBundleModel(name="bench"))
    session.commit()
    for dag in dags:
        path = folder / "dags" / f"{dag.dag_id}.py"
        path.write_text("# the DAG is made by the benchmark\n")
        dag.fileloc, dag.relative_fileloc = str(path), path.name
    serialized = [LazyDeserializedDAG.from_dag(dag) for dag in dags]
    update_dag_parsing_results_in_db("bench", None, serialized, {}, None, set(), session)
    session.commit()


def begin(dags: Sequence[Any], runs: int, session: Any, *, name: str) -> None:
    """Trigger so many runs of each DAG."""
    from airflow.models.dagbag import DBDagBag
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    bag = DBDagBag()
    for dag in dags:
        stored = bag.get_latest_version_of_dag(dag.dag_id, session=session)
        for number in range(runs):
            moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
            stored.create_dagrun(
                run_id=f"{name}-{number}",
                run_after=moment,
                run_type=DagRunType.MANUAL,
                triggered_by=DagRunTriggeredByType.TEST,
                state=DagRunState.QUEUED,
                session=session,
            )
    session.commit()


def hollow_executor() -> Any:
    """Return an executor whose tasks have succeeded when it gets them."""
    from airflow.executors.base_executor import BaseExecutor
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.taskmap import TaskMap
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState

    class HollowExecutor(BaseExecutor):
        done = 0

        def _process_workloads(self, workload_items: Sequence[Any]) -> None:
            now = datetime.now(UTC)
            with create_session() as session:
                for each in workload_items:
                    ti, key = each.ti, each.ti.key
                    found = session.get(TaskInstance, ti.id)
                    found.state, found.start_date, found.end_date = TaskInstanceState.SUCCESS, now, now
                    if ti.task_id == "evaluate.divide":
                        session.add(TaskMap(ti.dag_id, ti.task_id, ti.run_id, -1, MAPPED, None))
                    self.queued_tasks.pop(key, None)
                    self.event_buffer[key] = (TaskInstanceState.SUCCESS, None)
                    self.done += 1

        def end(self) -> None: ...

        def terminate(self) -> None: ...

    return HollowExecutor(parallelism=512)


def schedule(executor: Any) -> None:
    """Run the scheduler's steps until no run is left."""
    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import State
    from sqlalchemy import func, select

    runner = SchedulerJobRunner(job=Job(), executors=[executor])
    with create_session() as session:
        session.add(runner.job)
        session.commit()
        executor.job_id = runner.job.id
        session.expunge_all()
    left = True
    while left:
        with create_session() as session:
            runner._do_scheduling(session)
            session.expunge_all()
        executor.heartbeat()
        with create_session() as session:
            runner._process_executor_events(executor=executor, session=session)
            unfinished = select(func.count()).select_from(DagRun).where(DagRun.state.in_(State.unfinished_dr_states))
            left = bool(session.scalar(unfinished))


def measured(database: Path) -> dict[str, int]:
    """Return the rows and bytes of a database."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = sum(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables)
        (pages,), (free,), (size,) = (
            connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count", "page_size")
        )
    return {"rows": rows, "bytes": (pages - free) * size}


def measure(dags: Sequence[Any], runs: int, *, folder: Path) -> dict[str, float]:
    """Take so many runs of each DAG to their end, after one that fills the caches."""
    from airflow.utils.session import create_session

    database, executor = folder / "airflow.db", hollow_executor()
    before = measured(database)
    with create_session() as session:
        store(dags, session, folder=folder)
    stored = measured(database)
    with create_session() as session:
        begin(dags[:1], 1, session, name="first")
    schedule(executor)
    with create_session() as session:
        begin(dags, runs, session, name="bench")
    begun, done = measured(database), executor.done
    cpu, wall = time.process_time(), time.monotonic()
    schedule(executor)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    after, count, tasks = measured(database), len(dags) * runs, executor.done - done
    return {
        "tasks": tasks,
        "tasks_per_run": tasks / count,
        "tasks_per_cpu_second": tasks / cpu,
        "cpu_seconds": cpu,
        "seconds": wall,
        "bytes_per_model": (stored["bytes"] - before["bytes"]) / len(dags),
        # Of the rows of a run, those of its tasks are written when it begins.
        "rows_per_run": (after["rows"] - stored["rows"]) / (count + 1),
        "bytes_per_run": (after["bytes"] - stored["bytes"]) / (count + 1),
        "rows_while_running": (after["rows"] - begun["rows"]) / count,
    }


def start_nothing(run: str, state: str, backends: Sequence[str]) -> None:
    """Start a process as the listener does when a run ends: hundreds at once would measure themselves."""
    process = subprocess.Popen(["true"], stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=process.wait, daemon=True).start()


def follow_up_seconds(run: str) -> float:
    """Return the CPU of the process that stops the orphaned jobs of a run that ended."""
    command = [sys.executable, "-m", "modelway.following.orphaned_jobs", run, "success", "local"]
    # The first one makes the lineage.
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(models: int, runs: int, folder: Path) -> None:
    """Measure the empty DAGs, then ours, and print both."""
    os.environ.update(settings(folder))
    from modelway.plugin import EndOfRuns

    EndOfRuns.follow_up = staticmethod(start_nothing)
    (folder / "dags").mkdir(parents=True)
    from airflow.utils.db import initdb

    initdb()
    ours = build(models, folder)
    empty = [emptied(dag) for dag in ours]
    found: dict[str, Any] = {
        name: measure(dags, runs, folder=folder) for name, dags in (("empty", empty), ("ours", ours))
    }
    found["follow_up_cpu_seconds"] = follow_up_seconds(f"{ours[0].dag_id}/bench-0")
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
