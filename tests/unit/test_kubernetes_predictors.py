"""What an endpoint is on Kubernetes, as data: by its spec, its section and the server's version."""

from dataclasses import replace
from typing import Any

import pytest
from modelway.endpoints.base import Autoscaling, EndpointSpec, Mirror, Predictor, Sticky, endpoint_member
from modelway.endpoints.checking import check_spec, read_platform
from modelway.endpoints.kubernetes.abilities import refuse_missing
from modelway.endpoints.kubernetes.desired import Desired
from modelway.endpoints.kubernetes.engines import predictor_manifests
from modelway.endpoints.kubernetes.images import choose_mounts
from modelway.endpoints.kubernetes.kserve import inference_service
from modelway.endpoints.kubernetes.kubedl import inference
from modelway.endpoints.kubernetes.naming import predictor_object
from modelway.endpoints.kubernetes.prepull import prepull_manifest
from modelway.endpoints.kubernetes.record import Record, Seat
from modelway.endpoints.kubernetes.routes import http_route, virtual_service
from modelway.endpoints.kubernetes.section import KubernetesEndpointSection
from modelway.endpoints.kubernetes.waiting import has_ended, model_error
from modelway.errors import CapabilityMissing, EndpointNotReady, InvalidSpec

IMAGE = "registry.example.org/models/digits@sha256:" + "0" * 64


def one(name: str = "v1", version: int = 1, weight: int = 1, **more: Any) -> Predictor:
    return Predictor(name=name, version=version, image=IMAGE, weight=weight, **more)


def desired(
    *predictors: Predictor, how: Any = "none", version: tuple[int, int] = (1, 36), more: Any = None, **own: Any
) -> Desired:
    found = predictors or (one(),)
    spec = EndpointSpec(name="digits", model="digits", predictors=found, stable="v1", platform=own, **(more or {}))
    return Desired(
        spec=spec,
        own=read_platform(spec, KubernetesEndpointSection),
        deployment="d1",
        version=version,
        mounts={each.name: how for each in found},
    )


def pod_of(wanted: Desired) -> dict[str, Any]:
    pod: dict[str, Any] = predictor_manifests(wanted, wanted.spec.predictors[0])[0]["spec"]["template"]["spec"]
    return pod


def test_a_predictor_has_no_rights_and_leaves_in_order() -> None:
    pod = pod_of(desired())
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["image"] == IMAGE
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert container["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    assert pod_of(desired(version=(1, 20)))["containers"][0]["lifecycle"] == {
        "preStop": {"exec": {"command": ["sleep", "5"]}}
    }
    # The pause and the server's own drain of 25 seconds.
    assert pod["terminationGracePeriodSeconds"] > 5 + 25


def test_resources_and_batching_come_to_the_server() -> None:
    predictor = one(resources={"cpu": 1.5, "memory_bytes": 1 << 30, "gpu": 1}, batching={"rows": 4})
    (container,) = pod_of(desired(predictor))["containers"]
    amounts = {"cpu": "1500m", "memory": str(1 << 30), "nvidia.com/gpu": "1"}
    assert container["resources"] == {"limits": amounts, "requests": amounts}
    assert container["args"] == ["--batch-size", "4", "--threads", "2"]
    assert "args" not in pod_of(desired(predictor, how="foreign"))["containers"][0]


def test_predictors_answer_grpc_at_a_port_of_their_service_where_wanted() -> None:
    wanted = desired(grpc=True)
    (container,) = pod_of(wanted)["containers"]
    assert {each["name"]: each["containerPort"] for each in container["ports"]} == {"http": 8080, "grpc": 8001}
    assert {"name": "GRPC_PORT", "value": "8001"} in container["env"]
    (service,) = (each for each in predictor_manifests(wanted, wanted.spec.predictors[0]) if each["kind"] == "Service")
    assert [(each["name"], each["targetPort"]) for each in service["spec"]["ports"]] == [("http", 8080), ("grpc", 8001)]
    assert service["spec"]["ports"][1]["appProtocol"] == "kubernetes.io/h2c"
    (container,) = pod_of(desired())["containers"]
    assert [each["name"] for each in container["ports"]] == ["http"]
    assert "GRPC_PORT" not in {each["name"] for each in container["env"]}


def test_the_number_of_pods_is_left_to_the_autoscaler_from_the_first_apply_on() -> None:
    wanted = desired(one(replicas=2))
    assert predictor_manifests(wanted, wanted.spec.predictors[0])[0]["spec"]["replicas"] == 2
    scaled = desired(one(autoscaling=Autoscaling(minimum=1, maximum=4, cpu_percent=70)))
    deployment, *_, autoscaler = predictor_manifests(scaled, scaled.spec.predictors[0])
    assert "replicas" not in deployment["spec"]
    assert autoscaler["spec"]["targetCPUUtilizationPercentage"] == 70
    stopped = replace(scaled, stopped=True)
    kinds = {each["kind"]: each for each in predictor_manifests(stopped, scaled.spec.predictors[0])}
    assert kinds["Deployment"]["spec"]["replicas"] == 0
    assert "HorizontalPodAutoscaler" not in kinds


@pytest.mark.parametrize(("version", "kind"), [((1, 20), "policy/v1beta1"), ((1, 21), "policy/v1")])
def test_a_lone_pod_may_be_evicted(version: tuple[int, int], kind: str) -> None:
    wanted = desired(version=version)
    (budget,) = (each for each in predictor_manifests(wanted, wanted.spec.predictors[0]) if "Budget" in each["kind"])
    assert (budget["apiVersion"], budget["spec"]["maxUnavailable"]) == (kind, 1)


def test_a_model_image_is_mounted_by_digest_and_never_by_sub_path() -> None:
    pod = pod_of(desired(how="image"))
    (volume,) = (each for each in pod["volumes"] if "image" in each)
    assert volume["image"] == {"reference": IMAGE, "pullPolicy": "IfNotPresent"}
    (container,) = pod["containers"]
    (mount,) = (each for each in container["volumeMounts"] if each["name"] == "model")
    assert mount == {"name": "model", "mountPath": "/modelway-image"}
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert variables["MODELWAY_MODEL_DIR"] == "/modelway-image/models"
    assert container["image"] == "modelway-server:0.1.0"


def test_a_loader_copies_the_model_to_its_own_path_with_the_pods_login() -> None:
    pod = pod_of(desired(how="loader", image_pull_secrets=["registry"]))
    (loader,) = pod["initContainers"]
    assert loader["args"] == ["--image", IMAGE, "--path", "/models", "--into", "/models"]
    (login,) = (each for each in pod["volumes"] if each["name"] == "login")
    assert login["secret"]["items"] == [{"key": ".dockerconfigjson", "path": "config.json"}]
    assert loader["env"] == [{"name": "DOCKER_CONFIG", "value": "/modelway-login"}]
    variables = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
    assert variables["MODELWAY_MODEL_DIR"] == "/models"


def test_a_predictor_of_another_model_names_it() -> None:
    first = one(model="digits", batching={"rows": 8})
    assert pod_of(desired(first))["containers"][0]["args"] == ["--batch-size", "8"]
    other = replace(first, model="letters")
    assert pod_of(desired(other))["containers"][0]["args"] == ["--model", "letters", "--batch-size", "8"]
    assert "args" not in pod_of(desired(other, how="foreign"))["containers"][0]


def test_an_endpoint_whose_name_begins_with_a_digit_is_refused() -> None:
    digit = EndpointSpec(name="3d-shapes", model="3d-shapes", predictors=(one(),))
    check_spec(digit, target=endpoint_member("local"))
    with pytest.raises(InvalidSpec, match="begins with a letter"):
        check_spec(digit, target=endpoint_member("kubernetes"))


def test_what_an_image_is_mounted_by_survives_no_engine_that_cannot() -> None:
    wanted = desired()
    before = Record(spec=wanted.spec, mounts={"v1": "image"})
    how = {"before": before, "version": (1, 36), "login": None}
    own = wanted.own
    assert choose_mounts(wanted.spec, own, **how) == {"v1": "image"}
    kubedl = own.model_copy(update={"engine": "kubedl"})
    assert choose_mounts(wanted.spec, kubedl, **how) == {"v1": "loader"}


def test_a_gateway_without_a_free_backend_says_so() -> None:
    wanted = desired()
    seats = {f"v{number}": Seat(slot=number) for number in range(16)}
    with pytest.raises(EndpointNotReady, match="have all backends"):
        Record(spec=wanted.spec, mounts={}, retiring=seats).free_slot()


def test_a_model_server_that_runs_again_after_an_error_has_none() -> None:
    ended = {"terminated": {"exitCode": 2, "message": "no file model.onnx"}}
    running, waits = {"running": {}}, {"waiting": {"reason": "CrashLoopBackOff"}}
    for now, said in ((running, None), (waits, "no file model.onnx"), (ended, "no file model.onnx")):
        pod = {"status": {"containerStatuses": [{"state": now, "lastState": ended}]}}
        assert model_error(pod) == said


def test_a_prepull_mounts_what_predictors_mount_with_their_login() -> None:
    wanted = desired(how="image", image_pull_secrets=["registry"], node_selector={"gpu": "yes"})
    pod = prepull_manifest(wanted, wanted.spec.predictors)["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["nodeSelector"] == {"gpu": "yes"}
    assert pod["containers"][0]["volumeMounts"] == [{"name": "model-0", "mountPath": "/modelway-image"}]
    assert pod["volumes"] == [{"name": "model-0", "image": {"reference": IMAGE, "pullPolicy": "IfNotPresent"}}]


def test_an_http_route_splits_by_one_rule_and_mirrors() -> None:
    predictors = one(weight=30), one("v2", 2, 50), one("v3", 3, 20)
    more = {"mirror": Mirror(predictor="v3", percent=10)}
    route = http_route(desired(*predictors, routing="gateway-api", gateway="infra/web", hosts=["m.org"], more=more))
    *pinned, split = route["spec"]["rules"]
    assert [(each["name"], each["weight"]) for each in split["backendRefs"]] == [
        ("digits-v1", 3000),
        ("digits-v2", 5000),
        ("digits-v3", 2000),
    ]
    (mirror,) = split["filters"]
    assert mirror["requestMirror"]["backendRef"]["name"] == "digits-v3"
    assert mirror["requestMirror"]["percent"] == 10
    assert [each["matches"][0]["path"]["value"] for each in pinned] == [
        f"/v2/models/digits/versions/{number}" for number in (1, 2, 3)
    ]
    parent = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "web", "namespace": "infra"}
    assert route["spec"]["parentRefs"] == [parent]
    assert route["spec"]["hostnames"] == ["m.org"]


def test_a_virtual_service_has_one_rule_whose_weights_add_up_to_100() -> None:
    predictors = one(), one("v2", 2), one("v3", 3)
    found = virtual_service(desired(*predictors, routing="istio", gateway="infra/web", hosts=["m.org"]))
    *pinned, split = found["spec"]["http"]
    assert [each["weight"] for each in split["route"]] == [34, 33, 33]
    assert "match" not in split
    assert [each["match"][0]["uri"]["prefix"] for each in pinned][0] == "/v2/models/digits/versions/1/"


def test_kserve_has_the_stable_predictor_and_canaries() -> None:
    wanted = desired(one(weight=80), one("v2", 2, 20), engine="kserve")
    found = inference_service(wanted, {"v1": 80, "v2": 20})["spec"]
    assert found["predictor"]["name"] == "v1"
    assert [(each["predictor"]["name"], each["trafficPercent"]) for each in found["canary"]] == [("v2", 20)]
    assert found["predictor"]["containers"][0]["name"] == "kserve-container"


def test_kubedl_gets_an_inference_for_each_predictor_and_another_one_for_a_changed_one() -> None:
    wanted = desired(one(), one("v2", 2), engine="kubedl")
    found = [inference(wanted, each) for each in wanted.spec.predictors]
    assert [len(each["spec"]["predictors"]) for each in found] == [1, 1]
    changed = inference(wanted, replace(wanted.spec.predictors[0], replicas=2))
    assert len({each["metadata"]["name"] for each in (*found, changed)}) == 3
    assert "sleep" not in found[0]["spec"]["predictors"][0]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]


@pytest.mark.parametrize(
    ("own", "more", "message"),
    [
        ({}, {"mirror": Mirror(predictor="v1")}, "mirror: HAProxy sends a request to one server only"),
        ({"routing": "gateway-api", "gateway": "web"}, {"sticky": Sticky(header="x-id")}, "sticky: a route of"),
        ({"engine": "kserve"}, {"mirror": Mirror(predictor="v1")}, "mirror: KServe"),
        ({"engine": "kserve"}, {"sticky": Sticky(header=None, cookie="who")}, "sticky: KServe"),
    ],
)
def test_what_an_engine_or_a_routing_cannot_do_is_refused_by_name(
    own: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    wanted = desired(more=more, **own)
    with pytest.raises(CapabilityMissing, match=message):
        refuse_missing(wanted.spec)


def test_a_section_that_was_read_is_read_again_as_plain_data() -> None:
    written = KubernetesEndpointSection.model_validate({"namespace": "serving", "ready_within": "90s"})
    spec = replace(desired().spec, platform=written.model_dump())
    assert read_platform(spec, KubernetesEndpointSection) == written


@pytest.mark.parametrize("engine", ["kserve", "kubedl"])
def test_engines_have_no_autoscaling(engine: str) -> None:
    wanted = desired(one(autoscaling=Autoscaling(minimum=1, maximum=2)), engine=engine)
    with pytest.raises(CapabilityMissing, match="autoscaling: "):
        refuse_missing(wanted.spec)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"routing": "gateway-api"}, "routing: gateway-api needs the Gateway"),
        ({"routing": "istio", "gateway": "mesh"}, "a VirtualService needs host names"),
        ({"engine": "kserve", "routing": "gateway-api", "gateway": "g"}, "engine: kserve splits the requests"),
        ({"engine": "kubedl", "mount": "image"}, "engine: kubedl drops image volumes"),
        ({"engine": "kubedl", "patch": {"spec": {}}}, "engine: kubedl makes the Deployments itself"),
        ({"engine": "kserve", "grpc": True}, "engine: kserve makes the Services itself"),
        ({"patch": {"$setElementOrder": []}}, "no directive"),
    ],
)
def test_sections_that_cannot_be_are_refused(own: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        desired(**own)


def test_names_are_short_enough_for_services_and_never_shared() -> None:
    long = predictor_object("e" * 40, "p" * 40)
    assert len(long) <= 63
    assert long != predictor_object("e" * 40, "p" * 39)
    assert predictor_object("digits", "v1") == "digits-v1"


@pytest.mark.parametrize(
    ("leaves", "states", "expected"),
    [
        (True, [{"terminated": {"exitCode": 0}}], True),
        (True, [{"terminated": {"exitCode": 0}}, {"running": {}}], False),
        (True, [{"waiting": {"reason": "ContainerCreating"}}], False),
        (True, [], False),
        (False, [{"terminated": {"exitCode": 0}}], False),
    ],
)
def test_a_pod_has_ended_that_leaves_when_all_of_its_containers_have(
    leaves: bool, states: list[dict[str, Any]], expected: bool
) -> None:
    metadata = {"name": "p", **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if leaves else {})}
    pod = {"metadata": metadata, "status": {"containerStatuses": [{"name": "c", "state": state} for state in states]}}
    assert has_ended(pod) is expected
