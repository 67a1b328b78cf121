"""Every kind of failure has a rule and a word of advice, and a spec's rules change the one and not the other."""

import pytest
from modelway.backends.base import Handle, JobState, JobStatus, Options
from modelway.errors import JobFailed, JobLost, SubmitFailed
from modelway.failures import Failure, FailureKind, RetryRule, rule_for
from modelway.runs.failure import LAST_LINES, failure_of, job_error, last_lines, submit_error

HANDLE = Handle(backend="local", name="tiny-1", place="/jobs/tiny", attempt=1)


@pytest.mark.parametrize("kind", FailureKind)
def test_each_kind_has_a_rule_and_one_sentence_of_advice(kind):
    assert kind.rule in (RetryRule.RETRY, RetryRule.FAIL)
    assert kind.advice
    assert "\n" not in kind.advice
    assert not kind.advice.endswith(".")
    assert JobStatus.failed(kind, "why").retryable is (kind.rule is RetryRule.RETRY)


@pytest.mark.parametrize("kind", FailureKind)
def test_the_error_of_a_job_is_retried_by_its_kind_and_says_what_to_do(kind):
    status = JobStatus.failed(kind, "this happened")
    error = job_error(failure_of(status, handle=HANDLE, stage="warmup", rules={}, last=["a", "b"]), handle=HANDLE)
    assert type(error) is (JobLost if kind.rule is RetryRule.RETRY else JobFailed)
    assert str(error) == (
        f"stage 'warmup' failed: this happened. {kind.advice}. "
        "The log ends like this, all of it is in /jobs/tiny:\n  | a\n  | b."
    )
    assert error.failure is not None
    assert (error.failure.kind, error.failure.advice, error.failure.last_lines) == (kind, kind.advice, ("a", "b"))


def test_a_specs_rule_holds_for_its_kind_alone():
    rules = {"deadline": "retry", "preempted": "fail"}
    assert rule_for(FailureKind.DEADLINE, rules) is RetryRule.RETRY
    assert rule_for(FailureKind.PREEMPTED, rules) is RetryRule.FAIL
    assert rule_for(FailureKind.EVICTED, rules) is RetryRule.RETRY


def test_out_of_memory_is_never_retried_unchanged_whatever_the_rules_say():
    assert rule_for(FailureKind.OUT_OF_MEMORY, {"out_of_memory": "retry"}) is RetryRule.FAIL
    assert rule_for(FailureKind.OUT_OF_MEMORY, {"out_of_memory": "more-memory"}) is RetryRule.MORE_MEMORY


def test_a_node_that_ran_out_of_memory_gets_the_job_again_with_more_or_not_at_all():
    status = JobStatus.failed(FailureKind.NODE_OUT_OF_MEMORY, "evicted: The node was low on resource: memory")

    def error(more=lambda: 2**30, **rules):
        return job_error(failure_of(status, handle=HANDLE, stage="train", rules=rules, last=()), more=more)

    assert type(error()) is JobFailed
    assert type(error(node_out_of_memory="more-memory")) is JobLost
    # Without a limit there is nothing to double.
    assert type(error(more=lambda: None, node_out_of_memory="more-memory")) is JobFailed


def test_a_job_that_was_stopped_although_its_task_continues_is_killed_by_the_rules():
    status = JobStatus(state=JobState.CANCELLED, reason="the job was cancelled")
    for rules, rule in (({}, RetryRule.RETRY), ({"killed": "fail"}, RetryRule.FAIL)):
        failure = failure_of(status, handle=HANDLE, stage="warmup", rules=rules, last=())
        assert (failure.kind, failure.rule) == (FailureKind.KILLED, rule)


def test_a_refused_submit_keeps_what_the_api_advised():
    error = submit_error(
        SubmitFailed("no", kind=FailureKind.REFUSED, do="Write a smaller number"), stage="warmup", options=Options()
    )
    assert str(error) == "stage 'warmup' failed: the job could not be submitted: no. Write a smaller number."


def test_of_a_long_log_the_last_lines_are_kept():
    class Backend:
        def logs(self, handle, *, offset=0):
            return ("", offset) if offset == 100 else (f"line {offset}\nmore {offset}\n", offset + 1)

    found = last_lines(Backend(), HANDLE)
    assert len(found) == LAST_LINES
    assert found[-2:] == ("line 99", "more 99")


def test_a_failure_is_plain_data():
    failure = Failure(
        kind=FailureKind.KILLED, cause="c", rule=RetryRule.RETRY, job="j", stage="s", attempt=1, last_lines=("a",)
    )
    assert failure.to_dict()["last_lines"] == ["a"]


def test_a_job_that_knows_that_a_retry_helps_is_retried_unless_the_spec_says_otherwise():
    def rule(kind, rules):
        status = JobStatus.failed(kind, "pip found no network")
        reported = JobStatus.from_dict(status.to_dict() | {"retryable": True})
        return failure_of(reported, handle=HANDLE, stage="warmup", rules=rules, last=()).rule

    assert rule(FailureKind.INIT, {}) is RetryRule.RETRY
    assert rule(FailureKind.INIT, {"init": "fail"}) is RetryRule.FAIL
    assert rule(FailureKind.OUT_OF_MEMORY, {}) is RetryRule.FAIL
