"""What the API says of Jobs and pods, read from plain data: conditions, phases, containers, times."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from modelway.backends.kubernetes.manifests import CONTAINER

Object = Mapping[str, Any]

_STARTS = ("ContainerCreating", "PodInitializing")


def condition(found: Object | None, kind: str, *, status: str = "True") -> Object | None:
    """Return a condition of an object that has this status."""
    conditions = ((found or {}).get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind and one.get("status") == status), None)


def failing(job: Object | None) -> Object | None:
    """Return why a Job failed, or is about to: since 1.31 it is ``Failed`` only when all its pods have ended."""
    return condition(job, "Failed") or condition(job, "FailureTarget")


def is_suspended(job: Object) -> bool:
    """Whether a Job is suspended now, by its specification or by its controller."""
    spec = job.get("spec") or {}
    wanted = spec.get("suspend") or (spec.get("runPolicy") or {}).get("suspend")
    return bool(wanted or condition(job, "Suspended"))


def phase(pod: Object) -> str:
    """Return a pod's phase; a pod that no node has seen is pending."""
    return str((pod.get("status") or {}).get("phase") or "Pending")


def name_of(pod: Object) -> str:
    """Return an object's name."""
    return str(pod["metadata"]["name"])


def is_alive(pod: Object) -> bool:
    """Whether a pod may run something, now or later."""
    return phase(pod) in ("Pending", "Running", "Unknown")


def is_leaving(pod: Object) -> bool:
    """Whether a pod is being deleted; it may run until its grace time is over."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def late_seconds(pod: Object, now: datetime) -> float:
    """Return for how many seconds a pod should have been gone; the API names the end of its grace time."""
    until = pod["metadata"].get("deletionTimestamp")
    return since(until, now) if until else 0.0


def main_name(pod: Object) -> str | None:
    """Return the name of the container that runs the job: others may be put before it or beside it."""
    names = [one["name"] for one in (pod.get("spec") or {}).get("containers") or ()]
    return CONTAINER if CONTAINER in names else next(iter(names), None)


def containers(pod: Object) -> list[Object]:
    """Return the states of a pod's containers, the job's first; a node lists them in an order of its own."""
    found = (pod.get("status") or {}).get("containerStatuses") or ()
    main = main_name(pod)
    return sorted(found, key=lambda one: one.get("name") != main)


def init_containers(pod: Object, *, sidecars: bool = False) -> list[Object]:
    """Return the states of what runs before the job, or of what runs beside it though it is listed there.

    A sidecar is an init container that is always started again: neither its exit nor its pauses are the job's.
    """
    specified = (pod.get("spec") or {}).get("initContainers") or ()
    beside = {one.get("name") for one in specified if one.get("restartPolicy") == "Always"}
    found = (pod.get("status") or {}).get("initContainerStatuses") or ()
    return [one for one in found if (one.get("name") in beside) is sidecars]


def ended(container: Object) -> Object:
    """Return how a container ended; empty while it has not."""
    found: Object = (container.get("state") or {}).get("terminated") or {}
    return found


def waits(pod: Object) -> Object:
    """Return what a pod's container waits for, with its ``image``; empty where the job has started."""
    if any((one.get("state") or {}).keys() & {"running", "terminated"} for one in containers(pod)[:1]):
        return {}
    beside = init_containers(pod, sidecars=True)
    for one in (*init_containers(pod), *containers(pod), *beside):
        found = (one.get("state") or {}).get("waiting")
        # A sidecar that is started again and again is no reason to fail a job that has not started.
        if found and found.get("reason") not in (*_STARTS, *(("CrashLoopBackOff",) if one in beside else ())):
            return {"image": one.get("image", ""), **found}
    return {}


def is_on_node(pod: Object) -> bool:
    """Whether a node has a pod, and may have started more of it than it has reported."""
    return bool((pod.get("spec") or {}).get("nodeName"))


def has_started(pod: Object) -> bool:
    """Whether a pod's container has been started, as far as its node has reported."""
    return any(map(_has_run, containers(pod)))


def _has_run(container: Object) -> bool:
    return bool((container.get("state") or {}).keys() & {"running", "terminated"})


def cannot_start(pod: Object) -> bool:
    """Whether a pod is being deleted that never ran anything, since its image or what it mounts is missing."""
    every = (*init_containers(pod), *init_containers(pod, sidecars=True), *containers(pod))
    began = any(_has_run(one) or one.get("lastState") for one in every)
    return is_leaving(pod) and bool(waits(pod)) and not began


def may_run(pod: Object) -> bool:
    """Whether something of a pod that was deleted may run."""
    found = containers(pod)
    return not is_leaving(pod) or (is_on_node(pod) and is_alive(pod) and not (bool(found) and all(map(ended, found))))


def image_digest(pods: Sequence[Object]) -> str | None:
    """Return by which digest the image of an attempt's containers is known to its registry, else to the node."""
    for pod in pods:
        for container in containers(pod)[:1]:
            if container.get("name") == main_name(pod) and (
                found := re.search("sha256:[0-9a-f]{64}$", container.get("imageID") or "")
            ):
                return found[0]
    return None


def memory_limit(pod: Object) -> str:
    """Return what the kernel did to a container, with its limit."""
    for container in (pod.get("spec") or {}).get("containers") or ():
        limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
        if limit:
            shown = f"{int(limit) / 2**20:.0f} MiB" if str(limit).isdigit() else str(limit)
            return f"the kernel killed its container, the limit is {shown}"
    return "the kernel killed its container"


def event_of(events: Sequence[Object], pod: Object, *reasons: str) -> Object | None:
    """Return the newest event of a pod that has one of these reasons."""
    return next(
        (
            event
            for event in reversed(events)
            if event.get("reason") in reasons and (event.get("involvedObject") or {}).get("name") == name_of(pod)
        ),
        None,
    )


def age(found: Object, now: datetime) -> float:
    """Return for how many seconds an object is there."""
    created = found["metadata"].get("creationTimestamp")
    return since(created, now) if created else 0.0


def since(moment: Any, now: datetime) -> float:
    """Return the seconds from a moment, as the API writes it, to now."""
    return (now - moment_of(moment)).total_seconds()


def moment_of(moment: Any) -> datetime:
    """Return a moment as the API writes it."""
    parsed = moment if isinstance(moment, datetime) else datetime.fromisoformat(str(moment).replace("Z", "+00:00"))
    return parsed.astimezone(UTC)


def last_line(text: Any) -> str | None:
    """Return the last line of a container's termination message."""
    lines = [line.strip() for line in str(text or "").splitlines() if line.strip()]
    return lines[-1][:500] if lines else None
