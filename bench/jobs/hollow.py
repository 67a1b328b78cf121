"""Nodes without machines: pods on them count as running, so that a cluster of one small node can hold many jobs.

``python bench/jobs/hollow.py NAMESPACE PREFIX COUNT STORAGE`` registers COUNT nodes called PREFIX-0, …, reports to the
API server every few seconds that they are ready, sets every pod on them to running, and adds a line to each job's log
at each round, as an agent would. When the file STORAGE/end appears, it sets the pods to succeeded. It ends with its
standard input, and takes the nodes away.
"""

import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config

ROUND_SECONDS = 5.0
LABEL = "modelway.dev/bench"
PODS = "110"


def now() -> str:
    """Return the time as the API server writes it."""
    return datetime.now(UTC).isoformat()


def node(name: str) -> dict[str, Any]:
    """Return a node that only pods of the bench go to."""
    room = {"cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": PODS}
    ready = {"type": "Ready", "status": "True", "reason": "Bench", "lastHeartbeatTime": now()}
    return {
        "metadata": {"name": name, "labels": {LABEL: "yes", "kubernetes.io/hostname": name}},
        "spec": {"taints": [{"key": LABEL, "value": "yes", "effect": "NoSchedule"}]},
        "status": {"capacity": room, "allocatable": room, "conditions": [ready]},
    }


def beat(core: client.CoreV1Api, name: str) -> None:
    """Report that the node is ready."""
    ready = {"type": "Ready", "status": "True", "reason": "Bench", "lastHeartbeatTime": now()}
    core.patch_node_status(name, {"status": {"conditions": [ready]}})


def container(state: dict[str, Any], image: str) -> dict[str, Any]:
    """Return what a kubelet reports of a container."""
    running = "running" in state
    status = {"name": "job", "image": image, "imageID": "", "restartCount": 0, "ready": running, "state": state}
    return {**status, "started": running}


def run_pod(core: client.CoreV1Api, pod: Any) -> None:
    """Report that a pod runs."""
    image = pod.spec.containers[0].image
    status = {
        "phase": "Running",
        "startTime": now(),
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [container({"running": {"startedAt": now()}}, image)],
    }
    core.patch_namespaced_pod_status(pod.metadata.name, pod.metadata.namespace, {"status": status})


def end_pod(core: client.CoreV1Api, pod: Any) -> None:
    """Report that a pod has succeeded."""
    image = pod.spec.containers[0].image
    ended = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now(), "finishedAt": now()}}
    status = {"phase": "Succeeded", "containerStatuses": [container(ended, image)]}
    core.patch_namespaced_pod_status(pod.metadata.name, pod.metadata.namespace, {"status": status})


def look(core: client.CoreV1Api, namespace: str, names: set[str], *, ending: bool) -> None:
    """Bring every pod on the nodes one step further."""
    for pod in core.list_namespaced_pod(namespace).items:
        if pod.spec.node_name not in names:
            continue
        if pod.metadata.deletion_timestamp is not None:
            core.delete_namespaced_pod(pod.metadata.name, namespace, grace_period_seconds=0)
        elif pod.status.phase == "Pending":
            run_pod(core, pod)
        elif pod.status.phase == "Running" and ending:
            end_pod(core, pod)


def write_logs(storage: Path) -> None:
    """Add a line to the log of every job."""
    for attempt in storage.glob("jobs/*/*/*/g*/try-*"):
        with (attempt / "log-0.txt").open("a") as log:
            log.write(f"{now()} loss 0.25\n")


def main(namespace: str, prefix: str, count: int, storage: Path) -> None:
    """Play the nodes until the standard input ends."""
    config.load_kube_config()
    core = client.CoreV1Api()
    names = {f"{prefix}-{number}" for number in range(count)}
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    try:
        for name in sorted(names):
            core.create_node(node(name))
        while not over.is_set():
            began = time.monotonic()
            ending = (storage / "end").exists()
            try:
                for name in names:
                    beat(core, name)
                look(core, namespace, names, ending=ending)
            except (client.ApiException, urllib3.exceptions.HTTPError) as error:
                print(f"the API server does not answer: {error}", file=sys.stderr)
            if not ending:
                write_logs(storage)
            over.wait(max(0.0, (1.0 if ending else ROUND_SECONDS) - (time.monotonic() - began)))
    finally:
        for name in names:
            core.delete_node(name)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
