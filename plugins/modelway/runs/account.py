"""The account of a run: failed tries go into the lineage, and what mended them; a task's own outcome stays as it is.

A lineage database that is away hides no failure: the task's log has it all, and says that the record is missing.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Context

from modelway.errors import ModelwayError
from modelway.failures import Failure, RetryRule

#: of a cause that is no job's
_LONGEST = 2000


def record_failure(operator: Any, context: Context, error: Exception) -> None:
    """Write down why this try failed."""
    try:
        _store().record_failure(_record(operator, context, error))
    except Exception as refused:
        why = f"{type(refused).__name__}: {refused}"
        operator.log.warning("the failure is not in the lineage, modelway explain does not show it: %s", why)


def record_success(operator: Any, context: Context) -> None:
    """Note at the tries before, if there were any, that this one succeeded."""
    try:
        attempt = int(context["ti"].try_number)
        if attempt > 1:
            _store().record_resolved(**_place(operator, context), attempt=attempt)
    except Exception as refused:
        operator.log.warning("what mended the failed tries is not in the lineage: %s", refused)


def _store() -> Any:
    from modelway.hooks.lineage import lineage_from_airflow

    return lineage_from_airflow()


def _record(operator: Any, context: Context, error: Exception) -> Any:
    from modelway.lineage.records.version import FailureRecord

    ti = context["ti"]
    retryable = not isinstance(error, ModelwayError) or error.retryable
    rule = RetryRule.RETRY if retryable else RetryRule.FAIL
    told = _told(error)
    if (failure := _job_failure(error)) is not None:
        rule = failure.rule if (failure.rule is not RetryRule.FAIL) is retryable else rule
        told |= {
            "advice": failure.advice or failure.kind.advice,
            "kind": failure.kind.value,
            "stage": failure.stage,
            "job": failure.job or None,
            "last_lines": failure.last_lines,
        }
    return FailureRecord(
        **_place(operator, context),
        **told,
        model=_model(operator, context),
        attempt=int(ti.try_number),
        rule=rule.value,
        tried_again=retryable and int(ti.try_number) <= int(ti.max_tries),
        at=datetime.now(UTC),
    )


def _job_failure(error: Exception) -> Failure | None:
    """Return what is known of the job; an operator that makes another error of a job's keeps that as its cause."""
    for one in (error, error.__cause__):
        if isinstance(one, ModelwayError) and one.failure is not None:
            return one.failure
    return None


def _told(error: Exception) -> dict[str, Any]:
    """Return an error's words, what happened and what to do apart from each other."""
    if not isinstance(error, ModelwayError):
        return {"cause": f"{type(error).__name__}: {error}"[:_LONGEST]}
    if error.failure is not None:
        return {"cause": error.failure.cause}
    do = (error.do or "").rstrip(".")
    return {"cause": str(error).removesuffix(f" {do}.").rstrip(".")[:_LONGEST], "advice": do}


def _place(operator: Any, context: Context) -> dict[str, Any]:
    """Return what names the task among all tasks of all runs, a mapped one by what it works on where that is known."""
    dag_run, ti = context["dag_run"], context["ti"]
    index = ti.map_index
    key = f"{ti.task_id}[{index}]" if index is not None and index >= 0 else str(ti.task_id)
    if hasattr(operator, "job"):
        try:
            key = operator.job(context).key
        except Exception as error:
            operator.log.debug("the task has no job: %s", error)
    return {"dag_id": dag_run.dag_id, "run_id": dag_run.run_id, "key": key}


def _model(operator: Any, context: Context) -> str:
    """Return the model that the task works on; in the DAG of a spec it has the DAG's name."""
    for name in ("code", "version"):
        given = getattr(operator, name, None)
        if isinstance(given, Mapping) and "model" in given:
            return str(given["model"])
    return str(getattr(operator, "model", None) or context["dag_run"].dag_id)
