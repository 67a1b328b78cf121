"""A real scheduler of Airflow, step by step, whose executor is hollow.

A task that the executor gets has succeeded at once, so that only Airflow's own work is measured.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fleet_dags import DIVIDE

#: of each run: how many jobs its mapped task has
MAPPED = 2


def begin(runs: Sequence[tuple[str, str]], moment: datetime, session: Any) -> None:
    """Make some runs, each of a DAG and with an id, as the scheduler does for a schedule."""
    from airflow.models.dagbag import DBDagBag
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    bag = DBDagBag()
    for dag_id, run_id in runs:
        bag.get_latest_version_of_dag(dag_id, session=session).create_dagrun(
            run_id=run_id,
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
    from sqlalchemy import update

    class HollowExecutor(BaseExecutor):
        done = 0

        def _process_workloads(self, workload_items: Sequence[Any]) -> None:
            tasks, now = [each.ti for each in workload_items], datetime.now(UTC)
            ended = {"state": TaskInstanceState.SUCCESS, "start_date": now, "end_date": now}
            chosen = update(TaskInstance).where(TaskInstance.id.in_([ti.id for ti in tasks])).values(**ended)
            with create_session() as session:
                session.execute(chosen.execution_options(synchronize_session=False))
                session.add_all(
                    TaskMap(ti.dag_id, ti.task_id, ti.run_id, -1, MAPPED, None) for ti in tasks if ti.task_id == DIVIDE
                )
            for ti in tasks:
                self.queued_tasks.pop(ti.key, None)
                self.event_buffer[ti.key] = (TaskInstanceState.SUCCESS, None)
            self.done += len(tasks)

        def end(self) -> None: ...

        def terminate(self) -> None: ...

    return HollowExecutor(parallelism=512)


class Scheduler:
    """One scheduler, as long as the process lives: what it read of the DAGs is read once."""

    def __init__(self) -> None:
        """Register its job."""
        from airflow.jobs.job import Job
        from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
        from airflow.utils.session import create_session

        self._executor = hollow_executor()
        self._runner = SchedulerJobRunner(job=Job(), executors=[self._executor])
        with create_session() as session:
            session.add(self._runner.job)
            session.commit()
            self._executor.job_id = self._runner.job.id
            session.expunge_all()

    def finish(self) -> int:
        """Take the scheduler's steps until no run is left; return the tasks that were executed."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session
        from airflow.utils.state import State
        from sqlalchemy import func, select

        unfinished = select(func.count()).select_from(DagRun).where(DagRun.state.in_(State.unfinished_dr_states))
        done, left = self._executor.done, True
        while left:
            with create_session() as session:
                self._runner._do_scheduling(session)
                session.expunge_all()
            self._executor.heartbeat()
            with create_session() as session:
                self._runner._process_executor_events(executor=self._executor, session=session)
                left = bool(session.scalar(unfinished))
        return int(self._executor.done - done)
