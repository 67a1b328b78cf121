"""A model's DAG brings version 2 beside version 1 on a real cluster, with the same operators as on this machine."""

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import Lab, wait_for
from modelway.endpoints.base import Endpoint, EndpointStatus, load_endpoint

from tests.kubernetes_cluster import kubectl, own_namespace, require_cluster
from tests.pushed_models import SERVER, docker
from tests.system.registry import Registry, needs_registry

pytestmark = [pytest.mark.system, pytest.mark.cluster, pytest.mark.timeout(900), needs_registry]
MODEL = "moved"
RUN_SECONDS = 400
_SPEC = """\
model: moved
description: Served on a cluster
retries: 0
image: {{base: "{base}", repository: "{registry}/models/moved"}}
endpoint:
  target: kubernetes
  kubernetes: {{namespace: {place}, gateway_replicas: 1}}
rollout: {{steps: [50, 100], interval: 5s, minimum_requests: 0}}
"""


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, str]]:
    """A registry that has the image of the model server, and its reference by digest."""
    registry = Registry(tmp_path_factory.mktemp("registry"))
    tag = f"{registry.host}/modelway/server:test"
    try:
        docker("tag", SERVER, tag)
        docker("push", "--quiet", tag)
        digests = docker("inspect", "--format", '{{join .RepoDigests "\\n"}}', tag).splitlines()
        yield registry, next(each for each in digests if each.startswith(f"{registry.host}/"))
    finally:
        registry.stop()
        # Also what the node has pulled.
        form = "{{.Repository}}:{{.Tag}} {{.Repository}}@{{.Digest}}"
        words = docker("images", "--digests", "--format", form).split()
        names = [word for word in words if word.startswith(f"{registry.host}/") and "<none>" not in word]
        subprocess.run(["docker", "rmi", *dict.fromkeys(names)], capture_output=True)


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    require_cluster()
    with own_namespace("rollout") as found:
        yield found


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest, pushed: tuple[Registry, str], place: str) -> Iterator[tuple[Lab, Endpoint]]:
    """An Airflow with the model, whose first version serves."""
    lab: Lab = request.getfixturevalue("container_lab")
    registry, base = pushed
    folder = lab.home / f".{MODEL}"
    folder.mkdir()
    code = (Path(__file__).parent / "models" / "released" / "released.py").read_text()
    (folder / f"{MODEL}.py").write_text(code)
    (folder / "model.yaml").write_text(_SPEC.format(base=base, registry=registry.host, place=place))
    # The whole folder at once: Airflow reads it meanwhile.
    folder.rename(lab.models / MODEL)
    endpoint = load_endpoint("kubernetes", root=lab.home / "endpoints")
    try:
        assert lab.finish(MODEL) == "success", (lab.states(MODEL), failed_logs(lab))
        yield lab, endpoint
    finally:
        endpoint.delete(MODEL)


def failed_logs(lab: Lab) -> list[str]:
    return [lab.log(MODEL, task)[-3000:] for task, state in lab.states(MODEL).items() if state == "failed"]


def status_of(endpoint: Endpoint) -> EndpointStatus:
    found = endpoint.status(MODEL)
    assert found is not None
    return found


def test_the_first_version_serves_on_the_cluster(served: tuple[Lab, Endpoint], place: str) -> None:
    lab, endpoint = served
    status = status_of(endpoint)
    assert status.ready
    assert status.drift == ()
    assert [(one.name, one.weight) for one in status.predictors] == [("v1", 100)]
    assert lab.lineage.aliases(MODEL)["champion"] == 1
    # The pods that pulled the image on all nodes are gone.
    assert kubectl("get", "daemonsets", "-n", place, "-o", "name") == ""
    (version,) = (one.version for one in status.predictors)
    answer = httpx.get(f"{status.url}/v2/models/{MODEL}/versions/{version}/ready", trust_env=False)
    assert answer.status_code == 200


def test_the_second_version_is_rolled_out_beside_it_without_a_failed_request(served: tuple[Lab, Endpoint]) -> None:
    lab, endpoint = served
    url = status_of(endpoint).url
    codes: list[int] = []
    versions: list[str | None] = []
    end = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            while not end.wait(0.02):
                answer = client.get(f"/v2/models/{MODEL}")
                codes.append(answer.status_code)
                versions.append(answer.headers.get("x-model-version"))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        run_id = lab.api.trigger(MODEL)
        wait_for(lambda: lab.api.run_state(MODEL, run_id) in ("success", "failed"), RUN_SECONDS)
        time.sleep(0.5)
    finally:
        end.set()
        asking.join()
    assert lab.api.run_state(MODEL, run_id) == "success", lab.api.tasks(MODEL, run_id)
    assert set(codes) == {200}
    assert versions[0] == "1"
    assert versions[-1] == "2"
    assert [(one.name, one.weight) for one in status_of(endpoint).predictors] == [("v2", 100)]
    assert lab.lineage.aliases(MODEL)["champion"] == 2
