"""Engine ``kubedl``: an Inference of KubeDL for each predictor.

One for all of them would need what its controller does not do: it fails at the second predictor, and its route sends
everything to the first. It never changes the Deployment that it made either, so that a changed predictor is another
Inference. The split is that of ``routing``.
"""

import hashlib
import json

from modelway.endpoints.base import Predictor
from modelway.endpoints.kubernetes.desired import Desired
from modelway.endpoints.kubernetes.pods import pod_labels, pod_spec
from modelway.names import slug
from modelway.platforms.kubernetes.api import Manifest, Object
from modelway.platforms.kubernetes.objects import Kind

INFERENCE = Kind("serving.kubedl.io/v1alpha1", "Inference")
#: how KubeDL is to prepare the container: not at all
_FRAMEWORK = "Custom"


def inference(desired: Desired, predictor: Predictor) -> Manifest:
    """Return the Inference of a predictor."""
    template = {
        "metadata": {"labels": pod_labels(desired, predictor)},
        # Its form of a pod is older: what it does not know it would drop.
        "spec": _older(pod_spec(desired, predictor)),
    }
    one = {
        "name": predictor.name,
        "replicas": 0 if desired.stopped else predictor.replicas,
        "template": template,
        "trafficWeight": 100,
    }
    if rows := predictor.batching.get("rows"):
        one["batching"] = {"batchSize": rows}
    text = json.dumps(one, sort_keys=True)
    name = slug(f"{desired.name_of(predictor)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}", limit=40)
    manifest = desired.metadata(INFERENCE, name, predictor=predictor.name)
    return {**manifest, "spec": {"framework": _FRAMEWORK, "predictors": [one]}}


def answering(found: Object | None, predictor: Predictor) -> int:
    """Return how many servers of a predictor its controller reports as ready."""
    for one in ((found or {}).get("status") or {}).get("predictorStatuses") or ():
        if one.get("name") == predictor.name:
            return int(one.get("readyReplicas") or 0)
    return 0


def _older(pod: Manifest) -> Manifest:
    containers = [
        {**one, "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(_seconds(one))]}}}}
        if "sleep" in (one.get("lifecycle") or {}).get("preStop", {})
        else one
        for one in pod["containers"]
    ]
    return {**pod, "containers": containers}


def _seconds(container: Manifest) -> int:
    return int(container["lifecycle"]["preStop"]["sleep"]["seconds"])
