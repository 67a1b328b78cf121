"""A predictor as Kubernetes objects: Deployment, Service, PodDisruptionBudget and HorizontalPodAutoscaler.

Sources: the Kubernetes API reference; policy/v1 exists from 1.21, autoscaling/v1 everywhere.
"""

from modelway.endpoints.base import Predictor
from modelway.endpoints.kubernetes.desired import GRPC_PORT, PORT, Desired
from modelway.endpoints.kubernetes.pods import pod_labels, pod_selector, pod_spec
from modelway.platforms.kubernetes.api import Manifest
from modelway.platforms.kubernetes.objects import Kind
from modelway.platforms.kubernetes.patch import strategic_merge

DEPLOYMENT, SERVICE = Kind("apps/v1", "Deployment"), Kind("v1", "Service")
#: what pulls images before predictors need them
DAEMON_SET = Kind("apps/v1", "DaemonSet")
AUTOSCALER = Kind("autoscaling/v1", "HorizontalPodAutoscaler")
BUDGET_SINCE = (1, 21)


def budget_kind(version: tuple[int, int]) -> Kind:
    """Return the kind of a PodDisruptionBudget on a server of this version."""
    return Kind("policy/v1" if version >= BUDGET_SINCE else "policy/v1beta1", "PodDisruptionBudget")


def deployment(desired: Desired, predictor: Predictor) -> Manifest:
    """Return the Deployment; the number of pods is left to the HorizontalPodAutoscaler where there is one."""
    manifest = desired.metadata(DEPLOYMENT, desired.name_of(predictor), predictor=predictor.name)
    spec: Manifest = {
        "progressDeadlineSeconds": max(60, desired.own.ready_within_seconds),
        "revisionHistoryLimit": 2,
        "selector": {"matchLabels": pod_selector(desired, predictor)},
        # The new pod first: the old one leaves only when the new one is ready.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
        "template": {
            "metadata": {"labels": pod_labels(desired, predictor)},
            "spec": pod_spec(desired, predictor),
        },
    }
    if desired.stopped:
        spec["replicas"] = 0
    elif predictor.autoscaling is None:
        spec["replicas"] = predictor.replicas
    manifest = {**manifest, "spec": spec}
    return strategic_merge(manifest, desired.own.patch) if desired.own.patch else manifest


def service(desired: Desired, predictor: Predictor) -> Manifest:
    """Return the Service that has the predictor's ready pods."""
    manifest = desired.metadata(SERVICE, desired.name_of(predictor), predictor=predictor.name)
    ports = [{"name": "http", "port": PORT, "protocol": "TCP", "targetPort": PORT}]
    if desired.own.grpc:
        # By its name a gateway knows that it must speak HTTP/2.
        grpc: Manifest = {"name": "grpc", "port": GRPC_PORT, "protocol": "TCP", "targetPort": GRPC_PORT}
        ports.append({**grpc, "appProtocol": "kubernetes.io/h2c"})
    return {**manifest, "spec": {"ports": ports, "selector": pod_selector(desired, predictor), "type": "ClusterIP"}}


def budget(desired: Desired, predictor: Predictor) -> Manifest:
    """Return the PodDisruptionBudget: one pod at a time, so that a node can be drained of a lone one, too."""
    manifest = desired.metadata(budget_kind(desired.version), desired.name_of(predictor), predictor=predictor.name)
    return {
        **manifest,
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": pod_selector(desired, predictor)}},
    }


def autoscaler(desired: Desired, predictor: Predictor) -> Manifest:
    """Return the HorizontalPodAutoscaler."""
    scaling = predictor.autoscaling
    assert scaling is not None
    manifest = desired.metadata(AUTOSCALER, desired.name_of(predictor), predictor=predictor.name)
    target = {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.kind, "name": desired.name_of(predictor)}
    return {
        **manifest,
        "spec": {
            "maxReplicas": scaling.maximum,
            "minReplicas": scaling.minimum,
            "scaleTargetRef": target,
            "targetCPUUtilizationPercentage": scaling.cpu_percent,
        },
    }
