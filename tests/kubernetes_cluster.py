"""The cluster that tests use: any that KUBECONFIG names; a namespace of their own, gone at the end."""

import fcntl
import json
import os
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from modelway.backends.base import Options

#: an image with nothing but Python, for jobs that need no library
PYTHON_IMAGE = "python:3.11-slim-bookworm"


def require_cluster() -> Any:
    """Return the SDK's client of the cluster; without one the test is skipped, but never on CI."""
    from kubernetes import client, config

    try:
        config.load_kube_config()
        api = client.ApiClient()
        client.VersionApi(api).get_code(_request_timeout=(3, 10))
    except Exception as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no Kubernetes answers: {error} (make cluster starts one)")
    return api


def kubectl(*words: str, given: Any = None) -> str:
    """Run kubectl and return what it printed."""
    done = subprocess.run(
        ["kubectl", *words], input=json.dumps(given) if given is not None else None, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def own_namespace(word: str) -> Iterator[str]:
    """Make a namespace and remove it with all that is in it."""
    name = f"modelway-{word}-{uuid.uuid4().hex[:6]}"
    kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


@contextmanager
def node_in_use(*, alone: bool = False) -> Iterator[None]:
    """Wait for the cluster's node while another process has it alone, or for all others to have it alone.

    A job of high priority takes the place of any other's, also of those of a test in another process.
    """
    place = Path(tempfile.gettempdir()) / f"modelway-test-node-{os.getuid()}"
    # Who waits to have it alone holds the door, so that nobody else comes in meanwhile.
    with Path(f"{place}.door").open("a") as door, Path(f"{place}.lock").open("a") as lock:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield


def node_storage(folder: Path) -> dict[str, Any]:
    """Return a spec's storage section: a folder of the node that this process runs on too."""
    folder.mkdir(parents=True, exist_ok=True)
    # The job's user is another one than the test's.
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(parent.stat().st_mode | 0o055)
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    # Nodes without a kubelet are a benchmark's.
    (node,) = (each for each in nodes if each["status"]["nodeInfo"]["kubeletVersion"])
    return {"path": "/modelway", "node": {"name": node["metadata"]["name"], "path": str(folder)}}


def on(options: Options, **platform: Any) -> Options:
    """Return options with other keys of the section kubernetes."""
    return replace(options, platform={**options.platform, **platform})


def token_client(admin: Any, namespace: str, account: str) -> Any:
    """Return a client with a token of the service account; servers from 1.24 on make no Secret with one."""
    from kubernetes import client

    place = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = json.loads(kubectl("create", "--raw", place, "-f", "-", given=request))["status"]["token"]
    configuration = client.Configuration()
    configuration.host = admin.configuration.host
    configuration.ssl_ca_cert = admin.configuration.ssl_ca_cert
    configuration.api_key = {"authorization": f"Bearer {token}"}
    configuration.api_key_prefix = {}
    return client.ApiClient(configuration)
