"""How far the pods of an endpoint are, in the API's own words: ready, late, or broken for good."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from modelway.platforms.kubernetes.api import Object

#: a pod that waits for one of these needs somebody who changes it
HOPELESS = ("InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError")
PULLING = ("ErrImagePull", "ImagePullBackOff", "CreateContainerError", "RunContainerError")
#: exit status of a model server that cannot use its model or a setting
UNUSABLE = 2


def is_leaving(pod: Object) -> bool:
    """Whether a pod is being deleted."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def is_ready(pod: Object) -> bool:
    """Whether a pod answers."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
    return ready and not is_leaving(pod)


def has_ended(pod: Object) -> bool:
    """Whether a pod is being deleted and runs nothing any more: its node may name it for another minute."""
    states = [one.get("state") or {} for one in (pod.get("status") or {}).get("containerStatuses") or ()]
    return is_leaving(pod) and bool(states) and all("terminated" in state for state in states)


def ready_since(pod: Object) -> float:
    """Return when a pod that answers became ready for the last time, in seconds since the epoch."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    moments = (one.get("lastTransitionTime") for one in conditions if one.get("type") == "Ready")
    return max((datetime.fromisoformat(str(each)).timestamp() for each in moments if each), default=0.0)


def is_rolled_out(deployment: Object) -> bool:
    """Whether all pods of a Deployment are those of its template, and available."""
    spec, status = deployment.get("spec") or {}, deployment.get("status") or {}
    wanted = int(spec.get("replicas", 1) or 0)
    counts = [int(status.get(key) or 0) for key in ("updatedReplicas", "replicas", "availableReplicas")]
    return int(status.get("observedGeneration") or 0) >= deployment["metadata"]["generation"] and counts == [wanted] * 3


def ready_replicas(deployment: Object | None) -> int:
    """Return how many pods of a Deployment answer."""
    return int(((deployment or {}).get("status") or {}).get("readyReplicas") or 0)


def restarts(pods: list[Object]) -> int:
    """Return how often containers of these pods were started again."""
    return sum(int(one.get("restartCount") or 0) for pod in pods for one in _states(pod))


def model_error(pod: Object) -> str | None:
    """Return what a model server says that cannot use its model; None where none says so."""
    for container in _states(pod):
        now = container.get("state") or {}
        # One that runs again may use its model by now.
        for state in (now, {} if "running" in now else container.get("lastState") or {}):
            ended = state.get("terminated") or {}
            if ended.get("exitCode") == UNUSABLE:
                return str(ended.get("message") or "").strip()[-1000:] or "it ended with exit status 2"
    return None


def waits_for(pod: Object, *, model_image: str) -> tuple[str, str] | None:
    """Return why a container of a pod does not start: the API's reason, and what it says; None where nothing is wrong.

    The failure of an image volume stands under the container that mounts it, whose own image is fine.
    """
    for container in _states(pod):
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
        if reason in (*HOPELESS, *PULLING, "CrashLoopBackOff"):
            ended = (container.get("lastState") or {}).get("terminated") or {}
            said = str(ended.get("message") or "").strip()[-500:] if reason == "CrashLoopBackOff" else message
            is_volume = container.get("image") != model_image and (model_image in message or "image volume" in message)
            what = "the image volume of the model" if is_volume else f"its container {container.get('name')}"
            return reason, f"{what}: {reason}: {said}"
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return "Unschedulable", f"no node takes its pod: {condition.get('message')}"
    return None


def _states(pod: Object) -> Iterator[Mapping[str, Any]]:
    status = pod.get("status") or {}
    for key in ("initContainerStatuses", "containerStatuses"):
        yield from status.get(key) or ()
