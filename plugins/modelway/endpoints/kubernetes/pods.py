"""The pods of a predictor: the model server, and how the model comes to it."""

import math

from modelway.endpoints.base import Predictor
from modelway.endpoints.kubernetes import naming
from modelway.endpoints.kubernetes.desired import GRPC_PORT, PORT, Desired
from modelway.platforms.kubernetes.api import Manifest

#: the container of the model server
CONTAINER = "server"
#: where the whole image of a model is mounted; a path inside of it cannot be chosen (subPath is ignored for images)
IMAGE_ROOT = "/modelway-image"
_LOGIN = "/modelway-login"
#: seconds in which gateways stop sending requests to a pod that is to go, and those of the server's own drain
LEAVE_SECONDS, GRACE_SECONDS = 5, 40
SLEEP_SINCE = (1, 30)


def pod_labels(desired: Desired, predictor: Predictor) -> dict[str, str]:
    """Return the labels of a predictor's pods."""
    return {
        **naming.endpoint_labels(desired.spec.name, deployment=desired.deployment),
        naming.PREDICTOR: predictor.name,
        naming.VERSION: str(predictor.version),
    }


def pod_selector(desired: Desired, predictor: Predictor) -> dict[str, str]:
    """Return the labels by which a predictor's pods are found; they never change."""
    return {naming.ENDPOINT: desired.spec.name, naming.PREDICTOR: predictor.name}


def pod_spec(desired: Desired, predictor: Predictor, *, container: str = CONTAINER) -> Manifest:
    """Return the pod of one server of a predictor."""
    own, how = desired.own, desired.mounts[predictor.name]
    volumes: list[Manifest] = [{"name": "tmp", "emptyDir": {}}]
    before: list[Manifest] = []
    if how == "image":
        volumes.append({"name": "model", "image": {"reference": predictor.image, "pullPolicy": "IfNotPresent"}})
    if how == "loader":
        volumes.append({"name": "model", "emptyDir": {}})
        before.append(_loader(desired, predictor))
        if own.image_pull_secrets:
            items = [{"key": ".dockerconfigjson", "path": "config.json"}]
            volumes.append({"name": "login", "secret": {"secretName": own.image_pull_secrets[0], "items": items}})
    spec: Manifest = {
        "automountServiceAccountToken": own.service_account is not None,
        "containers": [_container(desired, predictor, container)],
        "enableServiceLinks": False,
        "imagePullSecrets": [{"name": name} for name in own.image_pull_secrets],
        "initContainers": before,
        "nodeSelector": dict(own.node_selector),
        "priorityClassName": own.priority_class,
        "runtimeClassName": own.runtime_class,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "serviceAccountName": own.service_account,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "tolerations": [dict(each) for each in own.tolerations],
        "topologySpreadConstraints": [
            {
                "labelSelector": {"matchLabels": pod_selector(desired, predictor)},
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
            }
        ],
        "volumes": volumes,
    }
    return {key: value for key, value in spec.items() if value is not None and value not in ({}, [])}


def locked_down() -> Manifest:
    """Return the security context of a container that needs no rights."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def leave(desired: Desired) -> Manifest:
    """Return what a pod does first when it is to go: it answers on, until nobody sends it requests any more."""
    if desired.version >= SLEEP_SINCE:
        return {"preStop": {"sleep": {"seconds": LEAVE_SECONDS}}}
    return {"preStop": {"exec": {"command": ["sleep", str(LEAVE_SECONDS)]}}}


def _container(desired: Desired, predictor: Predictor, name: str) -> Manifest:
    how = desired.mounts[predictor.name]
    mounts: list[Manifest] = [{"name": "tmp", "mountPath": "/tmp"}]
    if how == "image":
        mounts.append({"name": "model", "mountPath": IMAGE_ROOT})
    if how == "loader":
        mounts.append({"name": "model", "mountPath": predictor.model_path, "readOnly": True})
    container: Manifest = {
        "name": name,
        "image": predictor.image if how in ("none", "foreign") else desired.server_image,
        "imagePullPolicy": "IfNotPresent",
        "args": [] if how == "foreign" else _arguments(desired, predictor),
        "env": [{"name": key, "value": value} for key, value in _environment(desired, predictor).items()],
        "lifecycle": leave(desired),
        "livenessProbe": {
            "failureThreshold": 6,
            "httpGet": {"path": "/v2/health/live", "port": PORT},
            "initialDelaySeconds": 30,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
        },
        "ports": [{"containerPort": PORT, "name": "http", "protocol": "TCP"}, *_grpc_ports(desired)],
        "readinessProbe": {
            "failureThreshold": 3,
            "httpGet": {"path": "/v2/health/ready", "port": PORT},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
        },
        "resources": resources(predictor),
        "securityContext": locked_down(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    return {key: value for key, value in container.items() if value not in ({}, [])}


def _grpc_ports(desired: Desired) -> list[Manifest]:
    return [{"containerPort": GRPC_PORT, "name": "grpc", "protocol": "TCP"}] if desired.own.grpc else []


def _arguments(desired: Desired, predictor: Predictor) -> list[str]:
    model = ["--model", predictor.model] if predictor.model not in (None, desired.spec.model) else []
    rows, cpu = predictor.batching.get("rows"), predictor.resources.get("cpu")
    threads = ["--threads", str(math.ceil(cpu))] if cpu and cpu > 1 else []
    return [*model, *(["--batch-size", str(rows)] if rows else []), *threads]


def _environment(desired: Desired, predictor: Predictor) -> dict[str, str]:
    root = IMAGE_ROOT if desired.mounts[predictor.name] == "image" else ""
    return {
        "MODELWAY_HOST": "0.0.0.0",
        "MODELWAY_MODEL_DIR": f"{root}{predictor.model_path}",
        "MODELWAY_MODEL_NAME": desired.spec.model,
        "MODELWAY_MODEL_VERSION": str(predictor.version),
        "PORT": str(PORT),
        **({"GRPC_PORT": str(GRPC_PORT)} if desired.own.grpc else {}),
    }


def _loader(desired: Desired, predictor: Predictor) -> Manifest:
    mounts: list[Manifest] = [
        {"name": "model", "mountPath": predictor.model_path},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    environment = []
    if desired.own.image_pull_secrets:
        mounts.append({"name": "login", "mountPath": _LOGIN, "readOnly": True})
        environment.append({"name": "DOCKER_CONFIG", "value": _LOGIN})
    loader: Manifest = {
        "name": "loader",
        "image": desired.server_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-m", "modelway.server.loader"],
        "args": [
            *("--image", predictor.image, "--path", predictor.model_path, "--into", predictor.model_path),
            *(["--insecure"] if desired.own.insecure_registry else []),
        ],
        "env": environment,
        "resources": resources(predictor, gpu=False),
        "securityContext": locked_down(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    return {key: value for key, value in loader.items() if value not in ({}, [])}


def resources(predictor: Predictor, *, gpu: bool = True) -> Manifest:
    """Return what one server gets: requests are limits, so that it is not the first to be evicted."""
    given = predictor.resources
    amounts: dict[str, str] = {}
    if given.get("cpu"):
        amounts["cpu"] = f"{round(given['cpu'] * 1000)}m"
    if given.get("memory_bytes"):
        amounts["memory"] = str(given["memory_bytes"])
    if gpu and given.get("gpu"):
        amounts[given.get("gpu_type") or "nvidia.com/gpu"] = str(given["gpu"])
    return {"limits": amounts, "requests": amounts} if amounts else {}
