"""The pods of an endpoint's gateway, which come and go while the endpoint is changed, on a cluster in memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from modelway.endpoints.kubernetes.endpoint import KubernetesEndpoint
from modelway.endpoints.kubernetes.gateway_pods import PodAway
from modelway.errors import EndpointNotReady, SubmitFailed
from modelway.failures import FailureKind

from tests.gateway_pods_in_memory import PodInMemory, use
from tests.objects_in_memory import ObjectsInMemory
from tests.unit.test_kubernetes_engines import spec


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
def endpoint(pods: list[PodInMemory], tmp_path: Path) -> Iterator[KubernetesEndpoint]:
    objects = ObjectsInMemory()
    objects.controllers = {"Deployment": rolled_out}
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
