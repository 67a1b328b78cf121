"""What is sent of other projects' kinds fits the definitions that the API server has of them: no field is unknown.

The server would drop what it does not know without a word, so unknown fields are errors here.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from modelway.endpoints.base import EndpointSpec, Mirror, Predictor
from modelway.endpoints.checking import read_platform
from modelway.endpoints.kubernetes.desired import Desired
from modelway.endpoints.kubernetes.kserve import inference_service
from modelway.endpoints.kubernetes.kubedl import inference
from modelway.endpoints.kubernetes.routes import http_route
from modelway.endpoints.kubernetes.section import KubernetesEndpointSection

from tests.kubernetes_cluster import kubectl, require_cluster

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGE = "registry.example.org/models/digits@sha256:" + "0" * 64


def strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a definition's schema that also refuses unknown fields."""
    found = dict(schema)
    if found.pop("x-kubernetes-int-or-string", False):
        found.pop("type", None)
        found.pop("anyOf", None)
        found["type"] = ["integer", "string"]
    if found.pop("nullable", False) and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
    if "properties" in found:
        found["properties"] = {key: strict(one) for key, one in found["properties"].items()}
        if not found.get("x-kubernetes-preserve-unknown-fields"):
            found["additionalProperties"] = False
    elif isinstance(found.get("additionalProperties"), Mapping):
        found["additionalProperties"] = strict(found["additionalProperties"])
    if "items" in found:
        found["items"] = strict(found["items"])
    return found


def problems(manifest: Mapping[str, Any], definition: str) -> list[str]:
    """Return what the definition refuses of a manifest's ``spec``."""
    group, _, version = str(manifest["apiVersion"]).partition("/")
    assert definition.endswith(group)
    versions = json.loads(kubectl("get", "crd", definition, "-o", "json"))["spec"]["versions"]
    (found,) = (each for each in versions if each["name"] == version)
    schema = strict(found["schema"]["openAPIV3Schema"]["properties"]["spec"])
    errors = Draft202012Validator(schema).iter_errors(manifest["spec"])
    return [f"{'.'.join(map(str, each.absolute_path))}: {each.message[:300]}" for each in errors]


def desired(how: Any = "none", **own: Any) -> Desired:
    predictors = tuple(
        Predictor(
            name=f"v{number}",
            version=number,
            image=IMAGE,
            weight=weight,
            replicas=2,
            resources={"cpu": 2, "memory_bytes": 1 << 30, "gpu": 1},
            batching={"rows": 4},
        )
        for number, weight in enumerate((30, 50, 20), 1)
    )
    mirror = Mirror(predictor="v3", percent=10) if own.get("routing") == "gateway-api" else None
    section = {"image_pull_secrets": ["registry"], "tolerations": [{"operator": "Exists"}], "node_selector": {"a": "b"}}
    spec = EndpointSpec(
        name="digits", model="digits", predictors=predictors, stable="v1", mirror=mirror, platform={**section, **own}
    )
    return Desired(
        spec=spec,
        own=read_platform(spec, KubernetesEndpointSection),
        deployment="d1",
        version=(1, 36),
        mounts={each.name: how for each in predictors},
    )


@pytest.fixture(autouse=True, scope="module")
def definitions() -> None:
    require_cluster()
    if "inferenceservices.serving.kserve.io" not in kubectl("get", "crd", "-o", "name"):
        pytest.skip("the cluster does not have the definitions of other projects' kinds")


def test_the_http_route() -> None:
    wanted = desired(routing="gateway-api", gateway="infra/web", hosts=["digits.example.org"])
    assert problems(http_route(wanted), "httproutes.gateway.networking.k8s.io") == []


@pytest.mark.parametrize("how", ["none", "image", "loader"])
def test_the_inference_service(how: str) -> None:
    wanted = desired(how, engine="kserve")
    manifest = inference_service(wanted, {"v1": 30, "v2": 50, "v3": 20})
    assert problems(manifest, "inferenceservices.serving.kserve.io") == []


@pytest.mark.parametrize("how", ["none", "loader"])
def test_the_inferences_of_kubedl(how: str) -> None:
    wanted = desired(how, engine="kubedl")
    for each in wanted.spec.predictors:
        assert problems(inference(wanted, each), "inferences.serving.kubedl.io") == []


def test_a_field_that_a_definition_does_not_know_is_found() -> None:
    manifest = http_route(desired(routing="gateway-api", gateway="infra/web"))
    manifest["spec"]["rules"][0]["backendRefs"][0]["wieght"] = 1
    (found,) = problems(manifest, "httproutes.gateway.networking.k8s.io")
    assert "wieght" in found


def test_the_pod_of_a_task_by_our_template_fits_the_api_and_the_restricted_standard() -> None:
    """The template of docs/operations.md, rendered by the executor's own generator, as the API server has it."""
    require_cluster()
    from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import create_unique_id
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
    from kubernetes.client import ApiClient

    template = PodGenerator.deserialize_model_file(str(REPOSITORY / "include" / "kubernetes" / "pod_template.yaml"))
    pod = PodGenerator.construct_pod(
        dag_id="digits",
        task_id="train.warmup",
        pod_id=create_unique_id("digits", "train.warmup"),
        try_number=1,
        kube_image="",
        date=None,
        run_id="manual__1",
        args=["python", "-m", "airflow.sdk.execution_time.execute_workload", "--json-string", "{}"],
        pod_override_object=None,
        base_worker_pod=template,
        namespace="default",
        scheduler_job_id="1",
    )
    rendered = ApiClient().sanitize_for_serialization(pod)
    (container,) = rendered["spec"]["containers"]
    assert (container["name"], container["image"]) == ("base", template.spec.containers[0].image)
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert rendered["spec"]["securityContext"]["runAsNonRoot"] is True
    # The account is the deployment's to make.
    rendered["spec"]["serviceAccountName"] = "default"
    answer = kubectl("create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-", given=rendered)
    assert json.loads(answer)["metadata"]["labels"]["app.kubernetes.io/part-of"] == "modelway"
