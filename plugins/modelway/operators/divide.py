"""Divide checkpoints among evaluation jobs."""

import statistics
from collections.abc import Sequence
from typing import Any, ClassVar

from airflow.sdk import Context
from airflow.sdk.configuration import conf

from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.base import ModelwayOperator
from modelway.runs.batches import AUTO, Cost, divided
from modelway.runs.messages.checkpoints import checkpoints_from_xcom, to_xcom
from modelway.runs.messages.code import CodePackage
from modelway.runs.messages.message import Xcom

#: the user who triggers the runs of Airflow's ``dag.test()``
DAG_TEST = "dag_test"


class DivideCheckpointsOperator(ModelwayOperator):
    """Divide checkpoints among as many evaluation jobs as are worth starting.

    A job imports its libraries once for all of its checkpoints. The time to start a job and
    to evaluate a checkpoint is read from the model's last version; for a first version there are ``parallel`` jobs.
    ``modelway run`` and ``dag.test()`` run one task at a time, so there a first version has one. There are never more
    than Airflow maps over, ``[core] max_map_length``.

    :param code: what PackageCodeOperator returned, or PlanRunOperator
    :param checkpoints: what TrainModelOperator returned
    :param parallel: how many jobs run at the same time
    :param per_job: how many checkpoints one job evaluates: a number, or ``auto``

    Returns ``[[{id, stage, step, uri, digest, size}]]``; expand an EvaluateCheckpointOperator over it. Where there are
    no checkpoints it is one empty batch.
    """

    template_fields: Sequence[str] = ("code", "checkpoints", "parallel", "per_job")
    accepts: ClassVar[Checks] = {
        "code": checks.CODE,
        "checkpoints": checks.CHECKPOINTS,
        "parallel": checks.PARALLEL,
        "per_job": checks.PER_JOB,
    }

    def __init__(
        self, *, code: Any, checkpoints: Any, parallel: int = 4, per_job: int | str = AUTO, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.code = code
        self.checkpoints = checkpoints
        self.parallel = parallel
        self.per_job = per_job
        self.check_arguments()

    def run(self, context: Context) -> list[list[Xcom]]:
        """Divide the checkpoints among jobs."""
        cost = self._measured() if self.per_job == AUTO else None
        # Airflow does not map over a longer list, which would fail this task when training is done.
        most = conf.getint("core", "max_map_length")
        checkpoints = checkpoints_from_xcom(self.checkpoints)
        parallel = 1 if _runs_one_task_at_a_time(context) else self.parallel
        batches = divided(checkpoints, parallel=parallel, per_job=self.per_job, cost=cost, most=most)
        known = (
            f"a job takes {cost.startup_seconds:.1f} s to start and {cost.evaluation_seconds:.1f} s for each"
            if cost
            else "the time they take is not known"
        )
        self.log.info(
            "%d checkpoints in %d jobs of up to %d: %s",
            len(checkpoints),
            len(batches),
            max(map(len, batches), default=0),
            known if self.per_job == AUTO else "as evaluate.per_job has it",
        )
        if len(batches) == most < len(checkpoints):
            self.log.warning("there are no more than %d jobs, by Airflow's [core] max_map_length", most)
        # Airflow skips what is expanded over nothing, and with it the task that is to say why there is nothing.
        return [to_xcom(batch) for batch in batches or [[]]]

    def _measured(self) -> Cost | None:
        """Return the cost of the evaluations of the model's last version, None where it is not known."""
        from modelway.hooks.lineage import lineage_from_airflow

        try:
            store = lineage_from_airflow(self.settings.lineage_url)
            model = CodePackage.from_xcom(self.code).model
            evaluations = store.version(model, store.find(model, "latest")).evaluations
        except Exception as error:  # only a hint: the checkpoints are divided without it, too
            self.log.info("the time that evaluations take is not known from an earlier version: %s", error)
            return None
        seconds = [each.seconds for each in evaluations if each.seconds is not None]
        startups = [each.startup_seconds for each in evaluations if each.startup_seconds is not None]
        if not seconds or not startups:
            return None
        return Cost(startup_seconds=statistics.median(startups), evaluation_seconds=statistics.median(seconds))


def _runs_one_task_at_a_time(context: Context) -> bool:
    """Return whether no executor runs this DAG run, but one process, task after task."""
    run = context.get("dag_run")
    return run is not None and run.triggering_user_name == DAG_TEST
