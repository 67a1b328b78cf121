"""The endpoint on a real cluster keeps the promises of its port, with its own gateway before Deployments."""

import json
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from modelway.endpoints.base import (
    Endpoint,
    EndpointSpec,
    EndpointStatus,
    Mirror,
    Predictor,
    Sticky,
    load_endpoint,
    predictor_name,
)
from modelway.errors import (
    CapabilityMissing,
    EndpointNotReady,
    ImageInvalid,
    InvalidSpec,
    UnknownEndpoint,
    UnknownVersion,
)

from tests.endpoint_clients import ask, eventually, load
from tests.inference_messages import connected
from tests.kubernetes_cluster import kubectl, own_namespace
from tests.pushed_models import docker, pushed_models
from tests.system.registry import needs_registry

pytestmark = [needs_registry]
Make = Callable[..., EndpointSpec]


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
    return load_endpoint("kubernetes", root=root, client=client, ready_timeout=120)


@pytest.fixture(scope="module")
def spec(images: dict[int | str, str], place: str) -> Make:
    def make(weights: dict[int, int], stable: int = 1, replicas: int = 1, **platform: Any) -> EndpointSpec:
        predictors = tuple(
            Predictor(
                name=predictor_name(version), version=version, image=images[version], weight=weight, replicas=replicas
            )
            for version, weight in weights.items()
        )
        section = {"namespace": place, "gateway_replicas": 1, "prepull": False, **platform}
        name = predictor_name(stable)
        return EndpointSpec(name="tiny", model="tiny", predictors=predictors, stable=name, platform=section)

    return make


def objects(place: str, *kinds: str) -> list[str]:
    """Return kind/name of what is there of the endpoint."""
    found = kubectl("get", ",".join(kinds), "-n", place, "-l", "modelway.dev/endpoint", "-o", "name")
    return sorted(found.split())


def test_split_is_exact(endpoint: Endpoint, spec: Make) -> None:
    """Pearson's chi-square, 2 degrees of freedom: 27.6 is passed by chance once in a million."""
    status = endpoint.apply(spec({1: 3, 2: 5, 3: 2}))
    assert status.ready
    total = 2000
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
    eventually(lambda: not endpoint.status("tiny").predictors[0].ready)  # type: ignore[union-attr]
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


def test_stopped_endpoint_comes_back_as_it_was_and_delete_leaves_nothing(
    endpoint: Endpoint, spec: Make, place: str
) -> None:
    before = endpoint.apply(spec({1: 70, 2: 30}, stable=2))
    endpoint.stop("tiny")
    assert objects(place, "pods") == []
    stopped = endpoint.status("tiny")
    assert stopped is not None
    assert (stopped.ready, stopped.stopped, stopped.stable, stopped.url) == (False, True, "v2", before.url)
    assert [(one.name, one.weight, one.ready) for one in stopped.predictors] == [("v1", 70, False), ("v2", 30, False)]
    assert stopped.drift == ()
    endpoint.stop("tiny")
    assert endpoint.status("tiny") == stopped
    again = endpoint.start("tiny")
    assert again.ready
    assert again.spec() == before.spec()
    assert {version for _, version, _ in ask(again.url, 50)} == {"1", "2"}
    endpoint.delete("tiny")
    assert endpoint.status("tiny") is None
    assert objects(place, "pods", "deployments", "services", "pdb", "configmaps", "leases") == []


def statuses(answers: Any) -> set[int]:
    return {code for code, _, _ in answers.all}


def pod_names(place: str, selector: str) -> list[str]:
    """Return the pods that are not leaving."""
    items = json.loads(kubectl("get", "pods", "-n", place, "-l", selector, "-o", "json"))["items"]
    return [f"pod/{one['metadata']['name']}" for one in items if "deletionTimestamp" not in one["metadata"]]


def kill_container(place: str, pod: str) -> None:
    """End all of a pod's container at once, as the kernel does that lacks memory."""
    runtime, _, container = kubectl(
        "get", pod, "-n", place, "-o", "jsonpath={.status.containerStatuses[0].containerID}"
    ).partition("://")
    if runtime != "docker":
        pytest.skip(f"the node's containers are not Docker's but {runtime}'s")
    docker("kill", "--signal", "KILL", container)


def test_weights_change_many_times_under_load_without_one_failed_request(endpoint: Endpoint, spec: Make) -> None:
    status = endpoint.apply(spec({1: 100, 2: 0}))
    with load(status.url) as answers:
        for weight in range(20):
            endpoint.set_weights("tiny", {"v1": 20 - weight, "v2": weight})
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
        eventually(lambda: endpoint.status("tiny").predictors[1].ready_replicas == 2, patience=60)  # type: ignore[union-attr]
        answers.wait_for(50)
    assert answers.failures == []
    lost = [code for code, _, _ in answers.all if code != 200]
    # Those on their way while it died: the kernel takes connections for it until its last moment.
    assert set(lost) <= {502}
    assert len(lost) <= 12
    found = endpoint.status("tiny")
    assert found is not None
    assert [one.restarts for one in found.predictors] == [0, 1]


def test_predictors_answer_grpc_at_their_services(endpoint: Endpoint, spec: Make) -> None:
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
