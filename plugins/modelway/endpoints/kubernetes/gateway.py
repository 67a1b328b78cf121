"""The endpoint's own gateway as Kubernetes objects: HAProxy's Deployment, its Service and its disruption budget.

Its configuration and its plan are in the endpoint's record (a ConfigMap). A pod copies them when it starts; while it
runs, both are changed in the pod, so that HAProxy also finds them when only its container restarts.
"""

import hashlib

from modelway.endpoints.gateway.container import FOLDER, PORT, SOCKET, USER
from modelway.endpoints.gateway.haproxy import config, plan
from modelway.endpoints.gateway.routes import Routes
from modelway.endpoints.kubernetes import naming
from modelway.endpoints.kubernetes.desired import Desired
from modelway.endpoints.kubernetes.pods import LEAVE_SECONDS, leave, locked_down
from modelway.endpoints.kubernetes.predictors import DEPLOYMENT, SERVICE, budget_kind
from modelway.platforms.kubernetes.api import Manifest
from modelway.platforms.kubernetes.labels import GROUP

CONTAINER = "haproxy"
CONFIGURATION, PLAN = "haproxy.cfg", "plan.map"
#: of the entry Service
ENTRY_PORT = 80
#: how long requests in progress may take when a pod is to go
_STOP_SECONDS = 10
_MOUNT = "/configuration"


def gateway_files(routes: Routes) -> dict[str, str]:
    """Return the files that HAProxy starts with."""
    return {
        CONFIGURATION: config(
            routes, bind=f"0.0.0.0:{PORT}", socket_file=SOCKET, through_services=True, stop_seconds=_STOP_SECONDS
        ),
        PLAN: "".join(f"{key} {value}\n" for key, value in plan(routes).items()),
    }


def gateway_manifests(desired: Desired, files: dict[str, str]) -> list[Manifest]:
    """Return the objects of the gateway.

    :param files: what it starts with, of which only another form makes new pods
    """
    selector = {naming.ENDPOINT: desired.spec.name, naming.PART: naming.GATEWAY}
    name = naming.gateway_object(desired.spec.name)
    deployment = {
        **desired.metadata(DEPLOYMENT, name, part=naming.GATEWAY),
        "spec": {
            "replicas": 0 if desired.stopped else desired.own.gateway_replicas,
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {
                    "annotations": {f"{GROUP}/form": _form(files)},
                    "labels": {**naming.endpoint_labels(desired.spec.name, deployment=desired.deployment), **selector},
                },
                "spec": _pod(desired, selector),
            },
        },
    }
    service = {
        **desired.metadata(SERVICE, desired.spec.name, part=naming.GATEWAY),
        "spec": {
            "ports": [{"name": "http", "port": ENTRY_PORT, "protocol": "TCP", "targetPort": PORT}],
            "selector": selector,
            "type": "ClusterIP",
        },
    }
    budget = {
        **desired.metadata(budget_kind(desired.version), name, part=naming.GATEWAY),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector}},
    }
    return [deployment, service, budget]


def _form(files: dict[str, str]) -> str:
    """Return what changes only when HAProxy must be started anew: its configuration without the servers' addresses."""
    first = files[CONFIGURATION].split("\n", 1)[0]
    return hashlib.sha256(first.encode()).hexdigest()[:16]


def _pod(desired: Desired, selector: dict[str, str]) -> Manifest:
    own = desired.own
    mounts = [{"name": "gateway", "mountPath": FOLDER}, {"name": "run", "mountPath": str(SOCKET.parent)}]
    copy = {
        "name": "configuration",
        "image": desired.gateway_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["cp", *(f"{_MOUNT}/{name}" for name in (CONFIGURATION, PLAN)), f"{FOLDER}/"],
        "securityContext": locked_down(),
        "volumeMounts": [mounts[0], {"name": "configuration", "mountPath": _MOUNT, "readOnly": True}],
    }
    probe = {"tcpSocket": {"port": PORT}, "timeoutSeconds": 5}
    haproxy = {
        "name": CONTAINER,
        "image": desired.gateway_image,
        "imagePullPolicy": "IfNotPresent",
        "lifecycle": leave(desired),
        "livenessProbe": {**probe, "failureThreshold": 3, "periodSeconds": 10},
        "ports": [{"containerPort": PORT, "name": "http", "protocol": "TCP"}],
        "readinessProbe": {**probe, "failureThreshold": 2, "periodSeconds": 1},
        "securityContext": locked_down(),
        "volumeMounts": mounts,
    }
    record = {"name": naming.record_object(desired.spec.name), "items": [_item(CONFIGURATION), _item(PLAN)]}
    pod: Manifest = {
        "automountServiceAccountToken": False,
        "containers": [haproxy],
        "enableServiceLinks": False,
        "imagePullSecrets": [{"name": name} for name in own.image_pull_secrets],
        "initContainers": [copy],
        "nodeSelector": dict(own.node_selector),
        "securityContext": {
            "fsGroup": USER,
            "runAsNonRoot": True,
            "runAsUser": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": LEAVE_SECONDS + _STOP_SECONDS + 5,
        "tolerations": [dict(each) for each in own.tolerations],
        "topologySpreadConstraints": [
            {
                "labelSelector": {"matchLabels": selector},
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
            }
        ],
        "volumes": [
            {"name": "configuration", "configMap": record},
            {"name": "gateway", "emptyDir": {}},
            {"name": "run", "emptyDir": {}},
        ],
    }
    return {key: value for key, value in pod.items() if value not in ({}, [])}


def _item(name: str) -> dict[str, str]:
    return {"key": name, "path": name}
