"""How a job's failure becomes its task's: the rule that applies, what happened and what to do."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from modelway.backends.base import Backend, Handle, JobState, JobStatus, Options
from modelway.errors import JobFailed, JobLost, ModelwayError, SubmitFailed
from modelway.failures import Failure, FailureKind, RetryRule, rule_for
from modelway.fields.units import format_size

#: how many of the last lines of a failed job its error repeats
LAST_LINES = 20
_NO_LIMIT = "Set resources.memory: without a limit there is nothing to double"


def job_error(
    failure: Failure,
    *,
    handle: Handle | None = None,
    more: Callable[[], int | None] | None = None,
    do: str | None = None,
) -> ModelwayError:
    """Return the error of a job that failed; ``error.failure`` is its description.

    :param more: raises the memory of the next attempt and returns it, None where there is no limit
    :param do: what to do, in place of the kind's own advice
    """
    failure = replace(failure, advice=do or failure.kind.advice)
    if failure.rule is RetryRule.MORE_MEMORY:
        failure = _more_memory(failure, more)
    error = JobFailed if failure.rule is RetryRule.FAIL else JobLost
    place = f", all of it is in {handle.place}" if handle else ""
    lines = "".join(f"\n  | {line}" for line in failure.last_lines)
    do = f"{failure.advice}. The log ends like this{place}:{lines}" if lines else failure.advice
    made = error(f"stage '{failure.stage}' failed: {failure.cause}", do=do)
    made.failure = failure
    return made


def _more_memory(failure: Failure, more: Callable[[], int | None] | None) -> Failure:
    """Raise the memory of the next attempt; without it the task fails, since another attempt would end the same way."""
    try:
        memory_bytes = more() if more else None
    except Exception as error:
        why = f"the memory of the next attempt cannot be stored ({type(error).__name__}: {error})"
        return replace(failure, rule=RetryRule.FAIL, cause=f"{failure.cause}; {why}")
    if memory_bytes is None:
        return replace(failure, rule=RetryRule.FAIL, advice=_NO_LIMIT)
    return replace(
        failure,
        advice=f"The next attempt, if one is left, gets {format_size(memory_bytes)} of memory; "
        "resources.memory can begin with it",
    )


def last_lines(backend: Backend, handle: Handle) -> tuple[str, ...]:
    """Return the last lines that a job printed; a log may be larger than memory."""
    lines: deque[str] = deque(maxlen=LAST_LINES)
    offset = 0
    while True:
        text, after = backend.logs(handle, offset=offset)
        if after == offset:
            return tuple(lines)
        lines.extend(text.splitlines())
        offset = after


def failure_of(
    status: JobStatus, *, handle: Handle, stage: str, rules: Mapping[str, str], last: Sequence[str]
) -> Failure:
    """Return the failure of a job that did not succeed."""
    kind = status.failure or FailureKind.VANISHED
    rule = rule_for(kind, rules)
    if status.retryable and kind not in rules and not kind.is_of_memory and rule is RetryRule.FAIL:
        # The job may know better than the kind says, such as when pip could not reach its index.
        rule = RetryRule.RETRY
    if status.state is JobState.FAILED and not status.retryable and kind.rule is RetryRule.RETRY:
        # Such as a pod that used more disk than its limit: an unchanged attempt would end the same way.
        rule = RetryRule.FAIL
    if status.state is JobState.CANCELLED and status.failure is None:
        # Its follower did not stop it: its run may have been cleared at the moment in which it ended.
        kind, rule = FailureKind.KILLED, rule_for(FailureKind.KILLED, rules)
    return Failure(
        kind=kind,
        cause=status.reason or f"the job ended as {status.state.value}",
        rule=rule,
        job=handle.name,
        stage=stage,
        attempt=handle.attempt,
        last_lines=tuple(last),
    )


def submit_error(error: SubmitFailed, *, stage: str, options: Options) -> ModelwayError:
    """Return the error of a job that could not be submitted, by the spec's rules."""
    failure = Failure(
        kind=error.kind,
        cause=f"the job could not be submitted: {error.what}",
        rule=rule_for(error.kind, options.retry_rules),
        job="",
        stage=stage,
        attempt=0,
    )
    return job_error(failure, do=error.do)
