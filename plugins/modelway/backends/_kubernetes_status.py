"""Where a job on Kubernetes stands, told from its objects: a pure function, so that recorded objects can be its test.

Sources: the Kubernetes documentation, "Pod Lifecycle" (conditions, container states), "Node-pressure Eviction",
"Disruptions" (the condition DisruptionTarget and its reasons), "Jobs".
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from modelway.backends.base import JobState, JobStatus
from modelway.failures import FailureKind
from modelway.job.ending import decisive

Object = Mapping[str, Any]

#: an image that is not there may be pushed a moment later
IMAGE_SECONDS = 60.0
#: what a pod waits for before its code begins, such as a secret that is made at the same time
INIT_SECONDS = 60.0
CREATE_SECONDS = 5.0
#: a pod that should be gone for so long lies on a node that does not answer
LEAVE_SECONDS = 60.0
#: what the nodes of one try tell of a failure comes in within this time
SETTLE_SECONDS = 10.0
_IMAGE_NEVER = ("InvalidImageName", "ErrImageNeverPull")
_IMAGE_MAYBE = ("ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable")
_INIT_WAITS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff")
_CANNOT_RUN = ("ContainerCannotRun", "StartError", "CreateContainerConfigError", "CreateContainerError")
_DISRUPTIONS = {
    "PreemptionByScheduler": FailureKind.PREEMPTED,
    "PreemptionByKubeScheduler": FailureKind.PREEMPTED,
    "DeletionByTaintManager": FailureKind.NODE_LOST,
    "DeletionByPodGC": FailureKind.NODE_LOST,
    "EvictionByEvictionAPI": FailureKind.EVICTED,
    "TerminationByKubelet": FailureKind.EVICTED,
}
#: why a pod that ran is not there any more, by the reasons of its events
_GONE = {
    "Preempted": FailureKind.PREEMPTED,
    "NodeNotReady": FailureKind.NODE_LOST,
    "TaintManagerEviction": FailureKind.NODE_LOST,
    "Evicted": FailureKind.EVICTED,
}
#: what an agent tells that no pod which leaves can be the cause of
_CERTAIN = ("out_of_memory", "deadline")
#: a Job with one of these is over, or its controller ends what is left of it
_ENDING = ("Complete", "Failed", "FailureTarget", "SuccessCriteriaMet")


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What is known of a try: its Jobs and pods, events where they were asked for, what the agents wrote."""

    jobs: Sequence[Object]
    pods: Sequence[Object]
    events: Sequence[Object] = ()
    exits: Sequence[Object] = ()
    gone: frozenset[str] = field(default_factory=frozenset)
    gone_seconds: float = float("inf")
    """for how long that is known: the event that tells why may come later"""
    """names of pods that ran and are not there any more"""
    start_within_seconds: float = 3600.0


def status_of(seen: Observed, *, now: datetime) -> JobStatus:
    """Return where the job stands."""
    known = _known(seen.exits)
    if seen.jobs and all(_condition(job, "Complete") for job in seen.jobs):
        return JobStatus(state=JobState.SUCCEEDED, **known)
    failed = next((job for job in seen.jobs if _condition(job, "Failed")), None)
    ended = [pod for pod in seen.pods if _phase(pod) == "Failed"]
    if (failed or ended) and not _settling(seen, failed, ended, now):
        return _failed(seen, failed, ended, known)
    if stuck := [pod for pod in seen.pods if is_alive(pod) and _leaving(pod, now) > LEAVE_SECONDS]:
        told = f"{_name(stuck[0])} was told to leave, and its node does not say that it has"
        return JobStatus.failed(FailureKind.NODE_LOST, told, **known)
    if seen.gone and not ended and (seen.gone_seconds >= SETTLE_SECONDS or _telling(seen.events, seen.gone)):
        return _certain(seen.exits, known) or JobStatus.failed(*_why_gone(seen.events, seen.gone), **known)
    return _going_on(seen, now, known)


def status_without_objects(exits: Sequence[Object], *, nodes: int, name: str) -> JobStatus:
    """Return where a job stands whose objects are gone, such as one that ended long ago: by what its agents wrote."""
    known = _known(exits)
    if len(exits) == nodes and not any(exit.get("kind") for exit in exits):
        return JobStatus(state=JobState.SUCCEEDED, **known)
    if told := _by_agents(exits, known):
        return told
    return JobStatus.failed(FailureKind.VANISHED, f"the Job {name} is not there any more", **known)


def is_active(job: Object) -> bool:
    """Whether a Job is not over."""
    return not (_condition(job, "Complete") or _condition(job, "Failed"))


def is_alive(pod: Object) -> bool:
    """Whether a pod may run something, now or later."""
    return _phase(pod) in ("Pending", "Running", "Unknown")


def has_running_container(pod: Object) -> bool:
    """Whether something of a pod runs, as far as its node told; none is started any more in a pod that is deleted."""
    return any("running" in (one.get("state") or {}) for one in _containers(pod))


def _settling(seen: Observed, job: Object | None, ended: Sequence[Object], now: datetime) -> bool:
    """Whether more may be known in a moment.

    The Job is told of by another watch than its pods; and where a node fails, the others lose their connection to it.
    """
    if seen.pods and not any(is_alive(pod) for pod in seen.pods):
        return False
    states = [container.get("state") or {} for pod in ended for container in _containers(pod)]
    times = [state["terminated"].get("finishedAt") for state in states if "terminated" in state]
    failed = _condition(job, "Failed") or {}
    if failed.get("reason") != "DeadlineExceeded":
        times.append(failed.get("lastTransitionTime"))
    return any(_since(one, now) < SETTLE_SECONDS for one in times if one)


def _leaving(pod: Object, now: datetime) -> float:
    """Return for how many seconds a pod should have been gone."""
    asked = pod["metadata"].get("deletionTimestamp")
    return _since(asked, now) if asked else 0.0


def _known(exits: Sequence[Object]) -> dict[str, Any]:
    peaks = [exit["peak_memory_bytes"] for exit in exits if exit.get("peak_memory_bytes")]
    seconds = [exit["seconds"] for exit in exits if exit.get("seconds") is not None]
    return {
        "peak_memory_bytes": max(peaks) if peaks else None,
        "seconds": max(seconds) if seconds else None,
    }


def _failed(seen: Observed, job: Object | None, ended: Sequence[Object], known: dict[str, Any]) -> JobStatus:
    """Return how it failed: what the platform did comes first, then what the agents tell, then the exit status."""
    for pod in ended:
        if (told := _done_by_platform(pod)) is not None:
            return JobStatus.failed(*told, **known)
    if certain := _certain(seen.exits, known):
        return certain
    if job and (condition := _condition(job, "Failed")) and condition.get("reason") == "DeadlineExceeded":
        return JobStatus.failed(
            FailureKind.DEADLINE, "stopped: it was over its timeout by all that it may wait", **known
        )
    if taken := _taken(seen) | _sent_away(seen):
        return JobStatus.failed(*_why_gone(seen.events, taken), **known)
    if told_by_agents := _by_agents(seen.exits, known):
        return told_by_agents
    for pod in ended:
        if (told := _by_exit_status(pod)) is not None:
            return JobStatus.failed(*told, **known)
    message = (_condition(job, "Failed") or {}).get("message") if job else None
    return JobStatus.failed(FailureKind.VANISHED, f"the job failed: {message or 'its pods are gone'}", **known)


def _by_agents(exits: Sequence[Object], known: dict[str, Any]) -> JobStatus | None:
    # A node that was told to leave because another one failed explains nothing.
    exit = decisive([one for one in exits if one.get("kind") and not one.get("stopped")]) or decisive(exits)
    if not exit or not exit.get("kind"):
        return None
    status = JobStatus.failed(FailureKind(exit["kind"]), str(exit.get("reason") or "it ended without a word"), **known)
    if exit.get("retryable") is None:
        return status
    return replace(status, retryable=bool(exit["retryable"]))


def _certain(exits: Sequence[Object], known: dict[str, Any]) -> JobStatus | None:
    """Return what an agent knows whatever became of the pods: a try that ran out of memory was not evicted."""
    return _by_agents([one for one in exits if one.get("kind") in _CERTAIN], known)


def _taken(seen: Observed) -> frozenset[str]:
    """Return the pods that are gone, without those that the Job's own controller deleted when another one failed."""
    deleted = [str(event.get("message")) for event in seen.events if event.get("reason") == "SuccessfulDelete"]
    return seen.gone - {message.rpartition(" ")[2] for message in deleted}


def _sent_away(seen: Observed) -> frozenset[str]:
    """Return the pods that somebody deletes though their own Job goes on."""
    over = {job["metadata"]["name"] for job in seen.jobs if any(_condition(job, kind) for kind in _ENDING)}
    return frozenset(
        _name(pod)
        for pod in seen.pods
        if pod["metadata"].get("deletionTimestamp")
        and not any(owner.get("name") in over for owner in pod["metadata"].get("ownerReferences") or ())
    )


def _done_by_platform(pod: Object) -> tuple[FailureKind, str] | None:
    status = pod.get("status") or {}
    reason, message = status.get("reason") or "", status.get("message") or ""
    told = f"{_name(pod)}: {message or reason}"
    if reason == "Evicted":
        low = "memory" in message.lower()
        return (FailureKind.NODE_OUT_OF_MEMORY if low else FailureKind.EVICTED), f"evicted: {told}"
    if reason in ("Preempting", "Preempted"):
        return FailureKind.PREEMPTED, f"preempted: {told}"
    if reason in ("NodeLost", "NodeAffinity"):
        return FailureKind.NODE_LOST, told
    if reason in ("Shutdown", "NodeShutdown", "Terminated"):
        return FailureKind.EVICTED, f"the node was shut down: {told}"
    if reason == "DeadlineExceeded":
        return FailureKind.DEADLINE, told
    if reason.startswith(("UnexpectedAdmissionError", "OutOf")):
        return FailureKind.UNSCHEDULABLE, told
    if (condition := _condition(pod, "DisruptionTarget")) and condition.get("reason") in _DISRUPTIONS:
        return _DISRUPTIONS[condition["reason"]], f"{_name(pod)}: {condition.get('message') or condition['reason']}"
    for container in _containers(pod):
        if (container.get("state") or {}).get("terminated", {}).get("reason") == "OOMKilled":
            return FailureKind.OUT_OF_MEMORY, f"out of memory: {_limit(pod)}"
    return None


def _by_exit_status(pod: Object) -> tuple[FailureKind, str] | None:
    for container in _containers(pod, "initContainerStatuses"):
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            told = _last_line(ended.get("message")) or f"exit status {ended['exitCode']}"
            return FailureKind.INIT, f"the init container '{container['name']}' failed: {told}"
    for container in _containers(pod):
        ended = (container.get("state") or {}).get("terminated") or {}
        code, message = ended.get("exitCode"), _last_line(ended.get("message"))
        if ended.get("reason") in _CANNOT_RUN or code in (2, 126, 127, 128):
            return FailureKind.INIT, f"the job did not begin: {message or ended.get('reason')}"
        if code == 124:
            return FailureKind.DEADLINE, "stopped after its timeout"
        if code and code > 128:
            return FailureKind.KILLED, f"the job's container was killed by signal {code - 128}"
        if code:
            return FailureKind.BAD_EXIT, f"the job's container ended with exit status {code}: {message or 'no word'}"
    return None


def _why_gone(events: Sequence[Object], gone: frozenset[str]) -> tuple[FailureKind, str]:
    """Return why a pod that ran is not there any more."""
    name = sorted(gone)[0]
    if event := _telling(events, gone):
        return _GONE[event["reason"]], f"{name}: {event.get('message') or event['reason']}"
    return FailureKind.EVICTED, f"{name} was deleted while it ran"


def _telling(events: Sequence[Object], gone: frozenset[str]) -> Object | None:
    """Return the event that tells why a pod is gone."""
    told = (one for one in events if (one.get("involvedObject") or {}).get("name") in gone)
    return next((one for one in told if one.get("reason") in _GONE), None)


def _going_on(seen: Observed, now: datetime, known: dict[str, Any]) -> JobStatus:
    if not seen.pods:
        return _without_pods(seen, now, known)
    if any(_phase(pod) in ("Running", "Succeeded") and not _waits(pod) for pod in seen.pods) and not any(
        _phase(pod) == "Pending" for pod in seen.pods
    ):
        return JobStatus(state=JobState.RUNNING, **known)
    for pod in seen.pods:
        # One that runs waits for nothing, even where another node of the try is not there yet.
        begun = _phase(pod) in ("Running", "Succeeded") and not _waits(pod)
        if not begun and (failed := _hopeless(pod, seen, now)) is not None:
            return JobStatus.failed(*failed, **known)
    waiting = next((told for pod in seen.pods if (told := _why_waiting(pod, seen.events))), None)
    return JobStatus(state=JobState.PENDING, waiting=waiting or "its pod is being started", **known)


def _without_pods(seen: Observed, now: datetime, known: dict[str, Any]) -> JobStatus:
    refused = [event for event in seen.events if event.get("reason") == "FailedCreate"]
    if refused and seen.jobs and _age(seen.jobs[0], now) > CREATE_SECONDS:
        message = str(refused[-1].get("message") or "")
        kind = FailureKind.REFUSED
        if "exceeded quota" in message or "must specify" in message:
            kind = FailureKind.QUOTA
        elif "forbidden" in message or "not found" in message:
            kind = FailureKind.FORBIDDEN
        return JobStatus.failed(kind, message.removeprefix("Error creating: "), **known)
    suspended = any((job.get("spec") or {}).get("suspend") for job in seen.jobs)
    waiting = "it is suspended until its queue admits it" if suspended else "its pod is being created"
    return JobStatus(state=JobState.PENDING, waiting=waiting, **known)


def _hopeless(pod: Object, seen: Observed, now: datetime) -> tuple[FailureKind, str] | None:
    """Return why a pod that waits is given up."""
    waits, age = _waits(pod), _age(pod, now)
    reason, message = waits.get("reason", ""), waits.get("message") or waits.get("reason", "")
    since = _since(_started(pod), now) if _started(pod) else age
    if reason in _IMAGE_NEVER or (reason in _IMAGE_MAYBE and since > IMAGE_SECONDS):
        # The kubelet does not always say which one.
        named = "" if waits["image"] in message else f" {waits['image']}"
        return FailureKind.IMAGE_PULL, f"the image{named} cannot be had: {message}"
    if reason in _INIT_WAITS and since > INIT_SECONDS:
        return FailureKind.INIT, message
    mount = _event(seen.events, pod, "FailedMount", "FailedAttachVolume")
    if mount and since > INIT_SECONDS and _phase(pod) == "Pending":
        return FailureKind.INIT, str(mount.get("message"))
    if age > seen.start_within_seconds:
        scheduled = _condition(pod, "PodScheduled", status="False")
        if scheduled:
            return FailureKind.UNSCHEDULABLE, str(scheduled.get("message") or scheduled.get("reason"))
        return FailureKind.INIT, message or "its container did not start in time"
    return None


def _why_waiting(pod: Object, events: Sequence[Object]) -> str | None:
    if condition := _condition(pod, "PodScheduled", status="False"):
        return str(condition.get("message") or condition.get("reason"))
    if mount := _event(events, pod, "FailedMount", "FailedAttachVolume"):
        return str(mount.get("message"))
    waits = _waits(pod)
    return str(waits.get("message") or waits.get("reason")) if waits else None


def image_digest(pods: Sequence[Object]) -> str | None:
    """Return by which digest the image of a try's containers is known to its registry, else to the node."""
    for pod in pods:
        # A node tells of containers in an order of its own, and some beside the job's may be there.
        main = next((one["name"] for one in (pod.get("spec") or {}).get("containers") or ()), None)
        for container in _containers(pod):
            if container.get("name") == main and (
                found := re.search("sha256:[0-9a-f]{64}$", container.get("imageID") or "")
            ):
                return found[0]
    return None


def needs_events(jobs: Sequence[Object], pods: Sequence[Object], *, gone: bool) -> bool:
    """Whether events may tell what the objects do not: why there is no pod, or why one is gone or waits."""
    if any(_condition(job, "Complete") for job in jobs):
        return False
    return gone or not pods or any(_phase(pod) == "Pending" for pod in pods)


def _event(events: Sequence[Object], pod: Object, *reasons: str) -> Object | None:
    found = [
        event
        for event in events
        if event.get("reason") in reasons and (event.get("involvedObject") or {}).get("name") == _name(pod)
    ]
    return found[-1] if found else None


def _condition(found: Object | None, kind: str, *, status: str = "True") -> Object | None:
    conditions = ((found or {}).get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind and one.get("status") == status), None)


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def _name(pod: Object) -> str:
    return str(pod["metadata"]["name"])


def _containers(pod: Object, key: str = "containerStatuses") -> Sequence[Object]:
    return (pod.get("status") or {}).get(key) or ()


def _waits(pod: Object) -> Object:
    statuses = [*_containers(pod, "initContainerStatuses"), *_containers(pod)]
    waits = [
        {"image": one.get("image", ""), **found}
        for one in statuses
        if (found := (one.get("state") or {}).get("waiting"))
    ]
    return next((one for one in waits if one.get("reason") not in ("ContainerCreating", "PodInitializing")), {})


def _started(pod: Object) -> Any:
    return (pod.get("status") or {}).get("startTime")


def _age(found: Object, now: datetime) -> float:
    created = found["metadata"].get("creationTimestamp")
    return _since(created, now) if created else 0.0


def _since(moment: Any, now: datetime) -> float:
    begun = moment if isinstance(moment, datetime) else datetime.fromisoformat(str(moment).replace("Z", "+00:00"))
    return (now - begun.astimezone(UTC)).total_seconds()


def _limit(pod: Object) -> str:
    for container in (pod.get("spec") or {}).get("containers") or ():
        limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
        if limit:
            shown = f"{int(limit) / 2**20:.0f} MiB" if str(limit).isdigit() else str(limit)
            return f"the kernel killed its container, the limit is {shown}"
    return "the kernel killed its container"


def _last_line(text: Any) -> str | None:
    lines = [line.strip() for line in str(text or "").splitlines() if line.strip()]
    return lines[-1][:500] if lines else None
