"""Routes and engines whose controllers do not run here, on a cluster in memory: their statuses are written by the test.

What is sent is compared with the definitions that a real API server has of these kinds.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from modelway.endpoints.base import EndpointSpec, Mirror, Predictor
from modelway.endpoints.kubernetes.endpoint import KubernetesEndpoint
from modelway.errors import EndpointNotReady

from tests.objects_in_memory import ObjectsInMemory

IMAGE = "registry.example.org/models/digits@sha256:" + "0" * 64


@pytest.fixture
def objects() -> ObjectsInMemory:
    found = ObjectsInMemory()

    def served(one: dict[str, Any]) -> dict[str, Any]:
        found.pods_of["InferenceService"] = pods_of(one)
        return serving(one)

    found.controllers = {"InferenceService": served, "Inference": inferring}
    return found


def pods_of(one: dict[str, Any]) -> list[dict[str, Any]]:
    """The pods that KServe makes of an InferenceService."""
    parts = [one["spec"]["predictor"], *(each["predictor"] for each in one["spec"].get("canary", ()))]
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    return [
        {
            "metadata": {"name": f"{part['name']}-{number}", "labels": part["labels"]},
            "spec": {"containers": part["containers"]},
            "status": ready,
        }
        for part in parts
        for number in range(part["minReplicas"])
    ]


@pytest.fixture
def endpoint(objects: ObjectsInMemory, tmp_path: Path) -> Iterator[KubernetesEndpoint]:
    found = KubernetesEndpoint(root=tmp_path / "home" / "endpoints", ready_timeout=2)
    # In the place of the cached one of a real cluster.
    found.__dict__["objects"] = objects
    yield found
    found.delete("digits")
    assert list(objects.all) == []


def spec(*weights: int, **own: Any) -> EndpointSpec:
    predictors = tuple(
        Predictor(name=f"v{number}", version=number, image=IMAGE.replace("0", str(number)), weight=weight)
        for number, weight in enumerate(weights, 1)
    )
    section = {"mount": "none", "prepull": False, **own}
    return EndpointSpec(name="digits", model="digits", predictors=predictors, stable="v1", platform=section)


def serving(one: dict[str, Any]) -> dict[str, Any]:
    """What KServe reports of an InferenceService of which everything is ready."""
    canaries = [
        {"name": each["predictor"]["name"], "ready": True, "trafficPercent": each["trafficPercent"]}
        for each in one["spec"].get("canary", ())
    ]
    conditions = [{"type": kind, "status": "True"} for kind in ("Ready", "PredictorReady")]
    return {"url": "http://digits.example.org", "conditions": conditions, "canaryStatuses": canaries}


def inferring(one: dict[str, Any]) -> dict[str, Any]:
    """What KubeDL reports of an Inference whose pods are ready."""
    return {
        "predictorStatuses": [
            {"name": each["name"], "replicas": 1, "readyReplicas": 1, "endpoint": ""}
            for each in one["spec"]["predictors"]
        ]
    }


def test_kserve_starts_a_canary_without_traffic_and_then_gives_it_its_share(
    endpoint: KubernetesEndpoint, objects: ObjectsInMemory
) -> None:
    first = endpoint.apply(spec(100, engine="kserve"))
    assert first.url in ("", "http://digits.example.org")
    status = endpoint.apply(spec(70, 30, engine="kserve"))
    assert status.ready
    assert status.url == "http://digits.example.org"
    assert [one.ready_replicas for one in status.predictors] == [1, 1]
    (found,) = objects.of("InferenceService")
    assert [(each["predictor"]["name"], each["trafficPercent"]) for each in found["spec"]["canary"]] == [("v2", 30)]
    endpoint.set_weights("digits", {"v1": 1, "v2": 1})
    (found,) = objects.of("InferenceService")
    assert [each["trafficPercent"] for each in found["spec"]["canary"]] == [50]
    assert objects.of("Deployment") == []
    # The canary becomes the predictor.
    promoted = endpoint.apply(replace(spec(0, 1, engine="kserve"), stable="v2"))
    assert [one.name for one in promoted.predictors] == ["v1", "v2"]


def test_a_predictor_that_kserve_replaces_is_not_ready_before_its_new_pods_are(
    endpoint: KubernetesEndpoint, objects: ObjectsInMemory
) -> None:
    """It reports the former pods as ready until it has seen the change, and no generation says so."""
    wanted = spec(100, engine="kserve")
    endpoint.apply(wanted)
    objects.controllers["InferenceService"] = serving
    (one,) = wanted.predictors
    changed = replace(wanted, predictors=(replace(one, image=IMAGE.replace("0", "7")),))
    with pytest.raises(EndpointNotReady, match="version 1 is not ready in time"):
        endpoint.apply(changed)
    status = endpoint.status("digits")
    assert status is not None
    assert (status.ready, status.predictors[0].image) == (True, one.image)

    def replaced(one: dict[str, Any]) -> dict[str, Any]:
        objects.pods_of["InferenceService"] = pods_of(one)
        return serving(one)

    objects.controllers["InferenceService"] = replaced
    assert endpoint.apply(changed).ready


def test_a_canary_that_kserve_does_not_find_ready_gets_nothing(
    endpoint: KubernetesEndpoint, objects: ObjectsInMemory
) -> None:
    def late(one: dict[str, Any]) -> dict[str, Any]:
        objects.pods_of["InferenceService"] = pods_of(one)
        return {**serving(one), "canaryStatuses": []}

    objects.controllers["InferenceService"] = late
    endpoint.apply(spec(100, engine="kserve"))
    with pytest.raises(EndpointNotReady, match="version 2 is not ready in time"):
        endpoint.apply(spec(50, 50, engine="kserve"))
    (found,) = objects.of("InferenceService")
    assert sum(each["trafficPercent"] for each in found["spec"].get("canary", ())) == 0
    status = endpoint.status("digits")
    assert status is not None
    assert [one.name for one in status.predictors] == ["v1"]


def test_kubedl_runs_one_inference_for_each_predictor_behind_our_split(
    endpoint: KubernetesEndpoint, objects: ObjectsInMemory
) -> None:
    own = {"engine": "kubedl", "routing": "gateway-api", "gateway": "infra/web", "hosts": ["digits.example.org"]}
    status = endpoint.apply(spec(30, 50, 20, **own))
    assert [one.ready_replicas for one in status.predictors] == [1, 1, 1]
    first = {each["metadata"]["name"] for each in objects.of("Inference")}
    assert len(first) == 3
    (route,) = objects.of("HTTPRoute")
    split = route["spec"]["rules"][-1]["backendRefs"]
    assert [each["weight"] for each in split] == [3000, 5000, 2000]
    # Its controller would not see a change: a changed predictor is another object, and the former one goes.
    changed = spec(30, 50, 20, **own)
    one, *others = changed.predictors
    endpoint.apply(replace(changed, predictors=(replace(one, replicas=1, batching={"rows": 4}), *others)))
    second = {each["metadata"]["name"] for each in objects.of("Inference")}
    assert len(second) == 3
    assert len(first & second) == 2


def test_a_route_that_no_controller_accepts_is_not_ready_and_its_rules_have_one_owner(
    endpoint: KubernetesEndpoint, objects: ObjectsInMemory
) -> None:
    own = {"engine": "kubedl", "routing": "gateway-api", "gateway": "infra/web", "hosts": ["digits.example.org"]}
    wanted = replace(spec(1, 1, **own), mirror=Mirror(predictor="v2", percent=10))
    status = endpoint.apply(wanted)
    assert (status.ready, status.gateway_ready) == (False, False)
    assert status.problem == "no controller has accepted its HTTPRoute"
    assert status.url == "http://digits.example.org"
    assert status.drift == ()
    objects.change("HTTPRoute", "digits", rules=[])
    changed = endpoint.status("digits")
    assert changed is not None
    assert len(changed.drift) == 1
    assert changed.drift[0].startswith("HTTPRoute digits: .spec.rules")
    assert endpoint.apply(wanted).drift == ()
    (route,) = objects.of("HTTPRoute")
    assert [each["weight"] for each in route["spec"]["rules"][-1]["backendRefs"]] == [5000, 5000]
    # Another routing: the former one's objects go.
    moved = replace(wanted, mirror=None, platform={**wanted.platform, "hosts": [], "gateway": "infra/other"})
    endpoint.apply(moved)
    (route,) = objects.of("HTTPRoute")
    assert route["spec"]["parentRefs"][0]["name"] == "other"
