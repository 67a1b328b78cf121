"""What runs the predictors, by ``engine``: what is applied for each, and how many of its servers answer."""

from collections.abc import Callable, Sequence

from modelway.endpoints.base import Predictor
from modelway.endpoints.kubernetes import kserve, kubedl, waiting
from modelway.endpoints.kubernetes.desired import Desired
from modelway.endpoints.kubernetes.predictors import AUTOSCALER, DEPLOYMENT, autoscaler, budget, deployment, service
from modelway.platforms.kubernetes.api import Manifest, Object
from modelway.platforms.kubernetes.objects import Kind, Objects

#: the pods of a predictor
Pods = Callable[[], Sequence[Object]]
#: what an engine has besides Services and budgets
KINDS: dict[str, list[Kind]] = {
    "plain": [DEPLOYMENT, AUTOSCALER],
    "kubedl": [kubedl.INFERENCE],
    "kserve": [kserve.INFERENCE_SERVICE],
}


def predictor_manifests(desired: Desired, predictor: Predictor) -> list[Manifest]:
    """Return the objects of a predictor: first what runs it, where the engine does not have one for all."""
    found = [service(desired, predictor), budget(desired, predictor)]
    if desired.own.engine == "kubedl":
        return [kubedl.inference(desired, predictor), *found]
    if desired.own.engine == "kserve":
        return found
    scaled = predictor.autoscaling is not None and not desired.stopped
    return [deployment(desired, predictor), *found, *([autoscaler(desired, predictor)] if scaled else [])]


def running(objects: Objects, desired: Desired, predictor: Predictor) -> Object | None:
    """Return the object that runs a predictor."""
    if desired.own.engine == "kubedl":
        name = kubedl.inference(desired, predictor)["metadata"]["name"]
        return objects.find(kubedl.INFERENCE, desired.namespace, name)
    if desired.own.engine == "kserve":
        return objects.find(kserve.INFERENCE_SERVICE, desired.namespace, desired.spec.name)
    return objects.find(DEPLOYMENT, desired.namespace, desired.name_of(predictor))


def is_available(found: Object | None, desired: Desired, predictor: Predictor, pods: Pods) -> bool:
    """Whether all servers of a predictor are as desired and answer.

    :param found: see :func:`running`
    :param pods: see :func:`answering`
    """
    if desired.own.engine == "plain":
        return found is not None and waiting.is_rolled_out(found)
    return answering(found, desired, predictor, pods) >= predictor.replicas


def answering(found: Object | None, desired: Desired, predictor: Predictor, pods: Pods) -> int:
    """Return how many servers of a predictor answer, as what runs it reports.

    :param pods: returns its pods, where that does not say enough
    """
    if desired.own.engine == "kubedl":
        return kubedl.answering(found, predictor)
    if desired.own.engine == "kserve":
        return kserve.answering(found, desired, predictor, pods())
    return waiting.ready_replicas(found)
