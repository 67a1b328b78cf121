"""The status of a job on Kubernetes from its objects: a pure function, so that recorded objects can be its test.

Sources: the Kubernetes documentation, "Pod Lifecycle" (conditions, container states), "Jobs" (terminal conditions:
from 1.31 a Job says FailureTarget or SuccessCriteriaMet until all its pods have ended).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from modelway.backends.base import JobState, JobStatus
from modelway.backends.folders.exit_status import reported_status
from modelway.backends.kubernetes.causes import (
    by_exit_status,
    disrupted_pods,
    done_by_platform,
    event_of_end,
    externally_deleted,
    externally_removed,
    is_over_its_limit,
    killed_pods,
    of_suspension,
    why_gone,
)
from modelway.backends.kubernetes.pods import (
    age,
    condition,
    containers,
    ended,
    event_of,
    failing,
    is_alive,
    is_leaving,
    is_suspended,
    late_seconds,
    name_of,
    phase,
    since,
    waits,
)
from modelway.failures import FailureKind
from modelway.job.agent.exit_report import decisive

Object = Mapping[str, Any]

#: a missing image may be pushed a moment later
IMAGE_SECONDS = 60.0
#: things that a pod waits for before its code starts, such as a secret that is created at the same time
INIT_SECONDS = 60.0
CREATE_SECONDS = 5.0
#: a pod that should be gone for so long is on a node that does not answer
LEAVE_SECONDS = 60.0
#: reports of a failure from the nodes of one attempt arrive within this time
SETTLE_SECONDS = 10.0
_IMAGE_NEVER = ("InvalidImageName", "ErrImageNeverPull")
_IMAGE_MAYBE = ("ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable")
_INIT_WAITS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff")
#: failures reported by an agent that a deleted pod cannot have caused
_CERTAIN = ("out_of_memory", "deadline")
SUSPENDED = "it is suspended until its queue admits it"


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What is known of an attempt: its Jobs and pods, events where they were requested, what the agents wrote."""

    jobs: Sequence[Object]
    pods: Sequence[Object]
    events: Sequence[Object] = ()
    exits: Sequence[Object] = ()
    gone: frozenset[str] = field(default_factory=frozenset)
    """names of pods that ran and are not there any more"""
    gone_seconds: float = float("inf")
    """for how long that is known: the event that says why may come later"""
    start_within_seconds: float = 3600.0
    nodes: int = 1
    name: str = ""
    """the attempt's name, for the case that its Job is gone"""


def status_of(seen: Observed, *, now: datetime) -> JobStatus:
    """Return the job's status."""
    if not seen.jobs:
        return status_without_objects(seen.exits, nodes=seen.nodes, name=seen.name, pods=seen.pods, now=now)
    known = _known(seen.exits)
    if all(condition(job, "Complete") for job in seen.jobs):
        return JobStatus(state=JobState.SUCCEEDED, **known)
    if any(condition(job, "SuccessCriteriaMet") for job in seen.jobs):
        return JobStatus(state=JobState.RUNNING, **known)
    failed = next((job for job in seen.jobs if failing(job)), None)
    over = [pod for pod in seen.pods if phase(pod) == "Failed" and (failed or not of_suspension(pod, seen.jobs))]
    if failed or over:
        # The controller's doing, such as the end of the other pods, explains nothing.
        over.sort(key=is_leaving)
        if not _settling(seen, failed, over, now):
            return _failed(seen, failed, over, known)
        if failed:
            return JobStatus(state=JobState.RUNNING, **known)
    if any(map(is_suspended, seen.jobs)):
        return _suspended(seen, known)
    if stuck := [pod for pod in seen.pods if _is_stuck(pod, now)]:
        return JobStatus.failed(FailureKind.NODE_LOST, _lost(stuck[0]), **known)
    gone = externally_removed(seen.jobs, seen.events, seen.gone)
    if gone and not over and (seen.gone_seconds >= SETTLE_SECONDS or event_of_end(seen.events, gone)):
        return _certain(seen.exits, known) or _status(*why_gone(seen.jobs, seen.events, gone), known)
    return _while_running(seen, now, known)


def status_without_objects(
    exits: Sequence[Object], *, nodes: int, name: str, pods: Sequence[Object] = (), now: datetime | None = None
) -> JobStatus:
    """Return the status of a job whose Job is gone, such as one that ended long ago: by what its agents wrote.

    :param pods: what is left of its pods: one that still runs writes, and a next attempt would be a second writer
    """
    known = _known(exits)
    moment = now or datetime.now(UTC)
    if alive := [pod for pod in pods if is_alive(pod)]:
        if all(_is_stuck(pod, moment) for pod in alive):
            return JobStatus.failed(FailureKind.NODE_LOST, _lost(alive[0]), **known)
        return JobStatus(state=JobState.RUNNING, waiting="its Job was deleted, and its pod still runs", **known)
    if len(exits) == nodes and not any(exit.get("kind") for exit in exits):
        return JobStatus(state=JobState.SUCCEEDED, **known)
    if by_agents := _by_agents(exits, known):
        return by_agents
    named = f"the Job {name}" if name else "its Job"
    return JobStatus.failed(FailureKind.VANISHED, f"{named} is not there any more", **known)


def is_active(job: Object) -> bool:
    """Whether a Job is not over."""
    return not (condition(job, "Complete") or condition(job, "Failed"))


def needs_events(jobs: Sequence[Object], pods: Sequence[Object], *, gone: bool) -> bool:
    """Whether events may say what the objects do not: why there is no pod, or why one is gone or waits."""
    if any(condition(job, "Complete") for job in jobs):
        return False
    return gone or not pods or any(phase(pod) == "Pending" for pod in pods)


def _settling(seen: Observed, job: Object | None, over: Sequence[Object], now: datetime) -> bool:
    """Whether something of it still runs, or more may be known in a moment.

    The Job and its pods come from different watches; and where a node fails, the others lose their connection to it.
    """
    alive = [pod for pod in seen.pods if is_alive(pod)]
    if any(is_leaving(pod) and not _is_stuck(pod, now) for pod in alive):
        return True
    if seen.pods and not alive:
        # A node may report that a pod failed a moment before it reports how.
        return not (job or seen.exits or any(done_by_platform(pod) or by_exit_status(pod) for pod in over))
    failed = failing(job) or {}
    if not alive and (failed.get("reason") == "DeadlineExceeded" or _pods_removed(seen)):
        return False
    times = [ended(container).get("finishedAt") for pod in over for container in containers(pod)]
    return any(since(one, now) < SETTLE_SECONDS for one in (*times, failed.get("lastTransitionTime")) if one)


def _is_stuck(pod: Object, now: datetime) -> bool:
    return is_alive(pod) and late_seconds(pod, now) > LEAVE_SECONDS


def _lost(pod: Object) -> str:
    return f"{name_of(pod)} is being deleted, and its node does not confirm that it has ended"


def _known(exits: Sequence[Object]) -> dict[str, Any]:
    peaks = [exit["peak_memory_bytes"] for exit in exits if exit.get("peak_memory_bytes")]
    seconds = [exit["seconds"] for exit in exits if exit.get("seconds") is not None]
    return {
        "peak_memory_bytes": max(peaks) if peaks else None,
        "seconds": max(seconds) if seconds else None,
    }


def _status(kind: FailureKind, reason: str, known: Mapping[str, Any]) -> JobStatus:
    status = JobStatus.failed(kind, reason, **known)
    # As with memory: a retry would exceed the same limit again.
    return replace(status, retryable=status.retryable and not is_over_its_limit(reason))


def _failed(seen: Observed, job: Object | None, over: Sequence[Object], known: dict[str, Any]) -> JobStatus:
    """Return how it failed: what the platform did comes first, then the agents' reports, then the exit status."""
    for pod in over:
        if (by_platform := done_by_platform(pod)) is not None:
            return _status(*by_platform, known)
    if certain := _certain(seen.exits, known):
        return certain
    if (failing(job) or {}).get("reason") == "DeadlineExceeded":
        return JobStatus.failed(
            FailureKind.DEADLINE, "stopped: it was over its timeout by all that it may wait", **known
        )
    if gone := _pods_removed(seen) | externally_deleted(seen.jobs, seen.pods):
        return _status(*why_gone(seen.jobs, seen.events, gone), known)
    if by_agents := _by_agents(seen.exits, known):
        return by_agents
    for pod in over:
        if (by_status := by_exit_status(pod)) is not None:
            return JobStatus.failed(*by_status, **known)
    message = (failing(job) or {}).get("message")
    return JobStatus.failed(FailureKind.VANISHED, f"the job failed: {message or 'its pods are gone'}", **known)


def _pods_removed(seen: Observed) -> frozenset[str]:
    """Return the pods that were removed from a Job that failed, as seen by this process or by the platform."""
    gone = seen.gone | killed_pods(seen.pods, seen.events)
    return externally_removed(seen.jobs, seen.events, gone) | disrupted_pods(seen.jobs)


def _by_agents(exits: Sequence[Object], known: dict[str, Any]) -> JobStatus | None:
    # A node that was stopped because another one failed explains nothing.
    exit = decisive([one for one in exits if one.get("kind") and not one.get("stopped")]) or decisive(exits)
    if not exit or not exit.get("kind"):
        return None
    return reported_status(exit, **known)


def _certain(exits: Sequence[Object], known: dict[str, Any]) -> JobStatus | None:
    """Return what an agent knows whatever happened to the pods: an attempt that ran out of memory was not evicted."""
    return _by_agents([one for one in exits if one.get("kind") in _CERTAIN], known)


def _suspended(seen: Observed, known: dict[str, Any]) -> JobStatus:
    """Return the status of a suspended job: its pods are deleted, and it continues with others when it is resumed."""
    if any(phase(pod) in ("Running", "Succeeded") for pod in seen.pods):
        return JobStatus(state=JobState.RUNNING, waiting="it is suspended, and its pod is being deleted", **known)
    return JobStatus(state=JobState.PENDING, waiting=SUSPENDED, **known)


def _while_running(seen: Observed, now: datetime, known: dict[str, Any]) -> JobStatus:
    if not seen.pods:
        return _without_pods(seen, now, known)
    started = [phase(pod) in ("Running", "Succeeded", "Failed") and not waits(pod) for pod in seen.pods]
    if all(started):
        return JobStatus(state=JobState.RUNNING, **known)
    # One that runs waits for nothing, even where another node of the attempt is not there yet.
    for pod in (pod for pod, runs in zip(seen.pods, started, strict=True) if not runs and not is_leaving(pod)):
        if (failed := _hopeless(pod, seen, now)) is not None:
            return JobStatus.failed(*failed, **known)
    waiting = next((why for pod in seen.pods if (why := _why_waiting(pod, seen.events))), None)
    return JobStatus(state=JobState.PENDING, waiting=waiting or "its pod is being started", **known)


def _without_pods(seen: Observed, now: datetime, known: dict[str, Any]) -> JobStatus:
    if any((job.get("status") or {}).get("terminating") for job in seen.jobs):
        return JobStatus(state=JobState.RUNNING, waiting="its pod is being deleted", **known)
    refused = [str(event.get("message") or "") for event in seen.events if event.get("reason") == "FailedCreate"]
    message = refused[-1].removeprefix("Error creating: ") if refused else ""
    if message and age(seen.jobs[0], now) > CREATE_SECONDS:
        return JobStatus.failed(_kind_of_refusal(message), message, **known)
    waiting = "its pod is not there any more" if seen.gone else "its pod is being created"
    return JobStatus(state=JobState.PENDING, waiting=message or waiting, **known)


def _kind_of_refusal(message: str) -> FailureKind:
    if "exceeded quota" in message or "must specify" in message:
        return FailureKind.QUOTA
    return FailureKind.FORBIDDEN if "forbidden" in message or "not found" in message else FailureKind.REFUSED


def _hopeless(pod: Object, seen: Observed, now: datetime) -> tuple[FailureKind, str] | None:
    """Return why a waiting pod will not start; None while it still may."""
    wait = waits(pod)
    reason, message = wait.get("reason", ""), wait.get("message") or wait.get("reason", "")
    started = (pod.get("status") or {}).get("startTime")
    seconds = since(started, now) if started else age(pod, now)
    if reason in _IMAGE_NEVER or (reason in _IMAGE_MAYBE and seconds > IMAGE_SECONDS):
        return FailureKind.IMAGE_PULL, f"the image{_which(pod, wait['image'], message)} cannot be had: {message}"
    if reason in _INIT_WAITS and seconds > INIT_SECONDS:
        return FailureKind.INIT, message
    mount = event_of(seen.events, pod, "FailedMount", "FailedAttachVolume")
    if mount and seconds > INIT_SECONDS and phase(pod) == "Pending":
        return FailureKind.INIT, str(mount.get("message"))
    if age(pod, now) > seen.start_within_seconds:
        if scheduled := condition(pod, "PodScheduled", status="False"):
            return FailureKind.UNSCHEDULABLE, str(scheduled.get("message") or scheduled.get("reason"))
        return FailureKind.INIT, message or "its container did not start in time"
    return None


def _which(pod: Object, image: str, message: str) -> str:
    """Return the name of a container's image where the kubelet does not say which one, and it can be no other."""
    volumes = any("image" in volume for volume in (pod.get("spec") or {}).get("volumes") or ())
    return "" if volumes or image in message else f" {image}"


def _why_waiting(pod: Object, events: Sequence[Object]) -> str | None:
    if found := condition(pod, "PodScheduled", status="False"):
        return str(found.get("message") or found.get("reason"))
    if mount := event_of(events, pod, "FailedMount", "FailedAttachVolume"):
        return str(mount.get("message"))
    wait = waits(pod)
    return str(wait.get("message") or wait.get("reason")) if wait else None
