"""Images on all nodes before any traffic moves: a pod per node that really uses them, with the predictors' own login.

An image volume that no container mounts is never pulled, and what was pulled with a login is not free for a pod without
it: so the pods mount what predictors mount, and have the same Secrets. They are removed when all nodes have the images.
"""

import time
from collections.abc import Sequence
from typing import Any

from modelway.endpoints.base import Predictor
from modelway.endpoints.kubernetes import naming, waiting
from modelway.endpoints.kubernetes.cluster import ClusterObjects
from modelway.endpoints.kubernetes.desired import Desired
from modelway.endpoints.kubernetes.pods import IMAGE_ROOT, locked_down
from modelway.endpoints.kubernetes.predictors import DAEMON_SET
from modelway.errors import EndpointNotReady
from modelway.platforms.kubernetes.api import Manifest, Object

_PART = "prepull"
#: seconds after which a node whose kubelet does not report on its pod is left out
_SILENT = 60.0
#: seconds after which no node is there that predictors may run on: one that comes pulls by itself
_NOBODY = 10.0
_PAUSE = 0.5
#: the image is what counts: whether a program of this name is in it does not matter
_COMMAND = ["sleep", "3600"]


def prepull_manifest(desired: Desired, predictors: Sequence[Predictor]) -> Manifest:
    """Return the DaemonSet that uses the images of these predictors."""
    own = desired.own
    containers: list[Manifest] = []
    volumes: list[Manifest] = []
    for number, predictor in enumerate(predictors):
        container: Manifest = {
            "name": f"image-{number}",
            "image": predictor.image if desired.mounts[predictor.name] == "none" else desired.server_image,
            "imagePullPolicy": "IfNotPresent",
            "command": list(_COMMAND),
            "securityContext": locked_down(),
        }
        if desired.mounts[predictor.name] == "foreign":
            container["image"] = predictor.image
        if desired.mounts[predictor.name] == "image":
            container["volumeMounts"] = [{"name": f"model-{number}", "mountPath": IMAGE_ROOT}]
            source = {"reference": predictor.image, "pullPolicy": "IfNotPresent"}
            volumes.append({"name": f"model-{number}", "image": source})
        containers.append(container)
    selector = {naming.ENDPOINT: desired.spec.name, naming.PART: _PART}
    pod: Manifest = {
        "automountServiceAccountToken": False,
        "containers": containers,
        "enableServiceLinks": False,
        "imagePullSecrets": [{"name": name} for name in own.image_pull_secrets],
        "nodeSelector": dict(own.node_selector),
        "runtimeClassName": own.runtime_class,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "serviceAccountName": own.service_account,
        "terminationGracePeriodSeconds": 0,
        "tolerations": [dict(each) for each in own.tolerations],
        "volumes": volumes,
    }
    pod = {key: value for key, value in pod.items() if value is not None and value not in ({}, [])}
    labels = {**naming.endpoint_labels(desired.spec.name, deployment=desired.deployment), **selector}
    return {
        **desired.metadata(DAEMON_SET, naming.predictor_object(desired.spec.name, _PART), part=_PART),
        "spec": {
            "selector": {"matchLabels": selector},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def prepull(cluster: ClusterObjects, predictors: Sequence[Predictor], *, timeout: float) -> None:
    """Wait until all nodes that predictors may run on have their images; nothing is left of it.

    :raises EndpointNotReady: a node cannot pull one, or does not in time
    """
    if not predictors:
        return
    manifest = prepull_manifest(cluster.desired, predictors)
    cluster.refuse_foreign([manifest])
    # One that a killed change left has other images.
    cluster.objects.delete(manifest)
    cluster.wait_gone(timeout=timeout, part=_PART)
    cluster.objects.apply(manifest)
    try:
        _wait(cluster, manifest, predictors, end=time.monotonic() + timeout)
    finally:
        cluster.objects.delete(manifest)


def _wait(cluster: ClusterObjects, manifest: Manifest, predictors: Sequence[Predictor], *, end: float) -> None:
    began = time.monotonic()
    images = [each.image for each in predictors]
    while True:
        found = cluster.objects.find(DAEMON_SET, cluster.desired.namespace, manifest["metadata"]["name"])
        pods = cluster.pods(part=_PART)
        late = [pod for pod in pods if not _has_images(pod)]
        if time.monotonic() - began > _SILENT and len(late) < len(pods):
            late = [pod for pod in late if (pod.get("status") or {}).get("containerStatuses")]
        if found is not None and _is_scheduled(found, pods) and not late:
            return
        if found is not None and time.monotonic() - began > _NOBODY and _has_no_node(found):
            return
        for pod in late:
            why = next((why for image in images if (why := waiting.waits_for(pod, model_image=image))), None)
            if why and (why[0] in waiting.HOPELESS or time.monotonic() - began > cluster.patience):
                raise _refusal(cluster, pod, why[1])
        if time.monotonic() > end:
            raise _refusal(cluster, late[0] if late else {}, "it is not there in time")
        cluster.renew()
        time.sleep(_PAUSE)


def _is_scheduled(found: Object, pods: Sequence[Object]) -> bool:
    """Whether all nodes have their pod: at its birth a DaemonSet wants none."""
    return _is_current(found) and 0 < _wanted(found) <= len(pods)


def _has_no_node(found: Object) -> bool:
    return _is_current(found) and _wanted(found) == 0


def _is_current(found: Object) -> bool:
    return int((found.get("status") or {}).get("observedGeneration") or 0) >= int(found["metadata"]["generation"])


def _wanted(found: Object) -> int:
    return int((found.get("status") or {}).get("desiredNumberScheduled") or 0)


def _has_images(pod: Object) -> bool:
    """Whether a node has what a pod's containers are made of: they ran, or their images are known by their digests."""
    states: list[dict[str, Any]] = (pod.get("status") or {}).get("containerStatuses") or []
    return len(states) == len(pod["spec"]["containers"]) and all(map(_has_image, states))


def _has_image(container: dict[str, Any]) -> bool:
    state = container.get("state") or {}
    return bool(state.get("running") or state.get("terminated") or container.get("lastState", {}).get("terminated"))


def _refusal(cluster: ClusterObjects, pod: Object, why: str) -> EndpointNotReady:
    node = (pod.get("spec") or {}).get("nodeName") or "a node"
    return EndpointNotReady(
        f"the image cannot be pulled on {node}, {why}",
        where=cluster.where,
        do="Check the image and endpoint.kubernetes.image_pull_secrets; prepull: false leaves this out",
    )
