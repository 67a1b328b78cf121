"""How each attempt of a task ended, recorded in the lineage; the task's own outcome stays as it is.

An unavailable lineage database hides no failure: the task's log has all of it, and says that the record is missing.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context

from modelway.runs.account import TaskAttempt, failure_record

if TYPE_CHECKING:
    from modelway.lineage.store import Lineage


def record_failure(operator: BaseOperator, context: Context, error: Exception) -> None:
    """Record why this attempt failed."""
    try:
        record = failure_record(error, of=_attempt(operator, context), model=_model(operator, context))
        _store().record_failure(record)
    except Exception as refused:
        why = f"{type(refused).__name__}: {refused}"
        operator.log.warning("the failure is not in the lineage, modelway explain does not show it: %s", why)


def record_success(operator: BaseOperator, context: Context) -> None:
    """Record on the earlier attempts, if there were any, that this one succeeded."""
    try:
        if int(context["ti"].try_number) > 1:
            of = _attempt(operator, context)
            _store().record_resolved(dag_id=of.dag_id, run_id=of.run_id, key=of.key, attempt=of.attempt)
    except Exception as refused:
        operator.log.warning("what resolved the failed attempts is not in the lineage: %s", refused)


def _store() -> "Lineage":
    from modelway.hooks.lineage import lineage_from_airflow

    return lineage_from_airflow()


def _attempt(operator: BaseOperator, context: Context) -> TaskAttempt:
    dag_run, ti = context["dag_run"], context["ti"]
    index = ti.map_index
    key = f"{ti.task_id}[{index}]" if index is not None and index >= 0 else str(ti.task_id)
    if hasattr(operator, "job"):
        try:
            key = operator.job(context).key
        except Exception as error:
            operator.log.debug("the task has no job: %s", error)
    return TaskAttempt(
        dag_id=dag_run.dag_id,
        run_id=dag_run.run_id,
        key=key,
        attempt=int(ti.try_number),
        max_tries=int(ti.max_tries),
    )


def _model(operator: BaseOperator, context: Context) -> str:
    """Return the model that the task works on; in the DAG of a spec it has the DAG's name."""
    for name in ("code", "version"):
        message: Any = getattr(operator, name, None)
        if isinstance(message, Mapping) and "model" in message:
            return str(message["model"])
    return str(getattr(operator, "model", None) or context["dag_run"].dag_id)
