"""Where a job stands, by its objects in the forms that Kubernetes gives them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from modelway.backends.base import JobState, JobStatus
from modelway.backends.kubernetes.status import Observed, needs_events, status_of, status_without_objects
from modelway.failures import FailureKind

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
NAME = "mw-digits-train-0123456789-1"


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(
    kind: str, reason: str = "", message: str = "", status: str = "True", seconds: float = 30
) -> dict[str, Any]:
    reported = {"type": kind, "status": status, "reason": reason, "message": message}
    return {**reported, "lastTransitionTime": ago(seconds)}


def job(*conditions: dict[str, Any], name: str = NAME, seconds: float = 60, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "creationTimestamp": ago(seconds)},
        "spec": spec,
        "status": {"conditions": list(conditions)},
    }


def pod(
    phase: str,
    *,
    suffix: str = "x1",
    of: str = NAME,
    seconds: float = 60,
    state: dict[str, Any] | None = None,
    init: dict[str, Any] | None = None,
    conditions: tuple[dict[str, Any], ...] = (),
    deleted: float | None = None,
    **status: Any,
) -> dict[str, Any]:
    metadata = {
        "name": f"{of}-{suffix}",
        "creationTimestamp": ago(seconds),
        "ownerReferences": [{"kind": "Job", "name": of}],
    }
    if deleted is not None:
        metadata["deletionTimestamp"] = ago(deleted)
    containers = [{"name": "job", "state": state}] if state else []
    inits = [{"name": "first", "state": init}] if init else []
    return {
        "metadata": metadata,
        "spec": {"containers": [{"name": "job", "resources": {"limits": {"memory": str(200 << 20)}}}]},
        "status": {
            "phase": phase,
            "startTime": ago(seconds),
            "conditions": list(conditions),
            "containerStatuses": containers,
            "initContainerStatuses": inits,
            **status,
        },
    }


def ended(code: int, reason: str = "Error", message: str | None = None, seconds: float = 30) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": ago(seconds)}}


def waits(reason: str, message: str | None = None) -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


RUNS = {"running": {"startedAt": ago(50)}}


def event(reason: str, message: str, *, of: str = f"{NAME}-x1") -> dict[str, Any]:
    return {"reason": reason, "message": message, "involvedObject": {"name": of}}


def seen(jobs: list[Any] | None = None, pods: list[Any] | None = None, **more: Any) -> JobStatus:
    return status_of(Observed(jobs=[job()] if jobs is None else jobs, pods=pods or [], **more), now=NOW)


def exit_of(kind: str | None = None, **reported: Any) -> dict[str, Any]:
    return {"kind": kind, "reason": None, "seconds": 2.5, "peak_memory_bytes": 1000, "stopped": False, **reported}


def test_a_job_that_is_complete_succeeded() -> None:
    status = seen([job(condition("Complete"))], [pod("Succeeded", state=ended(0))], exits=[exit_of()])
    assert (status.state, status.seconds, status.peak_memory_bytes) == (JobState.SUCCEEDED, 2.5, 1000)


def test_a_pod_that_has_ended_well_still_runs_until_its_job_says_so() -> None:
    assert seen(pods=[pod("Succeeded", state=ended(0))]).state is JobState.RUNNING
    assert seen(pods=[pod("Running", state=RUNS)]).state is JobState.RUNNING


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        (pod("Failed", state=ended(137, "OOMKilled")), FailureKind.OUT_OF_MEMORY, "the limit is 200 MiB"),
        (
            pod(
                "Failed", reason="Evicted", message="The node was low on resource: memory. Container job was using 3Gi"
            ),
            FailureKind.NODE_OUT_OF_MEMORY,
            "low on resource: memory",
        ),
        (
            pod("Failed", reason="Evicted", message="The node was low on resource: ephemeral-storage."),
            FailureKind.EVICTED,
            "ephemeral-storage",
        ),
        (pod("Failed", reason="NodeLost", message="Node n1 is gone"), FailureKind.NODE_LOST, "Node n1"),
        (pod("Failed", reason="Shutdown", message="Node is shutting down"), FailureKind.EVICTED, "shut down"),
        (pod("Failed", reason="Preempting", message="by a critical pod"), FailureKind.PREEMPTED, "critical pod"),
        (pod("Failed", reason="DeadlineExceeded", message="was active too long"), FailureKind.DEADLINE, "too long"),
        (pod("Failed", reason="OutOfcpu", message="Node didn't have enough"), FailureKind.UNSCHEDULABLE, "enough"),
        (
            pod("Failed", conditions=(condition("DisruptionTarget", "PreemptionByScheduler", "preempting for b"),)),
            FailureKind.PREEMPTED,
            "preempting for b",
        ),
        (
            pod("Failed", conditions=(condition("DisruptionTarget", "DeletionByTaintManager", "no toleration"),)),
            FailureKind.NODE_LOST,
            "no toleration",
        ),
        (
            pod("Failed", conditions=(condition("DisruptionTarget", "EvictionByEvictionAPI", "Eviction API"),)),
            FailureKind.EVICTED,
            "Eviction API",
        ),
        (
            pod("Failed", conditions=(condition("DisruptionTarget", "DeletionByDeviceTaintManager", "gpu-0"),)),
            FailureKind.NODE_LOST,
            "gpu-0",
        ),
        (
            pod("Failed", init=ended(1, message="line\nno such table\n")),
            FailureKind.INIT,
            "the init container 'first' failed: no such table",
        ),
        (pod("Failed", state=ended(2, message="bad requirement")), FailureKind.INIT, "bad requirement"),
        (
            pod("Failed", state=ended(128, "ContainerCannotRun", 'exec: "python3": not found')),
            FailureKind.INIT,
            "python3",
        ),
        (pod("Failed", state=ended(124)), FailureKind.DEADLINE, "timeout"),
        (pod("Failed", state=ended(137)), FailureKind.KILLED, "signal 9"),
        (pod("Failed", state=ended(7, message="oh no")), FailureKind.BAD_EXIT, "exit status 7: oh no"),
    ],
)
def test_what_ended_a_pod_is_reported(given: dict[str, Any], kind: FailureKind, words: str) -> None:
    status = seen(pods=[given])
    assert (status.state, status.failure) == (JobState.FAILED, kind), status
    assert status.reason
    assert words in status.reason
    assert seen([job(condition("Failed", "BackoffLimitExceeded"))], [given]).failure is kind


def test_what_the_agent_wrote_says_more_than_the_exit_status() -> None:
    exits = [exit_of("bad_exit", reason="ValueError: no (x.py:3 in train)")]
    status = seen(pods=[pod("Failed", state=ended(1))], exits=exits)
    assert (status.failure, status.reason) == (FailureKind.BAD_EXIT, "ValueError: no (x.py:3 in train)")


def test_what_the_platform_did_says_more_than_the_agent() -> None:
    exits = [exit_of("killed", reason="requested to stop", stopped=True)]
    given = pod("Failed", reason="Evicted", message="The node was low on resource: memory.")
    assert seen(pods=[given], exits=exits).failure is FailureKind.NODE_OUT_OF_MEMORY


def test_an_agent_may_know_better_whether_a_retry_helps() -> None:
    exits = [exit_of("init", reason="pip found no network", retryable=True)]
    status = seen(pods=[pod("Failed", state=ended(2))], exits=exits)
    assert (status.failure, status.retryable) == (FailureKind.INIT, True)


def test_a_job_over_its_deadline_is_reported() -> None:
    assert seen([job(condition("Failed", "DeadlineExceeded"))]).failure is FailureKind.DEADLINE


@pytest.mark.parametrize(
    ("reason", "seconds", "failure"),
    [
        ("ImagePullBackOff", 10, None),
        ("ImagePullBackOff", 70, FailureKind.IMAGE_PULL),
        ("ErrImagePull", 70, FailureKind.IMAGE_PULL),
        ("InvalidImageName", 1, FailureKind.IMAGE_PULL),
        ("ErrImageNeverPull", 1, FailureKind.IMAGE_PULL),
        ("CreateContainerConfigError", 10, None),
        ("CreateContainerConfigError", 70, FailureKind.INIT),
        ("ContainerCreating", 70, None),
    ],
)
def test_a_container_that_waits_in_vain_is_given_up(reason: str, seconds: float, failure: FailureKind | None) -> None:
    status = seen(pods=[pod("Pending", seconds=seconds, state=waits(reason, "so says the kubelet"))])
    assert status.failure is failure
    if failure:
        assert "so says the kubelet" in str(status.reason)
    elif reason != "ContainerCreating":
        assert (status.state, status.waiting) == (JobState.PENDING, "so says the kubelet")


def test_the_schedulers_words_are_reported_and_end_the_job_after_its_time() -> None:
    words = "0/3 nodes are available: 3 Insufficient cpu."
    given = pod("Pending", seconds=100, conditions=(condition("PodScheduled", "Unschedulable", words, "False"),))
    status = seen(pods=[given], start_within_seconds=3600)
    assert (status.state, status.waiting) == (JobState.PENDING, words)
    status = seen(pods=[given], start_within_seconds=60)
    assert (status.failure, status.reason) == (FailureKind.UNSCHEDULABLE, words)


def test_a_volume_that_cannot_be_mounted_is_reported() -> None:
    given = pod("Pending", seconds=90, state=waits("ContainerCreating"))
    mount = event("FailedMount", 'MountVolume.SetUp failed: secret "x" not found')
    status = seen(pods=[given], events=[mount])
    assert status.failure is FailureKind.INIT
    assert 'secret "x" not found' in str(status.reason)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ('Error creating: pods "x" is forbidden: exceeded quota: small, requested: memory=2Gi', FailureKind.QUOTA),
        ('Error creating: pods "x" is forbidden: failed quota: q: must specify memory', FailureKind.QUOTA),
        (
            'Error creating: pods "x" is forbidden: violates PodSecurity "restricted:latest"',
            FailureKind.FORBIDDEN,
        ),
        ('Error creating: pods "x" is forbidden: error looking up service account', FailureKind.FORBIDDEN),
        ('Error creating: Pod "x" is invalid: spec.y: Required value', FailureKind.REFUSED),
    ],
)
def test_pods_that_may_not_be_made_are_reported(message: str, kind: FailureKind) -> None:
    status = seen(events=[event("FailedCreate", message, of=NAME)])
    assert status.failure is kind
    assert status.reason == message.removeprefix("Error creating: ")


def test_a_job_without_pods_waits_for_them_or_for_its_queue() -> None:
    assert seen([job(seconds=1)]).state is JobState.PENDING
    status = seen([job(suspend=True)])
    assert (status.state, status.waiting) == (JobState.PENDING, "it is suspended until its queue admits it")


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("Preempted", FailureKind.PREEMPTED),
        ("TaintManagerEviction", FailureKind.NODE_LOST),
        ("NodeNotReady", FailureKind.NODE_LOST),
        ("Killing", FailureKind.EVICTED),
    ],
)
def test_a_pod_that_is_gone_is_reported_by_its_events(reason: str, kind: FailureKind) -> None:
    another = pod("Pending", suffix="x2", seconds=1)
    status = seen(pods=[another], gone=frozenset({f"{NAME}-x1"}), events=[event(reason, "because")])
    assert (status.state, status.failure) == (JobState.FAILED, kind)


def test_a_pod_that_was_requested_to_leave_still_runs_for_its_grace_time() -> None:
    assert seen(pods=[pod("Running", state=RUNS, deleted=-25)]).state is JobState.RUNNING
    assert seen(pods=[pod("Running", state=RUNS, deleted=20)]).state is JobState.RUNNING
    lost = seen(pods=[pod("Running", state=RUNS, deleted=90)])
    assert (lost.failure, lost.retryable) == (FailureKind.NODE_LOST, True)


def test_the_nodes_of_a_try_may_tell_for_a_moment_why_the_first_one_failed() -> None:
    first = pod("Failed", suffix="0", state=ended(1, seconds=2))
    second = pod("Running", suffix="1", state=RUNS)
    assert seen(pods=[first, second], exits=[exit_of("bad_exit")]).state is JobState.RUNNING
    killed = pod("Failed", suffix="1", state=ended(137, "OOMKilled", seconds=1))
    assert seen(pods=[first, killed], exits=[exit_of("bad_exit")]).failure is FailureKind.OUT_OF_MEMORY
    late = pod("Failed", suffix="0", state=ended(1, seconds=20))
    assert seen(pods=[late, second], exits=[exit_of("bad_exit")]).failure is FailureKind.BAD_EXIT


def test_a_job_that_failed_a_moment_before_its_pod_is_known_to_is_not_judged_yet() -> None:
    failed = job(condition("Failed", "BackoffLimitExceeded", seconds=1))
    assert seen([failed], [pod("Running", state=RUNS)]).state is JobState.RUNNING
    assert seen([failed], [pod("Failed", state=ended(3, seconds=2))]).failure is FailureKind.BAD_EXIT
    late = job(condition("Failed", "BackoffLimitExceeded", seconds=30))
    assert seen([late]).failure is FailureKind.VANISHED


def test_a_pod_that_failed_is_not_judged_before_its_node_says_how() -> None:
    assert seen(pods=[pod("Failed")]).state is JobState.RUNNING
    assert seen([job(condition("Failed", "BackoffLimitExceeded"))], [pod("Failed")]).failure is FailureKind.VANISHED


def test_a_node_that_leaves_because_another_failed_explains_nothing() -> None:
    exits = [exit_of("killed", stopped=True, reason="requested to stop"), exit_of("bad_exit", reason="ValueError: no")]
    pods = [pod("Failed", suffix="0", state=ended(143)), pod("Failed", suffix="1", state=ended(1))]
    status = seen([job(condition("Failed", "BackoffLimitExceeded"))], pods, exits=exits)
    assert (status.failure, status.reason) == (FailureKind.BAD_EXIT, "ValueError: no")


def test_a_node_that_is_sent_away_explains_why_the_other_failed() -> None:
    """The first node lost its connection to the second, which somebody drains: this is no fault of the code."""
    first = pod("Failed", suffix="0", state=ended(1, seconds=20))
    second = pod("Running", suffix="1", of=f"{NAME}-w", state=RUNS, deleted=-5)
    over = job(condition("Failed", "BackoffLimitExceeded", seconds=20))
    jobs, exits = [over, job(name=f"{NAME}-w")], [exit_of("bad_exit", reason="lost node 1")]
    assert seen(jobs, [first, second], exits=exits).state is JobState.RUNNING
    second = pod("Failed", suffix="1", of=f"{NAME}-w", state=ended(137), deleted=-1)
    status = seen(jobs, [first, second], exits=exits)
    assert (status.failure, status.retryable) == (FailureKind.EVICTED, True)


def test_a_pod_that_is_gone_is_not_judged_before_its_events_can_be_there() -> None:
    gone = frozenset({f"{NAME}-x1"})
    assert seen(pods=[], gone=gone, gone_seconds=2.0).state is JobState.PENDING
    reported = seen(pods=[], gone=gone, gone_seconds=2.0, events=[event("Preempted", "by another")])
    assert reported.failure is FailureKind.PREEMPTED
    assert seen(pods=[], gone=gone, gone_seconds=11.0).failure is FailureKind.EVICTED


def test_a_job_whose_objects_are_gone_is_reported_by_what_its_agents_wrote() -> None:
    assert status_without_objects([exit_of()], nodes=1, name=NAME).state is JobState.SUCCEEDED
    assert status_without_objects([exit_of()], nodes=2, name=NAME).failure is FailureKind.VANISHED
    assert status_without_objects([exit_of("bad_exit")], nodes=1, name=NAME).failure is FailureKind.BAD_EXIT
    assert status_without_objects([], nodes=1, name=NAME).failure is FailureKind.VANISHED


def test_events_are_asked_for_only_where_they_tell_something() -> None:
    assert not needs_events([job()], [pod("Running", state=RUNS)], gone=False)
    assert not needs_events([job(condition("Complete"))], [], gone=False)
    assert needs_events([job()], [], gone=False)
    assert needs_events([job()], [pod("Pending")], gone=False)
    assert needs_events([job()], [pod("Running", state=RUNS)], gone=True)


def test_a_node_that_ran_out_of_memory_is_reported_though_the_other_one_is_gone() -> None:
    """The Job's controller deletes the other pods of a Job that failed: this must not pass for an eviction."""
    out = exit_of("out_of_memory", reason="out of memory: 300 MiB")
    over = job(condition("Failed", "BackoffLimitExceeded"))
    first = pod("Failed", suffix="0", state=ended(137))
    gone = frozenset({f"{NAME}-1"})
    for status in (
        seen([over], [first], exits=[out], gone=gone),
        seen([over], [], exits=[out], gone=frozenset({f"{NAME}-0"})),
        seen([job()], [], exits=[out], gone=frozenset({f"{NAME}-0"})),
        seen(pods=[first, pod("Failed", suffix="1", state=ended(137), deleted=5)], exits=[out]),
    ):
        assert (status.failure, status.retryable) == (FailureKind.OUT_OF_MEMORY, False)


def test_a_pod_that_the_controller_deleted_because_another_failed_was_not_evicted() -> None:
    exits = [exit_of("bad_exit", reason="ValueError: no"), exit_of("killed", stopped=True, reason="requested to stop")]
    over = job(condition("Failed", "BackoffLimitExceeded"))
    first, gone = pod("Failed", suffix="0", state=ended(1)), frozenset({f"{NAME}-1"})
    deleted = event("SuccessfulDelete", f"Deleted pod: {NAME}-1", of=NAME)
    assert seen([over], [first], exits=exits, gone=gone, events=[deleted]).failure is FailureKind.BAD_EXIT
    assert seen([over], [first], exits=exits, gone=gone).failure is FailureKind.EVICTED, "somebody else deleted it"
    late = job(condition("Failed", "DeadlineExceeded"))
    assert seen([late], [], gone=gone).failure is FailureKind.DEADLINE


def test_the_controller_that_ends_the_other_pods_sends_nobody_away() -> None:
    """Since 1.31 a Job is Failed only when all its pods are gone; before that it says so with FailureTarget."""
    ending = job(condition("FailureTarget", "BackoffLimitExceeded"))
    first = pod("Failed", suffix="0", state=ended(1))
    exits = [exit_of("bad_exit", reason="ValueError: no")]
    second = pod("Running", suffix="1", state=RUNS, deleted=-15)
    assert seen([ending], [first, second], exits=exits).state is JobState.RUNNING, "it may still write"
    second = pod("Failed", suffix="1", state=ended(137), deleted=-1)
    status = seen([ending], [second, first], exits=exits)
    assert (status.failure, status.reason) == (FailureKind.BAD_EXIT, "ValueError: no")
    assert seen([ending], [second, first]).failure is FailureKind.BAD_EXIT, "the other one's 137 says nothing"
    stuck = pod("Running", suffix="1", state=RUNS, deleted=90)
    assert seen([ending], [first, stuck], exits=exits).failure is FailureKind.BAD_EXIT


def test_a_node_that_runs_does_not_hide_why_the_other_cannot() -> None:
    words = "0/3 nodes are available: 3 Insufficient cpu."
    scheduled = condition("PodScheduled", "Unschedulable", words, "False")
    pods = [pod("Running", suffix="0", state=RUNS), pod("Pending", suffix="1", conditions=(scheduled,))]
    status = seen(pods=pods, start_within_seconds=30)
    assert (status.failure, status.reason) == (FailureKind.UNSCHEDULABLE, words)


def suspension(status: str, seconds: float) -> dict[str, Any]:
    return condition("Suspended", "JobSuspended" if status == "True" else "JobResumed", status=status, seconds=seconds)


def at(given: dict[str, Any], seconds: float) -> dict[str, Any]:
    return {**given, "lastTimestamp": ago(seconds)}


def test_what_a_suspension_did_is_nothing_that_happened_to_the_job() -> None:
    """Its controller deletes the pods and makes others later, when the events of that may be forgotten."""
    first = frozenset({f"{NAME}-x1"})
    left = pod("Failed", state=ended(137), deleted=40, seconds=300)
    for jobs, pods in (
        ([job(suspension("True", 20), suspend=True)], []),
        ([job(suspension("True", 20), suspend=True)], [left]),
        ([job(suspend=True)], []),
    ):
        status = seen(jobs, pods, gone=first)
        assert (status.state, status.waiting) == (JobState.PENDING, "it is suspended until its queue admits it")
    resumed = [job(suspension("False", 20))]
    again = pod("Running", suffix="x2", state=RUNS, seconds=15)
    assert seen(resumed, [again], gone=first).state is JobState.RUNNING
    assert seen(resumed, [left, again]).state is JobState.RUNNING
    killing = {**event("Killing", "Stopping container job"), "reason": "Killing"}
    assert seen(resumed, [again], gone=first, events=[at(killing, 60)]).state is JobState.RUNNING


def test_a_pod_that_is_deleted_after_the_job_was_resumed_was_evicted() -> None:
    second = frozenset({f"{NAME}-x2"})
    killing = at(event("Killing", "Stopping container job", of=f"{NAME}-x2"), 5)
    status = seen([job(suspension("False", 60))], [], gone=second, events=[killing])
    assert (status.failure, status.retryable) == (FailureKind.EVICTED, True)


def test_a_suspended_job_that_fails_has_failed() -> None:
    own = pod("Failed", state=ended(3, message="no"))
    assert seen([job(suspension("True", 5), suspend=True)], [own]).failure is FailureKind.BAD_EXIT


@pytest.mark.parametrize(
    "words",
    [
        "Pod ephemeral local storage usage exceeds the total limit of containers 20971520. ",
        'Container job exceeded its local ephemeral storage limit "20Mi". ',
        'Usage of EmptyDir volume "memory" exceeds the limit "20Mi". ',
    ],
)
def test_a_pod_that_took_more_disk_than_its_limit_is_not_tried_again_unchanged(words: str) -> None:
    status = seen(pods=[pod("Failed", reason="Evicted", message=words)])
    assert (status.failure, status.retryable) == (FailureKind.EVICTED, False)
    gone = frozenset({f"{NAME}-x1"})
    status = seen(pods=[], gone=gone, events=[event("Evicted", words)])
    assert (status.failure, status.retryable) == (FailureKind.EVICTED, False)


def test_what_runs_beside_the_job_does_not_say_how_it_ended() -> None:
    given = pod("Failed", state=ended(7, message="main broke"))
    given["status"]["containerStatuses"].insert(0, {"name": "agent", "state": ended(137)})
    given["spec"]["containers"].append({"name": "agent"})
    status = seen(pods=[given])
    assert (status.failure, status.reason) == (
        FailureKind.BAD_EXIT,
        "the job's container ended with exit status 7: main broke",
    )


def test_a_sidecar_without_an_image_keeps_the_job_from_starting() -> None:
    given = pod("Pending", seconds=70, state=waits("PodInitializing"), init=waits("ImagePullBackOff", "no such image"))
    given["spec"]["initContainers"] = [{"name": "first", "restartPolicy": "Always"}]
    assert seen(pods=[given]).failure is FailureKind.IMAGE_PULL
    given["status"]["initContainerStatuses"][0]["state"] = waits("CrashLoopBackOff", "back-off 10s")
    assert seen(pods=[given]).state is JobState.PENDING


def test_a_job_that_was_deleted_is_not_over_while_its_pod_runs() -> None:
    running = pod("Running", state=RUNS, deleted=-10)
    for status in (
        seen([], [running], exits=[exit_of()]),
        status_without_objects([exit_of()], nodes=1, name=NAME, pods=[running], now=NOW),
    ):
        assert status.state is JobState.RUNNING
    assert seen([], [pod("Failed", state=ended(137), deleted=-1)]).failure is FailureKind.VANISHED
    assert seen([], [pod("Running", state=RUNS, deleted=90)]).failure is FailureKind.NODE_LOST
