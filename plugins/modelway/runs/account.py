"""The lineage's record of a failed attempt."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from modelway.errors import ModelwayError
from modelway.failures import Failure, RetryRule

if TYPE_CHECKING:
    from modelway.lineage.records.version import FailureRecord

#: most characters of the cause of a failure that is not a job's
LONGEST_CAUSE = 2000


@dataclass(frozen=True, kw_only=True)
class TaskAttempt:
    """One attempt of a task of a run."""

    dag_id: str
    run_id: str
    key: str
    """the task's key within its run, a mapped one by what it works on where that is known"""
    attempt: int
    max_tries: int
    """further attempts that Airflow makes"""


def failure_record(error: Exception, *, of: TaskAttempt, model: str) -> "FailureRecord":
    """Return the record of an attempt that has just failed.

    :param of: the attempt
    :param model: the model that the task works on
    """
    from modelway.lineage.records.version import FailureRecord

    retryable = not isinstance(error, ModelwayError) or error.retryable
    rule = RetryRule.RETRY if retryable else RetryRule.FAIL
    cause, advice = _cause_and_advice(error)
    failure = _job_failure(error)
    if failure is not None:
        rule = failure.rule if (failure.rule is not RetryRule.FAIL) is retryable else rule
        advice = failure.advice or failure.kind.advice
    return FailureRecord(
        model=model,
        dag_id=of.dag_id,
        run_id=of.run_id,
        key=of.key,
        attempt=of.attempt,
        at=datetime.now(UTC),
        cause=cause,
        advice=advice,
        rule=rule.value,
        tried_again=retryable and of.attempt <= of.max_tries,
        kind=failure.kind.value if failure else None,
        stage=failure.stage if failure else None,
        job=(failure.job or None) if failure else None,
        last_lines=failure.last_lines if failure else (),
    )


def _job_failure(error: Exception) -> Failure | None:
    """Return the failure of the job; an operator that raises another error for a job's has that one as its cause."""
    for one in (error, error.__cause__):
        if isinstance(one, ModelwayError) and one.failure is not None:
            return one.failure
    return None


def _cause_and_advice(error: Exception) -> tuple[str, str]:
    """Return what happened and what to do, separately."""
    if not isinstance(error, ModelwayError):
        return f"{type(error).__name__}: {error}"[:LONGEST_CAUSE], ""
    if error.failure is not None:
        return error.failure.cause, ""
    do = (error.do or "").rstrip(".")
    return str(error).removesuffix(f" {do}.").rstrip(".")[:LONGEST_CAUSE], do
