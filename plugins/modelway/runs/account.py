"""The account of a run: what the lineage records of an attempt that failed."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from modelway.errors import ModelwayError
from modelway.failures import Failure, RetryRule

if TYPE_CHECKING:
    from modelway.lineage.records.version import FailureRecord

#: characters of a cause that is no job's
LONGEST_CAUSE = 2000


@dataclass(frozen=True, kw_only=True)
class TaskAttempt:
    """One attempt of a task of a run."""

    dag_id: str
    run_id: str
    key: str
    """what names the task within its run, a mapped one by what it works on where that is known"""
    attempt: int
    max_tries: int
    """further attempts that Airflow makes"""


def failure_record(error: Exception, *, of: TaskAttempt, model: str) -> "FailureRecord":
    """Return the record of an attempt that failed now.

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
    """Return what is known of the job; an operator that makes another error of a job's keeps that as its cause."""
    for one in (error, error.__cause__):
        if isinstance(one, ModelwayError) and one.failure is not None:
            return one.failure
    return None


def _cause_and_advice(error: Exception) -> tuple[str, str]:
    """Return what happened and what to do, apart from each other."""
    if not isinstance(error, ModelwayError):
        return f"{type(error).__name__}: {error}"[:LONGEST_CAUSE], ""
    if error.failure is not None:
        return error.failure.cause, ""
    do = (error.do or "").rstrip(".")
    return str(error).removesuffix(f" {do}.").rstrip(".")[:LONGEST_CAUSE], do
