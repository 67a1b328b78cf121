"""Why a pod on Kubernetes ended or is not there any more, by its own status and by events.

Sources: the Kubernetes documentation, "Disruptions" (the condition DisruptionTarget and its reasons), "Node-pressure
Eviction", "Jobs" (suspending a Job, pod failure policy).
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from modelway.backends.kubernetes.pods import (
    Object,
    condition,
    containers,
    ended,
    failing,
    init_containers,
    is_leaving,
    is_suspended,
    last_line,
    main_name,
    memory_limit,
    moment_of,
    name_of,
)
from modelway.failures import FailureKind

Cause = tuple[FailureKind, str]

_CANNOT_RUN = ("ContainerCannotRun", "StartError", "CreateContainerConfigError", "CreateContainerError")
_DISRUPTIONS = {
    "PreemptionByScheduler": FailureKind.PREEMPTED,
    "PreemptionByKubeScheduler": FailureKind.PREEMPTED,
    "DeletionByTaintManager": FailureKind.NODE_LOST,
    "DeletionByDeviceTaintManager": FailureKind.NODE_LOST,
    "DeletionByPodGC": FailureKind.NODE_LOST,
    "EvictionByEvictionAPI": FailureKind.EVICTED,
    "TerminationByKubelet": FailureKind.EVICTED,
}
#: why a pod that ran is not there any more, by the reasons of its events
_GONE = {
    "Preempted": FailureKind.PREEMPTED,
    "NodeNotReady": FailureKind.NODE_LOST,
    "TaintManagerEviction": FailureKind.NODE_LOST,
    "DeviceTaintManagerEviction": FailureKind.NODE_LOST,
    "Evicted": FailureKind.EVICTED,
}
#: a Job with one of these is over, or its controller ends what is left of it
_ENDING = ("Complete", "Failed", "FailureTarget", "SuccessCriteriaMet")
#: how the kubelet says that a pod, a container or a volume used more disk than its own limit
_OVER_ITS_LIMIT = re.compile(r"\bexceed(s|ed)\b.*\blimit\b")
_DISRUPTED = re.compile(r"Pod (?:\S+/)?(\S+) has condition DisruptionTarget")


def done_by_platform(pod: Object) -> Cause | None:
    """Return how the platform ended a pod, by the pod's status."""
    status = pod.get("status") or {}
    reason, message = status.get("reason") or "", status.get("message") or ""
    text = f"{name_of(pod)}: {message or reason}"
    if reason == "Evicted":
        low = "memory" in message.lower() and not is_over_its_limit(message)
        return (FailureKind.NODE_OUT_OF_MEMORY if low else FailureKind.EVICTED), f"evicted: {text}"
    if reason in ("Preempting", "Preempted"):
        return FailureKind.PREEMPTED, f"preempted: {text}"
    if reason in ("NodeLost", "NodeAffinity"):
        return FailureKind.NODE_LOST, text
    if reason in ("Shutdown", "NodeShutdown", "Terminated"):
        return FailureKind.EVICTED, f"the node was shut down: {text}"
    if reason == "DeadlineExceeded":
        return FailureKind.DEADLINE, text
    if reason.startswith(("UnexpectedAdmissionError", "OutOf")):
        return FailureKind.UNSCHEDULABLE, text
    if (found := condition(pod, "DisruptionTarget")) and found.get("reason") in _DISRUPTIONS:
        return _DISRUPTIONS[found["reason"]], f"{name_of(pod)}: {found.get('message') or found['reason']}"
    if any(ended(container).get("reason") == "OOMKilled" for container in containers(pod)):
        return FailureKind.OUT_OF_MEMORY, f"out of memory: {memory_limit(pod)}"
    return None


def is_over_its_limit(message: str) -> bool:
    """Whether a pod was evicted because it used more disk than its limit: a retry would end the same."""
    return _OVER_ITS_LIMIT.search(message) is not None


def by_exit_status(pod: Object) -> Cause | None:
    """Return how a pod's containers ended: a failed init container first, else the job's own container."""
    for container in init_containers(pod):
        if code := ended(container).get("exitCode"):
            message = last_line(ended(container).get("message")) or f"exit status {code}"
            return FailureKind.INIT, f"the init container '{container['name']}' failed: {message}"
    for container in containers(pod):
        if (found := _by_exit_code(pod, container)) is not None:
            return found
    return None


def _by_exit_code(pod: Object, container: Object) -> Cause | None:
    main = container.get("name") == main_name(pod)
    named = "the job's container" if main else f"the container '{container.get('name')}' beside the job"
    end = ended(container)
    code, message = end.get("exitCode"), last_line(end.get("message"))
    if end.get("reason") in _CANNOT_RUN or (main and code in (2, 126, 127, 128)):
        return FailureKind.INIT, f"the job did not begin: {message or end.get('reason')}"
    if main and code == 124:
        return FailureKind.DEADLINE, "stopped after its timeout"
    if code and code > 128:
        return FailureKind.KILLED, f"{named} was killed by signal {code - 128}"
    if code:
        return FailureKind.BAD_EXIT, f"{named} ended with exit status {code}: {message or 'no word'}"
    return None


def why_gone(jobs: Sequence[Object], events: Sequence[Object], gone: frozenset[str]) -> Cause:
    """Return why a pod that ran is gone, or is being deleted."""
    name = sorted(gone)[0]
    if event := event_of_end(events, gone):
        return _GONE[event["reason"]], f"{name}: {event.get('message') or event['reason']}"
    disrupted = disrupted_pods(jobs) & gone
    if disrupted:
        return FailureKind.EVICTED, f"{sorted(disrupted)[0]} was evicted while it ran"
    return FailureKind.EVICTED, f"{name} was deleted while it ran"


def event_of_end(events: Sequence[Object], gone: frozenset[str]) -> Object | None:
    """Return the event that says why a pod is gone."""
    found = (one for one in events if _of_event(one) in gone)
    return next((one for one in found if one.get("reason") in _GONE), None)


def disrupted_pods(jobs: Sequence[Object]) -> frozenset[str]:
    """Return the disrupted pods that a Job's pod failure policy names as the cause of its failure."""
    messages = [str(found.get("message")) for job in jobs if (found := failing(job))]
    return frozenset(match[1] for text in messages for match in _DISRUPTED.finditer(text))


def killed_pods(pods: Sequence[Object], events: Sequence[Object]) -> frozenset[str]:
    """Return the pods that are not there any more and whose node had to kill their containers.

    For a process that never saw them run. A sidecar is ended at the end of each job.
    """
    there = {name_of(pod) for pod in pods}
    return frozenset(
        _of_event(event)
        for event in events
        if event.get("reason") == "Killing"
        and str(event["involvedObject"].get("fieldPath") or "").startswith("spec.containers")
        and _of_event(event) not in there
    )


def externally_removed(jobs: Sequence[Object], events: Sequence[Object], gone: frozenset[str]) -> frozenset[str]:
    """Return the gone pods that something other than their Job's controller removed.

    The controller itself deletes pods when another one failed or when the Job is suspended.
    """
    deleted = {
        str(event.get("message")).rpartition(" ")[2] for event in events if event.get("reason") == "SuccessfulDelete"
    }
    left = gone - deleted
    if any(map(is_suspended, jobs)):
        return frozenset()
    if moments := [resumed for job in jobs if (resumed := _resumed(job))]:
        # The controller's own events may be forgotten, for a Job that was suspended for hours.
        return left & {_of_event(event) for event in events if (at := _moment(event)) and at > max(moments)}
    return left


def of_suspension(pod: Object, jobs: Sequence[Object]) -> bool:
    """Whether a pod is being deleted because its Job was suspended, now or before it was resumed."""
    if not is_leaving(pod):
        return False
    if any(is_suspended(job) and not failing(job) for job in jobs):
        return True
    grace = timedelta(seconds=float(pod["metadata"].get("deletionGracePeriodSeconds") or 0))
    deleted_at = moment_of(pod["metadata"]["deletionTimestamp"]) - grace
    return any(deleted_at <= resumed for job in jobs if (resumed := _resumed(job)))


def externally_deleted(jobs: Sequence[Object], pods: Sequence[Object]) -> frozenset[str]:
    """Return the pods that are being deleted by somebody else while their own Job continues."""
    over = {job["metadata"]["name"] for job in jobs if any(condition(job, kind) for kind in _ENDING)}
    return frozenset(
        name_of(pod)
        for pod in pods
        if is_leaving(pod)
        and not of_suspension(pod, jobs)
        and not any(owner.get("name") in over for owner in pod["metadata"].get("ownerReferences") or ())
    )


def _resumed(job: Object) -> datetime | None:
    found = condition(job, "Suspended", status="False")
    at = found.get("lastTransitionTime") if found else None
    return moment_of(at) if at else None


def _of_event(event: Object) -> str:
    return str((event.get("involvedObject") or {}).get("name"))


def _moment(event: Object) -> datetime | None:
    at = event.get("lastTimestamp") or event.get("eventTime") or (event.get("metadata") or {}).get("creationTimestamp")
    return moment_of(at) if at else None
