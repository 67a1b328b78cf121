"""A job as Kubernetes objects: plain dicts, the same for the same job, options and server version.

Sources: the Kubernetes API reference of Job (batch/v1), Pod and Service; a Job can be suspended from 1.21 (by default
from 1.22), Indexed Jobs are stable from 1.24, pod failure policies on by default from 1.26, ``podReplacementPolicy``
from 1.29.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from modelway import names
from modelway.backends.base import Job, Options
from modelway.backends.folders import object_store
from modelway.backends.kubernetes.launchers import PORT, launched
from modelway.backends.variables import job_variables
from modelway.platforms.deployment import digest
from modelway.platforms.kubernetes.api import Manifest
from modelway.platforms.kubernetes.labels import DEPLOYMENT, GROUP, run_labels
from modelway.platforms.kubernetes.patch import strategic_merge

CONTAINER = "job"
#: where the image job sees the registry's login
_LOGIN = "/modelway-registry"
SUSPEND_SINCE, INDEXED_SINCE, FAILURE_POLICY_SINCE, REPLACEMENT_SINCE = (1, 21), (1, 24), (1, 26), (1, 29)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What names one attempt of a job and says where its folder is."""

    job: Job
    options: Options
    image: str
    run_as: int
    folder: str
    """the job's folder as the container sees it"""
    seen_at: str
    """the attempt's folder as every process of Airflow calls it"""
    attempt: int
    version: tuple[int, int]
    uri: str | None = None
    """where the job's folder is on an object store; then ``folder`` is the container's own"""
    token: str | None = None
    """distinguishes this attempt from one of the same name that another Airflow made"""
    deployment: str | None = None
    """distinguishes this Airflow from another one, also where no storage is seen"""

    @property
    def name(self) -> str:
        """The name of the attempt's objects."""
        return self.job.name(self.attempt)

    @property
    def indexed(self) -> bool:
        """Whether one Indexed Job holds all nodes."""
        return self.options.nodes > 1 and self.version >= INDEXED_SINCE


def labels_of(one: Attempt) -> dict[str, str]:
    """Return the labels of an attempt's objects."""
    return {
        **run_labels(run=one.job.run),
        f"{GROUP}/model": names.slug(one.job.model),
        f"{GROUP}/stage": names.slug(one.job.key),
        f"{GROUP}/try": one.name,
        **({f"{GROUP}/token": one.token} if one.token else {}),
        **({DEPLOYMENT: one.deployment} if one.deployment else {}),
    }


def manifests(one: Attempt) -> list[Manifest]:
    """Return the objects of an attempt; the first one owns the others and is created first."""
    platform = one.options.platform
    if (launcher := platform.get("launcher", "job")) != "job":
        found = _launched(one, launcher)
    elif one.options.nodes == 1:
        found = [_job(one, name=one.name, pods=1, arguments=())]
    elif one.indexed:
        host = f"{one.name}-0.{one.name}"
        arguments = (*_several(one), "--rendezvous", f"{host}:{PORT}")
        found = [_indexed(_job(one, name=one.name, pods=one.options.nodes, arguments=arguments)), _service(one)]
    else:
        arguments = (*_several(one), "--rendezvous", f"node-0.{one.name}:{PORT}")
        first = _job(one, name=one.name, pods=1, arguments=(*arguments, "--node", "0"))
        first["spec"]["template"]["spec"]["hostname"] = "node-0"
        others = _job(one, name=f"{one.name}-w", pods=one.options.nodes - 1, arguments=(*arguments, "--node", "any"))
        found = [first, others, _service(one)]
    if patch := platform.get("patch"):
        # What a patch says is about what runs: it goes to what holds the pods.
        found = [each if each["kind"] in ("Service", "TrainJob") else strategic_merge(each, patch) for each in found]
    return found


def _launched(one: Attempt, launcher: str) -> list[Manifest]:
    # These controllers make longer names of it: of pods, of services, each of at most 63 characters.
    short = f"mw-{names.slug(one.job.model, limit=12)}-{digest(one.name)[:12]}"
    limits = _job(one, name=short, pods=one.options.nodes, arguments=())

    def pod(container: str, arguments: tuple[str, ...]) -> Manifest:
        spec = pod_spec(one, arguments=arguments)
        spec["containers"][0]["name"] = container
        # The controller's service provides the host names.
        spec.pop("subdomain", None)
        return {"metadata": {"labels": labels_of(one)}, "spec": spec}

    spec = {key: value for key, value in limits["spec"].items() if key != "template"}
    return launched(launcher, metadata=limits["metadata"], nodes=one.options.nodes, job_spec=spec, pod=pod)


def _several(one: Attempt) -> tuple[str, ...]:
    return ("--nodes", str(one.options.nodes))


def _metadata(one: Attempt, name: str) -> Manifest:
    notes = {"model": one.job.model, "run": one.job.run, "stage": one.job.stage, "folder": one.seen_at}
    return {
        "name": name,
        "namespace": one.options.platform.get("namespace", "default"),
        "labels": labels_of(one),
        "annotations": {f"{GROUP}/{key}": value for key, value in notes.items()},
    }


def _job(one: Attempt, *, name: str, pods: int, arguments: tuple[str, ...]) -> Manifest:
    platform = one.options.platform
    spec: Manifest = {
        "backoffLimit": 0,
        "completions": pods,
        "parallelism": pods,
        "ttlSecondsAfterFinished": platform.get("keep_seconds", 3600),
        "template": {"metadata": {"labels": labels_of(one)}, "spec": pod_spec(one, arguments=arguments)},
    }
    if one.options.timeout_seconds:
        # The agent enforces the timeout of the job's code; this is for a pod whose agent is gone.
        spec["activeDeadlineSeconds"] = one.options.timeout_seconds + int(platform.get("start_within_seconds", 3600))
    if one.version >= FAILURE_POLICY_SINCE:
        spec["podFailurePolicy"] = {
            "rules": [{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
        }
    if one.version >= REPLACEMENT_SINCE:
        spec["podReplacementPolicy"] = "Failed"
    manifest: Manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": _metadata(one, name), "spec": spec}
    if queue := platform.get("queue"):
        manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = queue
        spec["suspend"] = True
    return manifest


def _indexed(manifest: Manifest) -> Manifest:
    manifest["spec"]["completionMode"] = "Indexed"
    return manifest


def _service(one: Attempt) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(one, one.name),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {f"{GROUP}/try": one.name},
            "ports": [{"name": "rendezvous", "port": PORT}],
        },
    }


def pod_spec(one: Attempt, *, arguments: tuple[str, ...]) -> Manifest:
    """Return the pod of one node."""
    platform, storage = one.options.platform, one.options.storage or {}
    volumes, mounts = _volumes(one)
    node = storage.get("node")
    selector = {**platform.get("node_selector", {}), **({"kubernetes.io/hostname": node["name"]} if node else {})}
    spec: Manifest = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": platform.get("grace_seconds", 30),
        "automountServiceAccountToken": platform.get("service_account") is not None,
        "enableServiceLinks": False,
        "securityContext": _pod_security(one),
        "containers": [_container(one, arguments, mounts)],
        "volumes": volumes,
        "nodeSelector": selector,
        "tolerations": [dict(each) for each in platform.get("tolerations", ())],
        "affinity": platform.get("affinity"),
        "priorityClassName": platform.get("priority_class"),
        "runtimeClassName": platform.get("runtime_class"),
        "serviceAccountName": platform.get("service_account"),
        "imagePullSecrets": [{"name": name} for name in platform.get("image_pull_secrets", ())],
        "subdomain": one.name if one.options.nodes > 1 else None,
    }
    return {key: value for key, value in spec.items() if value is not None and value not in ({}, [])}


def _pod_security(one: Attempt) -> Manifest:
    return {
        "runAsNonRoot": True,
        "runAsUser": one.run_as,
        "runAsGroup": one.run_as,
        "fsGroup": one.run_as,
        # A claim of many files must not be walked through at each start.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _container(one: Attempt, arguments: tuple[str, ...], mounts: list[Manifest]) -> Manifest:
    platform, options = one.options.platform, one.options
    timeout = ("--timeout", str(options.timeout_seconds)) if options.timeout_seconds else ()
    memory = ("--memory", str(options.memory_bytes)) if options.memory_bytes else ()
    processes = ("--processes", str(options.processes_per_node)) if options.processes_per_node > 1 else ()
    flags = [
        *("--attempt", str(one.attempt), "--grace", str(platform.get("grace_seconds", 30))),
        *(*arguments, *processes, *memory, *timeout),
    ]
    command = ["python3", "-m", "modelway.job.agent", one.folder, *flags]
    if one.uri:
        command = object_store.command(uri=one.uri, folder=one.folder, flags=flags)
    return {
        "name": CONTAINER,
        "image": one.image,
        "imagePullPolicy": platform.get("image_pull_policy", "IfNotPresent"),
        "command": command[:3],
        "args": command[3:],
        "env": _environment(one),
        "resources": _resources(options),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
        # Not the job's folder: Python would search for modules where it is started.
        "workingDir": "/tmp",
    }


def _environment(one: Attempt) -> list[Manifest]:
    own = {
        "HOME": "/tmp",
        "MODELWAY_IMAGE": one.image,
        "PYTHONPATH": f"{one.folder}/runner",
        **job_variables(one.job, one.options),
    }
    variables: list[Manifest] = [{"name": name, "value": value} for name, value in own.items()]
    for name, value in one.options.platform.get("env", {}).items():
        variables.append({"name": name, **_value(value)})
    if _push_secret(one):
        variables.append({"name": "REGISTRY_AUTH_FILE", "value": f"{_LOGIN}/.dockerconfigjson"})
    return variables


def _push_secret(one: Attempt) -> str | None:
    """Return the Secret with the login for a registry, which the job that pushes has."""
    return one.options.platform.get("push_secret") if one.job.action == "image" else None


def _value(value: Any) -> Manifest:
    if isinstance(value, str):
        return {"value": value}
    kind, source = (
        ("secretKeyRef", value["secret"]) if value.get("secret") else ("configMapKeyRef", value["config_map"])
    )
    return {"valueFrom": {kind: {"name": source, "key": value["key"]}}}


def _resources(options: Options) -> Manifest:
    amounts: dict[str, str] = {}
    if options.cpu:
        amounts["cpu"] = f"{round(options.cpu * 1000)}m"
    if options.memory_bytes:
        amounts["memory"] = str(options.memory_bytes)
    if options.disk_bytes:
        amounts["ephemeral-storage"] = str(options.disk_bytes)
    if options.gpu:
        amounts[options.gpu_type] = str(options.gpu)
    return {"requests": amounts, "limits": amounts} if amounts else {}


def _volumes(one: Attempt) -> tuple[list[Manifest], list[Manifest]]:
    platform, storage = one.options.platform, one.options.storage or {}
    volumes: list[Manifest] = [{"name": "storage", **storage_source(storage)}, {"name": "tmp", "emptyDir": {}}]
    mounts: list[Manifest] = [*_storage_mounts(one, storage), {"name": "tmp", "mountPath": "/tmp"}]
    if size := platform.get("shared_memory_bytes"):
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(size)}})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    if secret := _push_secret(one):
        volumes.append({"name": "registry-login", "secret": {"secretName": secret}})
        mounts.append({"name": "registry-login", "mountPath": _LOGIN, "readOnly": True})
    for index, (path, source) in enumerate(platform.get("files", {}).items()):
        volumes.append({"name": f"files-{index}", **_files(source)})
        mounts.append({"name": f"files-{index}", "mountPath": path, "readOnly": True})
    for index, volume in enumerate(platform.get("volumes", ())):
        volumes.append({"name": f"volume-{index}", **volume["source"]})
        mount = {"name": f"volume-{index}", "mountPath": volume["path"]}
        mounts.append({**mount, "readOnly": True} if volume.get("read_only") else mount)
    return volumes, mounts


def _storage_mounts(one: Attempt, storage: Mapping[str, Any]) -> list[Manifest]:
    """Return the mounts of the job's own folder, not of the whole storage: it must not see other jobs' folders.

    The worker has made the folders before the pod is created, so that the kubelet does not make one of root's. Inputs
    are read-only: they may be files of the artifact store.
    """
    root = storage.get("path", "/modelway")
    if one.uri:
        return [{"name": "storage", "mountPath": root}]
    inside = PurePosixPath(one.folder).relative_to(root)
    own = {"name": "storage", "mountPath": one.folder, "subPath": str(inside)}
    inputs = {"name": "storage", "mountPath": f"{one.folder}/inputs", "subPath": f"{inside}/inputs", "readOnly": True}
    return [own, inputs]


def _files(source: Mapping[str, Any]) -> Manifest:
    items = {"items": [{"key": source["key"], "path": source["key"]}]} if source.get("key") else {}
    if source.get("secret"):
        return {"secret": {"secretName": source["secret"], **items}}
    return {"configMap": {"name": source["config_map"], **items}}


def storage_source(storage: Mapping[str, Any]) -> Manifest:
    """Return the volume of a spec's ``storage`` section."""
    if node := storage.get("node"):
        return {"hostPath": {"path": node["path"], "type": "Directory"}}
    if nfs := storage.get("nfs"):
        return {"nfs": {"server": nfs["server"], "path": nfs["path"]}}
    if storage.get("uri"):
        return {"emptyDir": {}}
    return {"persistentVolumeClaim": {"claimName": storage["claim"]}}
