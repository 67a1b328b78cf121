"""Failures that a real cluster makes, and what pods get from Secrets, ConfigMaps and claims."""

import json
from dataclasses import replace

import pytest
from modelway.backends.base import JobState
from modelway.failures import FailureKind
from modelway.job.contract import recorded_checkpoints

from tests.job_folders import WAITS, ended, succeeded, wait_for
from tests.kubernetes_cluster import PYTHON_IMAGE, kubectl, node_storage, on

SECONDS = 90


@pytest.fixture
def name():
    return "kubernetes"


def test_an_image_that_no_registry_gives_is_reported_in_the_kubelets_words(backend, jobs, options, monkeypatch):
    monkeypatch.setattr("modelway.backends.kubernetes.status.IMAGE_SECONDS", 3.0)
    handle = jobs(WAITS, options=on(replace(options, image="127.0.0.1:1/none:1"), image_pull_policy="IfNotPresent"))
    status = ended(backend, handle, seconds=SECONDS)
    assert status.failure is FailureKind.IMAGE_PULL
    assert "127.0.0.1:1/none:1" in status.reason


def test_an_init_container_that_fails_is_reported_with_its_last_line(backend, jobs, options):
    first = {"name": "prepare", "image": PYTHON_IMAGE, "command": ["sh", "-c", "echo no data here; exit 3"]}
    limits = {"cpu": "50m", "memory": "50Mi"}
    first |= {"terminationMessagePolicy": "FallbackToLogsOnError", "resources": {"limits": limits}}
    patch = {"spec": {"template": {"spec": {"initContainers": [first]}}}}
    status = ended(backend, jobs(WAITS, options=on(options, patch=patch)), seconds=SECONDS)
    assert status.failure is FailureKind.INIT
    assert status.reason == "the init container 'prepare' failed: no data here"


def test_a_pod_that_is_evicted_through_the_api_is_reported(backend, jobs, options, namespace, monkeypatch):
    """What kubectl drain does."""
    monkeypatch.setattr("modelway.backends.kubernetes.status.SETTLE_SECONDS", 2.0)
    handle = jobs(WAITS, options=on(options, grace_seconds=2))
    wait_for(lambda: backend.describe(handle).state is JobState.RUNNING, seconds=SECONDS, what="that it runs")
    selector = f"modelway.dev/try={handle.name}"
    (pod,) = json.loads(kubectl("get", "pods", "-n", namespace, "-l", selector, "-o", "json"))["items"]
    name = pod["metadata"]["name"]
    group = "policy/v1beta1" if backend.version < (1, 22) else "policy/v1"
    body = {"apiVersion": group, "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
    kubectl("create", "--raw", f"/api/v1/namespaces/{namespace}/pods/{name}/eviction", "-f", "-", given=body)
    status = ended(backend, handle, seconds=SECONDS)
    assert (status.failure, status.retryable) == (FailureKind.EVICTED, True), status


def test_a_claim_is_the_storage_where_the_worker_sees_it_elsewhere(backend, jobs, options, namespace, tmp_path):
    folder = node_storage(tmp_path / "volume")["node"]
    meta = {"name": f"{namespace}-jobs"}
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = {"capacity": {"storage": "1Gi"}, "hostPath": {"path": folder["path"]}, **common}
    claim = {"resources": {"requests": {"storage": "1Gi"}}, "volumeName": meta["name"], **common}
    kubectl(
        "create", "-f", "-", given={"apiVersion": "v1", "kind": "PersistentVolume", "metadata": meta, "spec": volume}
    )
    try:
        made = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "jobs"}, "spec": claim}
        kubectl("create", "-n", namespace, "-f", "-", given=made)
        code = "def train(job):\n    with job.checkpoint(step=1) as path: path.write_text(str(job.folder))\n"
        claimed = replace(options, storage={"path": "/data", "claim": "jobs", "worker_path": folder["path"]})
        handle = jobs(code, options=claimed)
        succeeded(backend, handle, seconds=SECONDS)
        assert handle.place.startswith(folder["path"])
        (checkpoint,) = recorded_checkpoints(backend.folder(handle))
        assert checkpoint.path.read_text() == f"/data{handle.place.removeprefix(folder['path'])}"
    finally:
        kubectl("delete", "pv", meta["name"], "--wait=false")


def test_secrets_and_config_maps_are_files_and_variables_of_the_job(backend, jobs, options, namespace):
    kubectl("create", "secret", "generic", "login", "-n", namespace, "--from-literal=token=t0ken")
    kubectl("create", "configmap", "settings", "-n", namespace, "--from-literal=region=north", "--from-literal=b=2")
    code = (
        "import os\nfrom pathlib import Path\ndef train(job):\n"
        "    read = lambda path: Path(path).read_text()\n"
        "    found = [read('/etc/login/token'), read('/etc/settings/region')]\n"
        "    found += [os.environ['TOKEN'], os.environ['REGION']]\n"
        "    found += [name for name in os.listdir('/etc/settings') if name[0] != '.']\n"
        "    with job.checkpoint(step=1) as path: path.write_text(str(found))\n"
    )
    env = {"TOKEN": {"secret": "login", "key": "token"}, "REGION": {"config_map": "settings", "key": "region"}}
    files = {"/etc/login": {"secret": "login"}, "/etc/settings": {"config_map": "settings", "key": "region"}}
    handle = jobs(code, options=on(options, env=env, files=files))
    succeeded(backend, handle, seconds=SECONDS)
    (checkpoint,) = recorded_checkpoints(backend.folder(handle))
    assert checkpoint.path.read_text() == str(["t0ken", "north", "t0ken", "north", "region"])
