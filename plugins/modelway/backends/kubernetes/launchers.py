"""An attempt as an object of a controller that must be installed, in place of a Job.

Sources: the API references of JobSet (jobset.x-k8s.io/v1alpha2), Kubeflow Trainer (trainer.kubeflow.org/v1alpha1) and
KubeDL (training.kubedl.io/v1alpha1), whose definitions the tests send these objects to.
"""

from collections.abc import Callable, Mapping
from typing import Any

Manifest = dict[str, Any]
Object = Mapping[str, Any]
#: returns the pod of a node: its container's name and the arguments that the agent gets besides its own
PodOf = Callable[[str, tuple[str, ...]], Manifest]

PORT = 29400
#: the group of pods, as these controllers call it in the names of pods and services
NODE = "node"
#: launcher → (group, version, kind)
KINDS = {
    "jobset": ("jobset.x-k8s.io", "v1alpha2", "JobSet"),
    "trainjob": ("trainer.kubeflow.org", "v1alpha1", "TrainJob"),
    "pytorchjob": ("training.kubedl.io", "v1alpha1", "PyTorchJob"),
    "tfjob": ("training.kubedl.io", "v1alpha1", "TFJob"),
}
#: the kinds that say when an attempt is over
WORK = ("Job", *(kind for _, _, kind in KINDS.values()))
#: their controllers do not support suspension
WITHOUT_QUEUE = ("pytorchjob", "tfjob")
#: their conditions when they are over → a Job's
_CONDITIONS = {"Completed": "Complete", "Complete": "Complete", "Succeeded": "Complete", "Failed": "Failed"}


def custom_kind(launcher: str) -> tuple[str, str, str]:
    """Return group, version and kind of what a launcher creates."""
    return KINDS[launcher]


def as_job(custom: Object) -> Object:
    """Return such an object with its conditions translated to a Job's."""
    status = custom.get("status") or {}
    conditions = [
        {**one, "type": _CONDITIONS.get(one.get("type", ""), one.get("type"))} for one in status.get("conditions") or ()
    ]
    return {**custom, "status": {**status, "conditions": conditions}}


def launched(launcher: str, *, metadata: Manifest, nodes: int, job_spec: Manifest, pod: PodOf) -> list[Manifest]:
    """Return the objects of an attempt, in the order in which they have to be created.

    :param job_spec: the limits of a Job: how long it may take, how long it is kept
    :param pod: returns the pod of a node, with the labels and the specification of a pod template
    """
    group, version, kind = KINDS[launcher]
    named = {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": metadata}
    limits = {key: job_spec[key] for key in ("activeDeadlineSeconds", "ttlSecondsAfterFinished") if key in job_spec}
    if launcher == "jobset":
        return [{**named, "spec": _job_set(metadata["name"], nodes, job_spec, pod)}]
    if launcher == "trainjob":
        return _train_job(named, nodes, job_spec, pod)
    return [
        {**named, "spec": {**limits, "backoffLimit": 0, "cleanPodPolicy": "Running", **_replicas(named, nodes, pod)}}
    ]


def _rendezvous(nodes: int, host: str) -> tuple[str, ...]:
    return ("--nodes", str(nodes), "--rendezvous", f"{host}:{PORT}") if nodes > 1 else ()


def _job_set(name: str, nodes: int, job_spec: Manifest, pod: PodOf) -> Manifest:
    """Return a JobSet of one Indexed Job; the pods find one another by the names that it gives them."""
    limits = {key: value for key, value in job_spec.items() if key not in ("ttlSecondsAfterFinished", "suspend")}
    template = pod("job", _rendezvous(nodes, f"{name}-{NODE}-0-0.{name}"))
    spec: Manifest = {
        "failurePolicy": {"maxRestarts": 0},
        "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
        "replicatedJobs": [
            {
                "name": NODE,
                "replicas": 1,
                "template": {"spec": {**limits, "completionMode": "Indexed", "template": template}},
            }
        ],
        "ttlSecondsAfterFinished": job_spec["ttlSecondsAfterFinished"],
    }
    return {**spec, "suspend": True} if job_spec.get("suspend") else spec


def _train_job(named: Manifest, nodes: int, job_spec: Manifest, pod: PodOf) -> list[Manifest]:
    """Return a TrainJob and its own runtime, which holds the parts of the pod that a TrainJob has no field for."""
    metadata = named["metadata"]
    # The controller finds the container that trains by this name, and the Job by this label.
    template = pod(NODE, _rendezvous(nodes, f"{metadata['name']}-{NODE}-0-0.{metadata['name']}"))
    container = template["spec"]["containers"][0]
    step = {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    runtime = {
        "apiVersion": named["apiVersion"],
        "kind": "TrainingRuntime",
        "metadata": metadata,
        "spec": {
            "mlPolicy": {"numNodes": nodes},
            "template": {
                "spec": {
                    "failurePolicy": {"maxRestarts": 0},
                    "replicatedJobs": [
                        {
                            "name": NODE,
                            "template": {
                                "metadata": {"labels": step},
                                "spec": {"backoffLimit": 0, "template": template},
                            },
                        }
                    ],
                }
            },
        },
    }
    spec: Manifest = {
        "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": metadata["name"]},
        "trainer": {
            "numNodes": nodes,
            **{key: container[key] for key in ("image", "command", "args", "env")},
            "resourcesPerNode": container["resources"],
        },
        **{key: job_spec[key] for key in ("activeDeadlineSeconds", "suspend") if key in job_spec},
    }
    # The TrainJob is refused unless its runtime is there.
    return [runtime, {**named, "spec": spec}]


def _replicas(named: Manifest, nodes: int, pod: PodOf) -> Manifest:
    """Return KubeDL's groups of pods: the first node, which the others find by its service, and the others."""
    first, container, port, key = {
        "PyTorchJob": ("Master", "pytorch", "pytorchjob-port", "pytorchReplicaSpecs"),
        "TFJob": ("Chief", "tensorflow", "tfjob-port", "tfReplicaSpecs"),
    }[named["kind"]]
    several = _rendezvous(nodes, f"{named['metadata']['name']}-{first.lower()}-0")

    def group(count: int, node: str) -> Manifest:
        template = pod(container, (*several, "--node", node))
        template["spec"]["containers"][0]["ports"] = [{"name": port, "containerPort": PORT}]
        return {"replicas": count, "restartPolicy": "Never", "template": template}

    groups = {first: group(1, "0")}
    if nodes > 1:
        groups["Worker"] = group(nodes - 1, "any")
    return {key: groups}
