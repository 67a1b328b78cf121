"""Where the jobs of the kill matrix run: on this machine, or in a namespace of the cluster that KUBECONFIG names."""

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from modelway.backends.base import Backend, load_backend
from modelway.platforms.google.rest import GoogleApi

from tests.google.fake import GoogleFake
from tests.google.vertex_jobs import VertexJobs

IMAGE = "python:3.11-slim-bookworm"
#: where the jobs run
BACKEND = os.environ.get("MATRIX_BACKEND") or ("kubernetes" if os.environ.get("KUBECONFIG") else "local")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A backend, the options of its jobs, and where their folders lie for this process."""

    backend: Backend
    options: Mapping[str, Any]
    jobs: Path
    folders: str = "train/g*"
    """pattern of the folders that a run's job works in, below that of the run"""
    environment: Mapping[str, str] = field(default_factory=dict)
    """what Airflow needs to reach it"""


@contextmanager
def jobs_place(root: Path) -> Iterator[Place]:
    """Give jobs a place: on the cluster where there is one."""
    if BACKEND == "local":
        yield on_this_machine(root)
    else:
        with on_the_cluster(root) as place:
            yield place


def on_this_machine(root: Path) -> Place:
    home = root / "home"
    return Place(
        backend=load_backend("local", home=home), options={"backend": "local", "options": {}}, jobs=home / "jobs"
    )


@contextmanager
def on_vertex_ai(root: Path) -> Iterator[Place]:
    """Give jobs a place on a fake of Vertex AI, whose containers are processes of this machine."""
    machines = root / "machines"
    with GoogleFake(partial(VertexJobs, machines=machines)) as fake:
        storage, api = {"uri": (root / "bucket").as_uri()}, GoogleApi(fake.connection())
        yield Place(
            backend=load_backend("vertex", home=root / "home", client=api),
            options={
                "backend": "vertex",
                "options": {
                    "image": "job",
                    "storage": storage,
                    "platform": {"region": "us-central1", "grace_seconds": 5},
                },
            },
            jobs=machines,
            folders="train/g*/*/0-0/*/job",
            environment={"AIRFLOW_CONN_MODELWAY_GOOGLE": fake.airflow_connection()},
        )
        fake.service(VertexJobs).close()
        api.close()


@contextmanager
def on_the_cluster(root: Path) -> Iterator[Place]:
    """Make a namespace for the jobs, and remove it with whatever is in it."""
    from kubernetes import client

    node, core = cluster_node(), core_api()
    storage = root / "storage"
    namespace = f"matrix-{uuid.uuid4().hex[:8]}"
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=namespace)))
    try:
        yield Place(
            backend=load_backend("kubernetes", home=root / "home"),
            options={
                "backend": "kubernetes",
                "options": cluster_options(storage, node=node, namespace=namespace),
            },
            jobs=storage / "jobs",
        )
    finally:
        core.delete_namespace(namespace)


def cluster_options(storage: Path, *, node: str, namespace: str) -> dict[str, Any]:
    """Return the options of a small job that keeps its folder on the cluster's node, which is this machine."""
    storage.mkdir(parents=True, exist_ok=True)
    return {
        # No cpu: 22 jobs at once ask for more than a small node has beside those of others.
        "image": IMAGE,
        "storage": {"path": "/modelway", "node": {"name": node, "path": str(storage)}},
        "platform": {"namespace": namespace},
    }


def core_api() -> Any:
    from kubernetes import client, config

    config.load_kube_config()
    return client.CoreV1Api()


def cluster_node() -> str:
    """Return the name of the cluster's node; the test is skipped where no cluster answers, on CI it fails."""
    reason = "no cluster answers at KUBECONFIG: ../shared/cluster/cluster up, or kind create cluster"
    try:
        nodes = core_api().list_node(_request_timeout=5).items
    except Exception as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"{reason} ({type(error).__name__})")
    first, *_ = [node for node in nodes if not any(map(_is_others, node.spec.taints or ()))]
    return str(first.metadata.name)


def _is_others(taint: Any) -> bool:
    """Whether a node is kept for others; what Kubernetes itself says of a node passes."""
    return not str(taint.key).startswith("node.kubernetes.io/")
