"""The pods of an endpoint on the tests' cluster."""

import json

import pytest

from tests.kubernetes_cluster import kubectl
from tests.pushed_models import docker


def pod_names(place: str, selector: str) -> list[str]:
    """Return the pods that are not leaving."""
    items = json.loads(kubectl("get", "pods", "-n", place, "-l", selector, "-o", "json"))["items"]
    return [f"pod/{one['metadata']['name']}" for one in items if "deletionTimestamp" not in one["metadata"]]


def kill_container(place: str, pod: str) -> None:
    """End all of a pod's container at once, as the kernel does that lacks memory."""
    path = "jsonpath={.status.containerStatuses[0].containerID}"
    runtime, _, container = kubectl("get", pod, "-n", place, "-o", path).partition("://")
    if runtime != "docker":
        pytest.skip(f"the node's containers are not Docker's but {runtime}'s")
    docker("kill", "--signal", "KILL", container)
