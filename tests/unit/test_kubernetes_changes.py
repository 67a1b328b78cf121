"""Changes of an endpoint that fail or are killed, while pods of its gateway come and go, on a cluster in memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from modelway.endpoints.kubernetes import prepull
from modelway.endpoints.kubernetes.cluster import ClusterObjects
from modelway.endpoints.kubernetes.endpoint import KubernetesEndpoint
from modelway.endpoints.kubernetes.gateway_pods import PodAway
from modelway.errors import EndpointNotReady, SubmitFailed
from modelway.failures import FailureKind
from modelway.platforms.kubernetes import lease

from tests.gateway_pods_in_memory import PodInMemory, use
from tests.objects_in_memory import ObjectsInMemory
from tests.unit.test_kubernetes_engines import pods_of, serving, spec


class Killed(BaseException):
    """The process ends: nothing is cleaned up."""


def kill(*_: Any, **__: Any) -> Any:
    raise Killed


def rolled_out(one: dict[str, Any]) -> dict[str, Any]:
    """What the controller reports of a Deployment whose pods are all ready."""
    counts = ("updatedReplicas", "replicas", "availableReplicas", "readyReplicas")
    return {"observedGeneration": 1, **dict.fromkeys(counts, one["spec"].get("replicas", 1))}


@pytest.fixture
def pods(monkeypatch: pytest.MonkeyPatch) -> list[PodInMemory]:
    found = [PodInMemory("a"), PodInMemory("b")]
    use(monkeypatch, found)
    return found


@pytest.fixture
def objects() -> ObjectsInMemory:
    found = ObjectsInMemory()
    found.controllers = {"Deployment": rolled_out, "InferenceService": serving}
    return found


@pytest.fixture
def endpoint(objects: ObjectsInMemory, pods: list[PodInMemory], tmp_path: Path) -> Iterator[KubernetesEndpoint]:
    found = KubernetesEndpoint(root=tmp_path / "home" / "endpoints", ready_timeout=2)
    found.__dict__["objects"] = objects
    yield found
    found.delete("digits")
    assert list(objects.all) == []


def test_a_change_survives_a_pod_of_the_gateway_that_leaves_meanwhile(
    endpoint: KubernetesEndpoint, pods: list[PodInMemory]
) -> None:
    def leave() -> None:
        pods[:] = [pods[0]]
        raise PodAway("Kubernetes refused to run a command in the pod b")

    endpoint.apply(spec(100, 0))
    pods[1].before = leave
    endpoint.set_weights("digits", {"v1": 1, "v2": 1})
    (left,) = pods
    assert left.map["plan"].startswith("5000:")
    # Also while counts are noted.
    pods.append(PodInMemory("c"))
    pods[1].before = leave
    status = endpoint.apply(spec(50, 0, 50))
    assert [each.name for each in status.predictors] == ["v1", "v2", "v3"]


def test_a_container_of_the_gateway_that_is_being_restarted_is_changed_when_it_runs(
    endpoint: KubernetesEndpoint, pods: list[PodInMemory]
) -> None:
    def restart() -> None:
        pods[1].before = lambda: None
        raise PodAway("container not found")

    endpoint.apply(spec(100, 0))
    pods[1].before = restart
    endpoint.set_weights("digits", {"v1": 1, "v2": 1})
    assert pods[0].map == pods[1].map
    pods[1].before = restart
    with pytest.raises(EndpointNotReady, match="container not found"):
        endpoint.metrics("digits")


def test_counts_begin_anew_with_each_pod_of_the_gateway_that_joins_or_was_left_out(
    endpoint: KubernetesEndpoint, pods: list[PodInMemory]
) -> None:
    def since() -> float:
        return endpoint.metrics("digits")["v1"].since

    endpoint.apply(spec(100))
    pods[0].counts.update(requests=50, named=3)
    pods[1].counts.update(requests=40, server_errors=2)
    for pod in pods:
        pod.set_ready_since("2099-01-01T00:00:00Z")
    found = endpoint.metrics("digits")["v1"]
    assert (found.requests, found.named, found.errors) == (90, 3, 2)
    first = since()
    pods[0].set_ready_since("2099-01-01T00:01:00Z")
    second = since()
    pods.append(PodInMemory("c", since="2099-01-01T00:02:00Z"))
    assert (second - first, since() - second) == (60, 60)


def test_a_server_that_does_not_say_what_it_counts_is_not_left_out_while_it_is_ready(
    endpoint: KubernetesEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its counts would look new when it says them again."""
    page = 'modelway_requests_total{code="200"} 7\n'
    objects = endpoint.objects
    monkeypatch.setattr(objects, "page", lambda *place, **what: page, raising=False)
    monkeypatch.setattr(objects.api, "pods", lambda *which: [PodInMemory("s").pod] if "predictor" in which[1] else [])
    own = {"routing": "gateway-api", "gateway": "infra/web"}
    endpoint.apply(spec(100, **own))
    assert endpoint.metrics("digits")["v1"].requests == 7

    def fail(*place: str, **what: Any) -> str:
        raise SubmitFailed("the server is busy", kind=FailureKind.UNREACHABLE)

    monkeypatch.setattr(objects, "page", fail)
    with pytest.raises(EndpointNotReady, match="the server is busy"):
        endpoint.metrics("digits")
    monkeypatch.setattr(objects.api, "pods", lambda *which: [])


def test_a_change_that_a_pod_of_the_gateway_refuses_leaves_the_former_shares_in_all_of_them(
    endpoint: KubernetesEndpoint, pods: list[PodInMemory]
) -> None:
    def refuse() -> None:
        pods[1].before = lambda: None
        raise EndpointNotReady("the gateway finds v2 not ready")

    endpoint.apply(spec(100, 0))
    former = pods[0].map
    pods[1].before = refuse
    with pytest.raises(EndpointNotReady, match="finds v2 not ready"):
        endpoint.set_weights("digits", {"v1": 1, "v2": 1})
    assert [each.map for each in pods] == [former, former]
    pods[1].before = refuse
    with pytest.raises(EndpointNotReady, match="finds v2 not ready"):
        endpoint.apply(spec(50, 50))
    assert [each.map for each in pods] == [former, former]
    status = endpoint.status("digits")
    assert status is not None
    assert ([each.weight for each in status.predictors], status.drift) == ([100, 0], ())


def test_shares_that_a_killed_change_has_not_brought_to_a_pod_are_drift(
    endpoint: KubernetesEndpoint, pods: list[PodInMemory]
) -> None:
    endpoint.apply(spec(100, 0))
    pods[1].before = kill
    with pytest.raises(Killed):
        endpoint.set_weights("digits", {"v1": 1, "v2": 1})
    pods[1].before = lambda: None
    status = endpoint.status("digits")
    assert status is not None
    assert status.drift == ("pod b: the gateway's shares are v1 100 %, and those that were applied v1 50 %, v2 50 %",)
    assert endpoint.set_weights("digits", {"v1": 1, "v2": 1}).drift == ()


def test_a_process_that_lost_its_lease_while_it_waited_removes_nothing(
    endpoint: KubernetesEndpoint, objects: ObjectsInMemory, pods: list[PodInMemory], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SECONDS", 0)
    endpoint.apply(spec(50, 50))

    def take_over() -> None:
        (found,) = objects.of("Lease")
        found["metadata"]["resourceVersion"] = "1000"

    before = {each["metadata"]["name"] for each in objects.of("Deployment")}
    monkeypatch.setattr(PodInMemory, "is_empty", lambda *_: take_over())
    with pytest.raises(EndpointNotReady, match="another process changes it"):
        endpoint.apply(spec(100))
    assert {each["metadata"]["name"] for each in objects.of("Deployment")} == before
    assert len(objects.of("Lease")) == 1
    objects.delete(objects.of("Lease")[0])
    monkeypatch.undo()


@pytest.mark.parametrize(
    "own",
    [
        {"routing": "gateway-api", "gateway": "infra/web"},
        {"node_selector": {"disk": "none"}},
        {"engine": "kserve"},
        {"prepull": True},
    ],
    ids=["routing", "section", "engine", "prepull"],
)
def test_a_change_that_fails_leaves_all_objects_as_they_were(
    endpoint: KubernetesEndpoint, objects: ObjectsInMemory, own: dict[str, Any]
) -> None:
    endpoint.apply(spec(100))
    before = {key: (one.get("spec"), one.get("data")) for key, one in objects.all.items()}
    endpoint.ready_timeout = 0.1
    objects.controllers = {}
    with pytest.raises(EndpointNotReady):
        endpoint.apply(spec(90, 10, **own))
    assert {key: (one.get("spec"), one.get("data")) for key, one in objects.all.items()} == before


def test_a_change_that_kserve_does_not_make_leaves_its_former_service(
    endpoint: KubernetesEndpoint, objects: ObjectsInMemory
) -> None:
    def served(one: dict[str, Any]) -> dict[str, Any]:
        objects.pods_of["InferenceService"] = pods_of(one)
        return serving(one)

    objects.controllers["InferenceService"] = served
    endpoint.apply(spec(70, 30, engine="kserve"))
    (before,) = objects.of("InferenceService")
    endpoint.ready_timeout = 0.1
    objects.controllers = {"InferenceService": lambda one: {**serving(one), "canaryStatuses": []}}
    with pytest.raises(EndpointNotReady):
        endpoint.apply(spec(70, 20, 10, engine="kserve"))
    (after,) = objects.of("InferenceService")
    assert after["spec"] == before["spec"]


def test_a_first_change_that_fails_leaves_nothing(endpoint: KubernetesEndpoint, objects: ObjectsInMemory) -> None:
    endpoint.ready_timeout = 0.1
    objects.controllers = {}
    with pytest.raises(EndpointNotReady):
        endpoint.apply(spec(100))
    assert list(objects.all) == []


def test_what_a_killed_first_change_leaves_is_removed_with_the_endpoint(
    endpoint: KubernetesEndpoint, objects: ObjectsInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ClusterObjects, "wait_predictors", kill)
        with pytest.raises(Killed):
            endpoint.apply(spec(100))
    assert endpoint.names() == ("digits",)
    status = endpoint.status("digits")
    assert status is not None
    assert not status.ready
    endpoint.delete("digits")
    assert list(objects.all) == []


def test_what_a_killed_change_leaves_of_its_pulls_is_removed_by_the_next_one(
    endpoint: KubernetesEndpoint, objects: ObjectsInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.apply(spec(100))
    with monkeypatch.context() as patch:
        patch.setattr(prepull, "_wait", kill)
        patch.setattr(objects, "delete", lambda one, **how: None)
        with pytest.raises(Killed):
            endpoint.apply(spec(90, 10, prepull=True))
    objects.delete(objects.of("Lease")[0])
    assert len(objects.of("DaemonSet")) == 1
    endpoint.apply(spec(100))
    assert objects.of("DaemonSet") == []


def test_images_are_not_pulled_where_no_node_is_there_for_predictors(
    endpoint: KubernetesEndpoint, objects: ObjectsInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepull, "_NOBODY", 0.0)
    objects.controllers["DaemonSet"] = lambda one: {"observedGeneration": 1, "desiredNumberScheduled": 0}
    assert endpoint.apply(spec(100, prepull=True, node_selector={"pool": "gpu"})).ready
    assert objects.of("DaemonSet") == []
