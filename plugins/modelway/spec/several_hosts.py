"""What a spec chooses that does not fit the executor of its deployment, where tasks run on several hosts."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from modelway import ports
from modelway.errors import CapabilityMissing
from modelway.fields.refusal import KeyPath, Refusal
from modelway.folders import airflow_option
from modelway.platforms.processes.hosts import SHARED_HOME, has_several_hosts, has_shared_home

#: the queue of the worker on whose host the endpoints of targets such as ``local`` are, where there are several hosts
SERVING_QUEUE = "MODELWAY_SERVING_QUEUE"
_DEFAULT = "local"


def several_hosts(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Refusal]]:
    """Find the choices in a spec's values, valid or not, that the deployment's executor makes doubtful."""
    if not has_several_hosts():
        return
    executor = airflow_option("core", "executor") or ""
    in_pods = "KubernetesExecutor" in executor
    for path, name in _chosen(data, ("train", "backend"), ("evaluate", "backend"), ("image", "backend")):
        if _is_of_host(name, "backends") and (in_pods or not has_shared_home()):
            yield path, _doubtful_backend(name, executor, in_pods=in_pods)
    for path, name in _chosen(data, ("endpoint", "target")):
        if _is_of_host(name, "endpoints") and (in_pods or not os.environ.get(SERVING_QUEUE)):
            yield path, _doubtful_target(name, executor, in_pods=in_pods)


def _doubtful_backend(name: str, executor: str, *, in_pods: bool) -> Refusal:
    if in_pods:
        return Refusal(
            f"under {executor} a job of '{name}' is in the pod of its task, and ends with it",
            do="Choose the backend kubernetes",
        )
    return Refusal(
        f"under {executor} a job of '{name}' keeps its task in the worker, and a retry on another host begins anew",
        do=f"Choose the backend docker or kubernetes, or give all hosts one home and set {SHARED_HOME}=true",
    )


def _doubtful_target(name: str, executor: str, *, in_pods: bool) -> Refusal:
    if in_pods:
        return Refusal(
            f"under {executor} an endpoint of '{name}' is in the pod of the task that deploys, and ends with it",
            do="Choose the target kubernetes",
        )
    return Refusal(
        f"under {executor} an endpoint of '{name}' is on the host whose worker deploys first, and refused on others",
        do=f"Give that host's worker a queue of its own and name it in {SERVING_QUEUE}, or choose the target docker or "
        "kubernetes",
    )


def _chosen(data: Mapping[str, Any], *paths: tuple[str, str]) -> Iterator[tuple[KeyPath, str]]:
    """Yield what the spec chooses at each path; the default counts where the first of the paths is left out."""
    for number, (section, key) in enumerate(paths):
        values = data.get(section)
        name = values.get(key) if isinstance(values, Mapping) else None
        if isinstance(name, str):
            yield (section, key), name
        elif number == 0:
            yield (section,) if isinstance(values, Mapping) else (), _DEFAULT


def _is_of_host(name: str, port: str) -> bool:
    try:
        return bool(getattr(ports.load(port, name), "of_host", False))
    except CapabilityMissing:
        return False
