"""The endpoint on a real cluster keeps the promises of its port, with its own gateway before Deployments."""

import json
import os
import signal
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from modelway.cli import main
from modelway.endpoints.base import (
    Endpoint,
    EndpointSpec,
    EndpointStatus,
    Mirror,
    Predictor,
    Sticky,
    load_endpoint,
)
from modelway.endpoints.kubernetes.waiting import has_ended
from modelway.errors import (
    CapabilityMissing,
    EndpointNotReady,
    ImageInvalid,
    InvalidSpec,
    ModelwayError,
    UnknownEndpoint,
    UnknownVersion,
)

from tests.endpoint_clients import ask, call_grpc, eventually, load
from tests.inference_messages import connected
from tests.kubernetes_cluster import kubectl, own_namespace, require_cluster
from tests.kubernetes_endpoint import kill_container, pod_names
from tests.pushed_models import pushed_models
from tests.system.registry import needs_registry
from tests.tiny_endpoint import tiny_spec

# Its images are pushed first, and pods take their time on a busy node.
pytestmark = [needs_registry, pytest.mark.timeout(900)]
Make = Callable[..., EndpointSpec]
#: requests of the split, and changes of the weights under load: 20,000 and 200 take ten minutes of a quiet machine
REQUESTS = int(os.environ.get("ENDPOINT_REQUESTS") or 2000)
CHANGES = int(os.environ.get("ENDPOINT_CHANGES") or 20)
#: seconds without the API server
OUTAGE = float(os.environ.get("ENDPOINT_OUTAGE") or 10)


@pytest.fixture(scope="module")
def images(client: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int | str, str]]:
    with pushed_models(tmp_path_factory.mktemp("images")) as found:
        yield found


@pytest.fixture(scope="module")
def place(client: Any) -> Iterator[str]:
    """A namespace for the endpoint of this file."""
    with own_namespace("serve") as found:
        yield found


@pytest.fixture(scope="module")
def endpoint(client: Any, tmp_path_factory: pytest.TempPathFactory) -> Endpoint:
    """One for all tests: each applies what it needs to the same endpoint."""
    root = tmp_path_factory.mktemp("home") / "endpoints"
    return load_endpoint("kubernetes", root=root, client=client, ready_timeout=300)


@pytest.fixture(scope="module")
def spec(images: dict[int | str, str], place: str) -> Make:
    section = {"namespace": place, "gateway_replicas": 1, "prepull": False}
    return lambda weights, *numbers, **more: tiny_spec(images, weights, *numbers, **{**section, **more})


def objects(place: str, *kinds: str) -> list[str]:
    """Return kind/name of what is there of the endpoint."""
    found = kubectl("get", ",".join(kinds), "-n", place, "-l", "modelway.dev/endpoint", "-o", "name")
    return sorted(found.split())


def pods_that_run(place: str) -> list[str]:
    """Return the pods of which something may run; the node names ended ones for up to a minute."""
    items = json.loads(kubectl("get", "pods", "-n", place, "-l", "modelway.dev/endpoint", "-o", "json"))["items"]
    return [one["metadata"]["name"] for one in items if not has_ended(one)]


def test_split_is_exact(endpoint: Endpoint, spec: Make) -> None:
    """Pearson's chi-square, 2 degrees of freedom: 27.6 is passed by chance once in a million."""
    status = endpoint.apply(spec({1: 3, 2: 5, 3: 2}))
    assert status.ready
    total = REQUESTS
    before = {name: one.requests for name, one in endpoint.metrics("tiny").items()}
    counts = Counter(version for code, version, _ in ask(status.url, total) if code == 200)
    assert sum(counts.values()) == total
    expected = {"1": 0.3 * total, "2": 0.5 * total, "3": 0.2 * total}
    assert sum((counts[version] - n) ** 2 / n for version, n in expected.items()) < 27.6
    metrics = endpoint.metrics("tiny")
    assert {name[1:]: one.requests - before[name] for name, one in metrics.items()} == counts
    assert [one.errors for one in metrics.values()] == [0, 0, 0]
    assert [{value for _, _, value in ask(one.url, 2)} for one in status.predictors] == [{1.0}, {2.0}, {3.0}]


def test_apply_twice_changes_nothing(endpoint: Endpoint, spec: Make, place: str) -> None:
    first = endpoint.apply(spec({1: 90, 2: 10}))
    kinds = ("deployments", "services", "pdb", "pods")
    before = objects(place, *kinds)
    assert [(one.name, one.weight, one.ready_replicas) for one in first.predictors] == [("v1", 90, 1), ("v2", 10, 1)]
    assert endpoint.apply(spec({1: 90, 2: 10})) == first
    assert endpoint.status("tiny") == first
    assert objects(place, *kinds) == before
    assert endpoint.names() == ("tiny",)


def test_two_applies_at_once_come_one_after_the_other(endpoint: Endpoint, spec: Make) -> None:
    results: list[EndpointStatus] = []
    threads = [threading.Thread(target=lambda: results.append(endpoint.apply(spec({1: 90, 2: 10})))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1]


def test_a_user_stays_with_a_version_while_it_grows(endpoint: Endpoint, spec: Make) -> None:
    status = endpoint.apply(spec({1: 80, 2: 20}))
    users = [f"user-{number}" for number in range(100)]
    before = {user: ask(status.url, 1, user=user)[0][1] for user in users}
    assert 5 < sum(version == "2" for version in before.values()) < 40
    assert endpoint.set_weights("tiny", {"v1": 50, "v2": 50}).ready
    after = {user: ask(status.url, 1, user=user)[0][1] for user in users}
    assert all(after[user] == "2" for user in users if before[user] == "2")
    assert 30 < sum(version == "2" for version in after.values()) < 70


def test_a_version_that_cannot_be_loaded_leaves_the_split_as_it_is(
    endpoint: Endpoint, spec: Make, images: dict[int | str, str], place: str
) -> None:
    before = endpoint.apply(spec({1: 100}))
    broken = Predictor(name="v4", version=4, image=images["broken"], weight=50)
    with pytest.raises(ImageInvalid, match=r"(?s)version 4 cannot be served.*ONNX Runtime cannot load it"):
        endpoint.apply(replace(spec({1: 50}), predictors=(*spec({1: 50}).predictors, broken)))
    assert endpoint.status("tiny") == before
    # The same version from a broken image: its old pod serves on.
    (one,) = spec({1: 100}).predictors
    with pytest.raises(ImageInvalid, match="version 1 cannot be served"):
        endpoint.apply(replace(spec({1: 100}), predictors=(replace(one, image=images["broken"]),)))
    assert endpoint.status("tiny") == before
    assert {version for _, version, _ in ask(before.url, 20)} == {"1"}
    assert objects(place, "deployments") == ["deployment.apps/tiny-gateway", "deployment.apps/tiny-v1"]


@pytest.mark.parametrize(
    ("weights", "error"),
    [
        ({"v1": 1, "v9": 1}, UnknownVersion),
        ({"v1": -1, "v2": 2}, InvalidSpec),
        ({"v1": 0, "v2": 0}, InvalidSpec),
        ({}, InvalidSpec),
    ],
)
def test_bad_weights_are_refused(
    endpoint: Endpoint, spec: Make, weights: dict[str, int], error: type[Exception]
) -> None:
    before = endpoint.apply(spec({1: 3, 2: 1}))
    with pytest.raises(error):
        endpoint.set_weights("tiny", weights)
    assert endpoint.status("tiny") == before


def test_drift_made_by_hand_is_seen_and_removed(endpoint: Endpoint, spec: Make, place: str) -> None:
    assert endpoint.apply(spec({1: 1, 2: 1})).drift == ()
    kubectl("scale", "deployment/tiny-v1", "--replicas=0", "-n", place)
    kubectl("delete", "pdb/tiny-v2", "-n", place)
    kubectl("label", "service/tiny-v2", "someone=else", "-n", place)
    eventually(lambda: not endpoint.status("tiny").predictors[0].ready, patience=120)  # type: ignore[union-attr]
    status = endpoint.status("tiny")
    assert status is not None
    assert not status.ready
    assert len(status.drift) == 2, status.drift
    assert any(each.startswith("Deployment tiny-v1: ") and "replicas" in each for each in status.drift)
    assert "PodDisruptionBudget tiny-v2 was deleted" in status.drift
    with pytest.raises(EndpointNotReady, match="version 1 is not ready"):
        endpoint.set_weights("tiny", {"v1": 1})
    healed = endpoint.apply(spec({1: 1, 2: 1}))
    assert (healed.drift, healed.ready) == ((), True)


def test_an_object_of_somebody_else_is_not_touched(endpoint: Endpoint, spec: Make, place: str) -> None:
    kubectl("create", "service", "clusterip", "tiny-v3", "--tcp=80:80", "-n", place)
    with pytest.raises(InvalidSpec, match="there is a Service tiny-v3 in namespace .* which is not of this endpoint"):
        endpoint.apply(spec({1: 1, 3: 1}))
    kubectl("delete", "service", "tiny-v3", "-n", place)


def test_another_airflow_leaves_the_endpoint_alone(endpoint: Endpoint, spec: Make, client: Any, tmp_path: Path) -> None:
    endpoint.apply(spec({1: 1}))
    other = load_endpoint("kubernetes", root=tmp_path / "endpoints", client=client)
    assert other.status("tiny") is None
    other.delete("tiny")
    with pytest.raises(InvalidSpec, match="an endpoint 'tiny' of another Airflow is in namespace"):
        other.apply(spec({1: 1}))
    assert endpoint.status("tiny") is not None


def test_endpoint_that_is_not_there(endpoint: Endpoint) -> None:
    assert endpoint.status("none") is None
    endpoint.stop("none")
    endpoint.delete("none")
    with pytest.raises(UnknownEndpoint, match="there is no endpoint 'none'"):
        endpoint.set_weights("none", {"v1": 1})
    with pytest.raises(UnknownEndpoint, match="there is no endpoint 'none'"):
        endpoint.metrics("none")


def test_what_a_routing_cannot_do_is_refused_by_name(endpoint: Endpoint, spec: Make) -> None:
    with pytest.raises(CapabilityMissing, match="mirror: HAProxy sends a request to one server only"):
        endpoint.apply(replace(spec({1: 1}), mirror=Mirror(predictor="v1")))
    sticky = replace(spec({1: 1}, routing="gateway-api", gateway="web"), sticky=Sticky(header=None, cookie="who"))
    with pytest.raises(CapabilityMissing, match="sticky: a route of the Gateway API splits requests"):
        endpoint.apply(sticky)


def statuses(answers: Any) -> set[int]:
    return {code for code, _, _ in answers.all}


def test_weights_change_many_times_under_load_without_one_failed_request(endpoint: Endpoint, spec: Make) -> None:
    status = endpoint.apply(spec({1: 100, 2: 0}))
    with load(status.url) as answers:
        for weight in range(CHANGES):
            endpoint.set_weights("tiny", {"v1": CHANGES - weight, "v2": weight})
        answers.wait_for(50)
        mark = len(answers.all)
        endpoint.set_weights("tiny", {"v1": 0, "v2": 1})
        changed = len(answers.all)
        answers.wait_for(100)
        promoted = endpoint.apply(spec({2: 100}, stable=2))
        answers.wait_for(50)
    assert answers.failures == []
    assert statuses(answers) == {200}
    assert {version for _, version, _ in answers.all[changed + 8 :]} == {"2"}
    assert "1" in {version for _, version, _ in answers.all[:mark]}
    assert [one.name for one in promoted.predictors] == ["v2"]
    assert promoted.url == status.url


def test_a_deleted_pod_and_new_pods_of_a_version_cost_no_request(
    endpoint: Endpoint, spec: Make, images: dict[int | str, str], place: str
) -> None:
    wanted = spec({1: 50, 2: 50}, replicas=2)
    status = endpoint.apply(wanted)
    assert [one.ready_replicas for one in status.predictors] == [2, 2]
    with load(status.url) as answers:
        answers.wait_for(50)
        first, _ = pod_names(place, "modelway.dev/predictor=v1")
        kubectl("delete", first, "-n", place, "--wait=false")
        # The same version from another image: all its pods are replaced.
        one, two = wanted.predictors
        endpoint.apply(replace(wanted, predictors=(replace(one, image=images[3]), two)))
        answers.wait_for(50)
    assert answers.failures == []
    assert statuses(answers) == {200}
    assert {value for _, version, value in answers.all[-20:] if version == "1"} <= {3.0}


def test_a_killed_server_costs_what_it_had_and_nothing_else(endpoint: Endpoint, spec: Make, place: str) -> None:
    status = endpoint.apply(spec({1: 50, 2: 50}, replicas=2))
    with load(status.url) as answers:
        answers.wait_for(100)
        pod, _ = pod_names(place, "modelway.dev/predictor=v2")
        kill_container(place, pod)
        answers.wait_for(200)
        eventually(lambda: endpoint.status("tiny").predictors[1].ready_replicas == 2, patience=120)  # type: ignore[union-attr]
        answers.wait_for(50)
    assert answers.failures == []
    lost = [code for code, _, _ in answers.all if code != 200]
    # Those on their way while it died: the kernel takes connections for it until its last moment.
    assert set(lost) <= {502}
    assert len(lost) <= 12
    found = endpoint.status("tiny")
    assert found is not None
    assert [one.restarts for one in found.predictors] == [0, 1]


def test_a_gateways_pod_that_is_replaced_costs_no_request(endpoint: Endpoint, spec: Make, place: str) -> None:
    status = endpoint.apply(spec({1: 1, 2: 0}, gateway_replicas=2))
    with load(status.url) as answers:
        answers.wait_for(50)
        first, _ = pod_names(place, "modelway.dev/part=gateway")
        kubectl("delete", first, "-n", place, "--wait=false")
        endpoint.set_weights("tiny", {"v2": 1})
        mark = len(answers.all)
        eventually(lambda: len(pod_names(place, "modelway.dev/part=gateway")) == 2, patience=120)
        answers.wait_for(200)
    assert answers.failures == []
    assert statuses(answers) == {200}
    # Also the new pod has what was changed while it came.
    assert {version for _, version, _ in answers.all[mark + 8 :]} == {"2"}


def test_a_killed_gateway_comes_back_with_its_last_weights(endpoint: Endpoint, spec: Make, place: str) -> None:
    status = endpoint.apply(spec({1: 100, 2: 0}))
    endpoint.set_weights("tiny", {"v2": 1})
    before = endpoint.metrics("tiny")["v2"].since
    (pod,) = pod_names(place, "modelway.dev/part=gateway")
    kill_container(place, pod)

    def is_back() -> bool:
        try:
            return endpoint.metrics("tiny")["v2"].since > before
        except EndpointNotReady:
            return False

    eventually(is_back, patience=120)
    # Its file is the one of the last change, not the one that its pod started with.
    assert {version for _, version, _ in ask(status.url, 30)} == {"2"}
    found = endpoint.status("tiny")
    assert found is not None
    assert (found.ready, found.drift) == (True, ())


def test_apply_finishes_what_a_killed_apply_began(endpoint: Endpoint, spec: Make, place: str) -> None:
    status = endpoint.apply(spec({1: 100}))
    child = os.fork()
    if child == 0:
        other = load_endpoint("kubernetes", root=endpoint.root, client=require_cluster())  # type: ignore[attr-defined]
        other.apply(spec({1: 50, 3: 50}))
        os._exit(0)
    eventually(lambda: bool(pod_names(place, "modelway.dev/predictor=v3")), patience=120)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert {version for _, version, _ in ask(status.url, 20)} <= {"1", "3"}
    # The killed one has the lease until it is expired.
    healed = endpoint.apply(spec({1: 50, 2: 50}))
    assert healed.ready
    assert {version for _, version, _ in ask(healed.url, 50)} == {"1", "2"}
    assert objects(place, "deployments") == [f"deployment.apps/tiny-{word}" for word in ("gateway", "v1", "v2")]


@pytest.mark.alone_on_node
def test_requests_are_answered_while_the_api_server_is_unavailable(endpoint: Endpoint, spec: Make) -> None:
    file = Path(os.environ["KUBECONFIG"]).parent / "kube-apiserver.pid"
    if not file.exists() and os.environ.get("CI") != "true":
        pytest.skip("the cluster's API server is no process of this machine")
    server = psutil.Process(int(file.read_text()))
    status = endpoint.apply(spec({1: 100}))
    results: list[object] = []

    def change() -> None:
        try:
            results.append(endpoint.apply(spec({1: 50, 2: 50})).ready)
        except ModelwayError as error:
            results.append(error.retryable)

    changing = threading.Thread(target=change)
    with load(status.url, clients=2) as answers:
        answers.wait_for(20)
        changing.start()
        time.sleep(1)
        server.suspend()
        try:
            answers.wait_for(300)
            time.sleep(OUTAGE)
            answers.wait_for(300)
        finally:
            server.resume()
        changing.join()
        # The change continued, or may be tried again.
        assert results == [True]
        assert endpoint.apply(spec({1: 50, 2: 50})).ready
        answers.wait_for(50)
    assert answers.failures == []
    assert statuses(answers) == {200}
    assert {version for _, version, _ in answers.all[-40:]} == {"1", "2"}


def test_a_loader_brings_the_model_to_pods_of_the_servers_image(
    endpoint: Endpoint, spec: Make, images: dict[int | str, str], place: str
) -> None:
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    addresses = nodes[0]["status"]["addresses"]
    node = next(each["address"] for each in addresses if each["type"] == "InternalIP")

    def loaded(word: int | str, version: int) -> EndpointSpec:
        wanted = spec({1: 1}, mount="loader", insecure_registry=True)
        image = images[word].replace("127.0.0.1", node)
        (one,) = wanted.predictors
        return replace(wanted, predictors=(replace(one, image=image, version=version),))

    status = endpoint.apply(loaded(2, 2))
    assert [(version, value) for _, version, value in ask(status.url, 1)] == [("2", 2.0)]
    with pytest.raises(ImageInvalid, match="version 3 cannot be served"):
        endpoint.apply(loaded("broken", 3))
    assert [(version, value) for _, version, value in ask(status.url, 1)] == [("2", 2.0)]


def test_stopped_endpoint_comes_back_as_it_was_and_delete_leaves_nothing(
    endpoint: Endpoint, spec: Make, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once by the command, as a person does who has the home of its Airflow."""
    monkeypatch.setenv("MODELWAY_HOME", str(endpoint.root.parent))  # type: ignore[attr-defined]
    before = endpoint.apply(spec({1: 70, 2: 30}, stable=2))
    assert main(["endpoint", "list", "--target", "kubernetes", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["name"], listed["target"], listed["state"]) == ("tiny", "kubernetes", "answers")
    assert main(["endpoint", "stop", "tiny", "--target", "kubernetes"]) == 0
    assert pods_that_run(place) == []
    stopped = endpoint.status("tiny")
    assert stopped is not None
    assert (stopped.ready, stopped.stopped, stopped.stable, stopped.url) == (False, True, "v2", before.url)
    assert [(one.name, one.weight, one.ready) for one in stopped.predictors] == [("v1", 70, False), ("v2", 30, False)]
    assert stopped.drift == ()
    endpoint.stop("tiny")
    assert endpoint.status("tiny") == stopped
    assert main(["endpoint", "start", "tiny", "--target", "kubernetes"]) == 0
    again = endpoint.status("tiny")
    assert again is not None
    assert again.ready
    assert again.spec() == before.spec()
    assert {version for _, version, _ in ask(again.url, 50)} == {"1", "2"}
    endpoint.delete("tiny")
    assert endpoint.status("tiny") is None
    assert pods_that_run(place) == []
    assert objects(place, "deployments", "services", "pdb", "configmaps", "leases") == []


def test_predictors_answer_grpc_at_their_services_and_through_the_gateway(endpoint: Endpoint, spec: Make) -> None:
    status = endpoint.apply(spec({1: 50, 2: 50}, grpc=True))
    found = {}
    for one in status.predictors:
        host = str(urlsplit(one.url).hostname)
        with connected(SimpleNamespace(grpc_port=8001), host=host) as client:
            tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4]}
            answer = client.call(
                "ModelInfer", model_name="tiny", inputs=[tensor], raw_input_contents=[struct.pack("<4f", *[1.0] * 4)]
            )
        (raw,) = answer.raw_output_contents
        found[answer.model_version] = set(struct.unpack("<4f", raw))
    assert found == {"1": {1.0}, "2": {2.0}}
    before = {name: one.requests for name, one in endpoint.metrics("tiny").items()}
    counts = call_grpc(status.url, range(40))
    assert counts == Counter(ask(status.url, 1, f"user-{number}")[0][1] for number in range(40)), "by the same buckets"
    after = endpoint.metrics("tiny")
    assert {name: one.requests - before[name] for name, one in after.items()} == {
        f"v{version}": 2 * count for version, count in counts.items()
    }
    assert {(one.errors, one.call_errors) for one in after.values()} == {(0, 0)}
