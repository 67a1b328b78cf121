"""Engine ``kserve``: one InferenceService, whose predictor is the stable one and whose ``canary`` are the others.

Source: KServe's API reference from 0.20, and its validation: fixed numbers of pods, no more of a canary than of the
predictor, percentages that add up to 100 at most. Its controller makes the pods and the route, and sends nothing to a
canary that is not ready.
"""

from collections.abc import Mapping, Sequence

from modelway.endpoints.base import Predictor
from modelway.endpoints.kubernetes.cluster import is_of
from modelway.endpoints.kubernetes.controller_routing import ControllerRouting
from modelway.endpoints.kubernetes.desired import Desired
from modelway.endpoints.kubernetes.pods import pod_labels, pod_spec
from modelway.endpoints.kubernetes.record import Record
from modelway.endpoints.kubernetes.waiting import is_ready
from modelway.endpoints.shares import percentages
from modelway.platforms.kubernetes.api import Manifest, Object
from modelway.platforms.kubernetes.objects import Kind

INFERENCE_SERVICE = Kind("serving.kserve.io/v1beta1", "InferenceService")
#: as KServe calls the container of the model server
_CONTAINER = "kserve-container"


def main_predictor(desired: Desired) -> Predictor:
    """Return the predictor that is no canary: the stable one, else the one with most requests."""
    predictors = desired.spec.predictors
    named = [each for each in predictors if each.name == desired.spec.stable]
    return named[0] if named else max(predictors, key=lambda each: each.weight)


def inference_service(desired: Desired, weights: Mapping[str, int]) -> Manifest:
    """Return the InferenceService with these weights, by the predictors' names."""
    main = main_predictor(desired)
    percent = percentages({each.name: weights.get(each.name, 0) for each in desired.spec.predictors})
    spec: Manifest = {"predictor": _predictor(desired, main)}
    canaries = [each for each in desired.spec.predictors if each is not main]
    if canaries:
        spec["canary"] = [
            {"predictor": _predictor(desired, each), "trafficPercent": percent[each.name]} for each in canaries
        ]
    manifest = desired.metadata(INFERENCE_SERVICE, desired.spec.name, part="route")
    manifest["metadata"]["annotations"] = {"serving.kserve.io/deploymentMode": "Standard"}
    return {**manifest, "spec": spec}


def _predictor(desired: Desired, predictor: Predictor) -> Manifest:
    return {
        "name": predictor.name,
        "labels": pod_labels(desired, predictor),
        "minReplicas": predictor.replicas,
        "maxReplicas": predictor.replicas,
        **pod_spec(desired, predictor, container=_CONTAINER),
    }


def answering(found: Object | None, desired: Desired, predictor: Predictor, pods: Sequence[Object]) -> int:
    """Return how many servers of a predictor answer: none before its controller reports it as ready.

    What it reports may be of the pods before a change: its observedGeneration is that of a Deployment of KServe's, and
    says nothing of this object. So only pods count that serve the image that is desired.

    :param pods: all of the predictor
    """
    if not _is_reported(found, desired, predictor):
        return 0
    return min(predictor.replicas, sum(is_ready(pod) and is_of(pod, predictor) for pod in pods))


def _is_reported(found: Object | None, desired: Desired, predictor: Predictor) -> bool:
    status = (found or {}).get("status") or {}
    if predictor.name == main_predictor(desired).name:
        return _condition(status, "PredictorReady") == "True"
    return any(one["name"] == predictor.name and one["ready"] for one in status.get("canaryStatuses") or ())


def _condition(status: Mapping[str, object], kind: str) -> str:
    conditions = status.get("conditions")
    found = conditions if isinstance(conditions, list) else []
    return next((str(one.get("status")) for one in found if one.get("type") == kind), "")


class KServeRouting(ControllerRouting):
    """See :class:`modelway.endpoints.kubernetes.routing.Routing`."""

    def manifests(self, record: Record) -> list[Manifest]:
        """Return the InferenceService."""
        if self._desired.stopped:
            return []
        return [inference_service(self._desired, {each.name: each.weight for each in record.spec.predictors})]

    def prepare(self, record: Record, before: Record | None) -> None:
        """Start new predictors without a request: the split stays until they are ready."""
        weights = {each.name: each.weight for each in (before or record).spec.predictors}
        self._cluster.apply(inference_service(self._desired, weights))

    def apply(self, record: Record) -> None:
        """Apply all weights at once, and record the endpoint."""
        if self._desired.stopped:
            self.save(record)
            return
        found = self._cluster.apply(self.manifests(record)[0])
        record.url = self._desired.own.url or str((found.get("status") or {}).get("url") or "")
        self.save(record)

    def _found(self) -> Object | None:
        return self._cluster.objects.find(INFERENCE_SERVICE, self._desired.namespace, self._desired.spec.name)

    def is_ready(self) -> bool:
        """Whether its controller reports it as ready."""
        return _condition((self._found() or {}).get("status") or {}, "Ready") == "True"

    def problem(self) -> str:
        """Return what its controller says of it."""
        found = self._found()
        if found is None:
            return "its InferenceService was deleted"
        conditions = (found.get("status") or {}).get("conditions") or ()
        said = [
            f"{one['type']}: {one['message']}" for one in conditions if one["status"] != "True" and one.get("message")
        ]
        return "; ".join(said) or "no controller reports on its InferenceService"

    def stop(self, record: Record) -> None:
        """Remove the InferenceService; the record brings it back."""
        self._cluster.objects.delete(inference_service(self._desired, {}))
