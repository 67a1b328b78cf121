"""What controllers would be sent, checked by a real API server that has their definitions; followed without them."""

import os
from typing import get_args

import pytest
from modelway.backends.base import Job, JobState, Options
from modelway.backends.kubernetes.backend import KubernetesBackend
from modelway.backends.kubernetes.launchers import KINDS
from modelway.backends.kubernetes.section import Launcher
from modelway.platforms.kubernetes.api import Api

from tests.job_folders import store_code
from tests.kubernetes_cluster import PYTHON_IMAGE, kubectl, require_cluster
from tests.kubernetes_in_memory import Cluster, owners

#: An API server of 1.20 that is built by a Go of today ends when it decodes a custom object, so older ones are sent
#: none: kubectl checks it against the definitions that the server publishes.
TAKES_CUSTOM_OBJECTS = (1, 24)


@pytest.fixture(scope="module")
def client():
    return require_cluster()


def options_of(folder, launcher, *, nodes=2):
    folder.mkdir(exist_ok=True)
    return Options(
        cpu=0.05,
        memory_bytes=200 << 20,
        timeout_seconds=60,
        nodes=nodes,
        image=PYTHON_IMAGE,
        storage={"path": "/modelway", "node": {"name": "node", "path": str(folder)}},
        platform={"launcher": launcher, "env": {"A": "1"}, "shared_memory_bytes": 1 << 20},
    )


def job_of(folder, **fields):
    code = store_code(folder, "def train(job): ...\n")
    asked = {"model": "tiny", "run": "r1", "key": "train", "stage": "train", "action": "train"}
    return Job(**{**asked, "module": "tiny.py", "code": code, **fields})


def require_definition(client, launcher):
    from kubernetes import client as api

    group, _, kind = KINDS[launcher]
    names = [one.metadata.name for one in api.ApiextensionsV1Api(client).list_custom_resource_definition().items]
    if f"{kind.lower()}s.{group}" not in names:
        what = f"the cluster has no definition of {kind} (start_cluster.sh adds it: make cluster)"
        pytest.fail(what) if os.environ.get("CI") == "true" else pytest.skip(what)


def checked(client, manifest):
    """Have a manifest checked by the definitions of the cluster, unknown keys included; return what is wrong."""
    where = "server" if Api(client).version() >= TAKES_CUSTOM_OBJECTS else "client"
    try:
        kubectl("create", f"--dry-run={where}", "--validate=strict", "-f", "-", given=manifest)
    except AssertionError as error:
        return str(error)
    return None


@pytest.mark.parametrize("launcher", KINDS)
@pytest.mark.parametrize("version", [(1, 20), (1, 30)])
@pytest.mark.parametrize("nodes", [1, 3])
def test_the_definitions_take_all_that_is_sent(client, tmp_path, launcher, version, nodes):
    require_definition(client, launcher)
    backend = KubernetesBackend(home=tmp_path, client=client, version=version)
    request = backend.build_request(job_of(tmp_path), options_of(tmp_path / "s", launcher, nodes=nodes))
    for manifest in request.manifests():
        assert checked(client, manifest) is None


@pytest.mark.parametrize("launcher", KINDS)
def test_a_key_that_a_definition_does_not_know_is_noticed(client, tmp_path, launcher):
    require_definition(client, launcher)
    backend = KubernetesBackend(home=tmp_path, client=client, version=(1, 30))
    request = backend.build_request(job_of(tmp_path), options_of(tmp_path / "s", launcher))
    manifest = request.manifests()[-1]
    assert "nodesOfGold" in checked(client, {**manifest, "spec": {**manifest["spec"], "nodesOfGold": 3}})


@pytest.fixture
def cluster():
    return Cluster()


@pytest.fixture
def backend(tmp_path, cluster):
    made = KubernetesBackend(home=tmp_path / "home", version=(1, 30))
    made.__dict__["api"] = cluster
    return made


@pytest.mark.parametrize("launcher", KINDS)
def test_such_a_job_is_found_again_and_cancelled_with_all_that_it_has(backend, cluster, tmp_path, launcher):
    request = backend.build_request(job_of(tmp_path), options_of(tmp_path / "s", launcher))
    handle = backend.submit(request)
    assert backend.describe(handle).state is JobState.PENDING
    assert backend.submit(request) == handle
    assert backend.unfinished(run="r1") == [handle]
    assert backend.unfinished(run="r2") == []
    assert len([one for one in cluster.objects.values() if not owners(one)]) == 1, "one of them owns the others"
    backend.cancel(handle)
    assert backend.describe(handle).state is JobState.CANCELLED
    assert cluster.objects == {}
    assert backend.unfinished(run="r1") == []


@pytest.mark.parametrize(
    ("launcher", "condition", "state"),
    [
        ("jobset", "Completed", JobState.SUCCEEDED),
        ("jobset", "Failed", JobState.FAILED),
        ("trainjob", "Complete", JobState.SUCCEEDED),
        ("trainjob", "Failed", JobState.FAILED),
        ("pytorchjob", "Succeeded", JobState.SUCCEEDED),
        ("tfjob", "Failed", JobState.FAILED),
    ],
)
def test_what_the_controller_says_is_believed(backend, cluster, tmp_path, launcher, condition, state):
    handle = backend.submit(backend.build_request(job_of(tmp_path), options_of(tmp_path / "s", launcher)))
    (found,) = cluster.customs(None, f"modelway.dev/try={handle.name}", **kind_of(launcher))
    found["status"] = {"conditions": [{"type": "Suspended", "status": "False"}]}
    assert backend.describe(handle).state is JobState.PENDING
    found["status"] = {"conditions": [{"type": condition, "status": "True", "message": "so it is"}]}
    status = backend.describe(handle)
    assert status.state is state
    assert state is JobState.SUCCEEDED or "so it is" in status.reason


def kind_of(launcher):
    return dict(zip(("group", "version", "kind"), KINDS[launcher], strict=True))


def test_the_launchers_of_a_spec_are_those_that_are_known():
    assert set(get_args(Launcher)) == {"job", *KINDS}


def test_the_events_of_such_a_job_are_found_by_its_own_name(backend, cluster, tmp_path):
    handle = backend.submit(backend.build_request(job_of(tmp_path), options_of(tmp_path / "s", "jobset")))
    (found,) = cluster.customs(None, f"modelway.dev/try={handle.name}", **kind_of("jobset"))
    name = f"{found['metadata']['name']}-node-0-0-x1"
    cluster.pods = lambda namespace, selector: [{"metadata": {"name": name}, "status": {"phase": "Pending"}}]
    mount = {"reason": "FailedMount", "message": 'secret "x" not found', "involvedObject": {"name": name}}
    cluster.events = lambda namespace: [{**mount, "involvedObject": {"name": "another"}}, mount]
    assert backend.describe(handle).waiting == 'secret "x" not found'
