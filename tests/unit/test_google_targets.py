"""What Google's endpoint targets refuse by name, and the bodies that they send."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from modelway.endpoints.base import Autoscaling, EndpointSpec, Predictor
from modelway.endpoints.cloud_run import steps as run_steps
from modelway.endpoints.cloud_run.observed import Seen as OnCloudRun
from modelway.endpoints.cloud_run.rules import limits, refused_resources
from modelway.endpoints.cloud_run.section import CloudRunSection
from modelway.endpoints.cloud_run.template import Desired as Service
from modelway.endpoints.google.steps import Patch, Wait
from modelway.endpoints.released_images import ReleasedImages
from modelway.endpoints.vertex import steps
from modelway.endpoints.vertex.bodies import Desired as OnVertex
from modelway.endpoints.vertex.bodies import recorded
from modelway.endpoints.vertex.observed import Seen
from modelway.endpoints.vertex.rules import check_own
from modelway.endpoints.vertex.section import VertexEndpointSection
from modelway.endpoints.whole_percents import whole_percents
from modelway.errors import CapabilityMissing, EndpointNotReady, ImageInvalid, InvalidSpec
from modelway.runs.monitoring import Watched
from modelway.runs.watched import watched_models
from modelway.spec.load import load_spec
from spec_samples import write_model

from tests.google import documents

GI = 1 << 30
IMAGE = "europe-west1-docker.pkg.dev/p1/models/digits@sha256:" + "1" * 64


def spec_of(*predictors: Predictor, **more: Any) -> EndpointSpec:
    return EndpointSpec(name="digits", model="digits", predictors=predictors, **more)


def version(number: int, **more: Any) -> Predictor:
    return Predictor(**{"name": f"v{number}", "version": number, "image": IMAGE, "weight": 100, **more})


@pytest.mark.parametrize("rule", ["drift: {}", "quality: {}", "volume: 1000"])
def test_rules_that_need_counts_are_refused_where_no_server_shows_them(tmp_path: Path, rule: str) -> None:
    place = "endpoint: {environments: {dev: {}, prod: {target: vertex, vertex: {region: europe-west1}}}}"
    text = f"model: digits\nimage: {{base: server}}\n{place}\nmonitor: {{{rule}, staleness: 90d}}\n"
    refused = r"1 problem .*\n.*monitor.\w+: the target 'vertex' does not show what each server counts. .* staleness"
    with pytest.raises(InvalidSpec, match=refused):
        load_spec(write_model(tmp_path, "digits", spec=text))


def test_the_age_of_a_version_is_watched_in_the_project_and_region_of_its_endpoint(tmp_path: Path) -> None:
    place = "{target: cloud_run, cloud_run: {project: my-prod, region: europe-west1}}"
    text = f"model: digits\nimage: {{base: server}}\nendpoint: {place}\nmonitor: {{staleness: 90d}}\n"
    write_model(tmp_path, "digits", spec=text)
    (watched,) = watched_models(tmp_path)
    assert watched.platform["project"] == "my-prod"
    assert Watched.from_dict(json.loads(json.dumps(watched.to_dict()))) == watched


def test_an_image_without_a_server_is_refused_where_images_run_alone(tmp_path: Path) -> None:
    text = "model: digits\nendpoint: {target: cloud_run, cloud_run: {region: europe-west1}}\n"
    with pytest.raises(InvalidSpec, match=r"runs images with a server, and image.base is scratch. Write image"):
        load_spec(write_model(tmp_path, "digits", spec=text))


@pytest.mark.parametrize(
    ("resources", "found"),
    [
        ({}, {}),
        ({"cpu": 0.5}, {"cpu": "0.5"}),
        ({"memory_bytes": 2 * GI}, {"cpu": "1", "memory": "2048Mi"}),
        ({"memory_bytes": 9 * GI}, {"cpu": "4", "memory": "9216Mi"}),
        ({"gpu": 1}, {"cpu": "4", "memory": "16384Mi", "nvidia.com/gpu": "1"}),
        ({"gpu": 1, "memory_bytes": 32 * GI}, {"cpu": "8", "memory": "32768Mi", "nvidia.com/gpu": "1"}),
    ],
)
def test_an_instance_has_the_least_cpu_that_its_memory_needs(resources: dict[str, Any], found: dict[str, str]) -> None:
    assert refused_resources(resources) is None
    assert limits(resources) == found


@pytest.mark.parametrize(
    ("host", "token"),
    [
        ("gcr.io", "secret"),
        ("eu.gcr.io", "secret"),
        ("europe-west1-docker.pkg.dev", "secret"),
        ("notgcr.io", None),
        ("gcr.io.example.org", None),
        ("notpkg.dev", None),
    ],
)
def test_only_registries_of_google_get_the_token_of_the_account(host: str, token: str | None) -> None:
    class Credentials:
        def headers(self) -> dict[str, str]:
            return {"Authorization": "Bearer secret"}

    class Api:
        credentials = Credentials()

    found: Any = ReleasedImages(Api())  # type: ignore[arg-type]
    assert found._login(host, f"{host}/p/tiny@sha256:{'1' * 64}")[1] == token


@pytest.mark.parametrize(
    ("image", "section", "refused"),
    [
        (IMAGE, {"region": "europe-west4"}, "Vertex AI in europe-west4 takes no image from europe-west1"),
        (IMAGE, {"region": "europe-west1"}, None),
        (IMAGE, {"region": "us-east1", "image_repository": "us-east1-docker.pkg.dev/my-prod/models"}, None),
        ("registry.example/digits@sha256:" + "1" * 64, {"region": "us-east1"}, None),
    ],
)
def test_an_image_of_another_region_is_refused_before_it_is_uploaded(
    image: str, section: dict[str, str], refused: str | None
) -> None:
    spec, own = spec_of(version(1, image=image)), VertexEndpointSection(**section)  # type: ignore[arg-type]
    if refused is None:
        check_own(spec, own)
        return
    with pytest.raises(CapabilityMissing, match=refused):
        check_own(spec, own)


def test_whole_percents_add_up_and_lose_nobody() -> None:
    assert whole_percents({"a": 1, "b": 1, "c": 1}, where="here") == {"a": 34, "b": 33, "c": 33}
    with pytest.raises(InvalidSpec, match=r"the share of b is 0.5 %"):
        whole_percents({"a": 995, "b": 5}, where="here")


def test_a_revision_is_named_by_all_that_it_is_made_of() -> None:
    service = Service(spec=spec_of(version(1)), own=CloudRunSection(region="europe-west1"), deployment="d")
    name = service.name_of(version(1))
    assert name.startswith("digits-v1-")
    assert service.name_of(version(1, weight=5)) == name
    assert service.name_of(version(1), 2) == f"{name}-2"
    changed = [version(1, resources={"cpu": 2}), version(1, batching={"rows": 4}), version(1, image=IMAGE[:-1] + "2")]
    assert len({name, *map(service.name_of, changed)}) == 4
    long = version(1, name="a" * 40)
    other = Service(spec=spec_of(long, stable=None), own=CloudRunSection(region="europe-west1"), deployment="d")
    assert len(other.name_of(long, 12)) <= 63
    assert len(f"{other.tag_of(long)}---digits") <= 63


def test_a_revision_of_cloud_run_as_it_is_sent() -> None:
    predictor = version(3, resources={"cpu": 2, "memory_bytes": GI}, autoscaling=Autoscaling(minimum=1, maximum=4))
    own = CloudRunSection(region="europe-west1", service_account="run@p.iam.gserviceaccount.com", network="n")
    template = Service(spec=spec_of(predictor), own=own, deployment="d").template(predictor, "digits-v3")
    (container,) = template["containers"]
    assert container["resources"] == {
        "limits": {"cpu": "2", "memory": "1024Mi"},
        "cpuIdle": True,
        "startupCpuBoost": True,
    }
    assert container["args"] == ["--threads", "2"]
    assert "PORT" not in {each["name"] for each in container["env"]}
    assert template["scaling"] == {"minInstanceCount": 1, "maxInstanceCount": 4}
    assert (template["revision"], template["timeout"]) == ("digits-v3", "300s")


KEY = "projects/p/locations/europe-west1/keyRings/k/cryptoKeys/c"
FULL = version(
    3,
    resources={"cpu": 4, "memory_bytes": 16 * GI, "gpu": 1},
    autoscaling=Autoscaling(minimum=1, maximum=4),
    batching={"rows": 8},
    model="other",
)


def test_google_reads_every_field_that_is_sent_to_cloud_run() -> None:
    """An unknown key, another type, a value of no enum or a missing field is refused, as Google refuses it."""
    own = CloudRunSection(
        region="europe-west1",
        service_account="run@p.iam.gserviceaccount.com",
        ingress="internal_and_load_balancer",
        concurrency=8,
        network="n",
        subnet="s",
        kms_key=KEY,
        labels={"team": "a"},
    )
    service = Service(spec=spec_of(FULL), own=own, deployment="d")
    body = {
        **service.service(),
        "template": service.template(FULL, "digits-v3"),
        "traffic": service.traffic({"v3": "r"}),
    }
    sent = json.loads(json.dumps(body))
    method = documents.method("run.projects.locations.services.create")
    assert method.check_body(sent) == sent, "and none of it is of the answer alone"
    ingress = method.schemas["GoogleCloudRunV2Service"]["properties"]["ingress"]["enum"]
    for word in ("all", "internal", "internal_and_load_balancer"):
        assert replace(service, own=own.model_copy(update={"ingress": word})).service()["ingress"] in ingress


def test_google_reads_every_field_that_is_sent_to_vertex() -> None:
    own = VertexEndpointSection(
        region="europe-west1",
        service_account="run@p.iam.gserviceaccount.com",
        machine_type="g2-standard-4",
        accelerator="NVIDIA_L4",
        spot=True,
        labels={"team": "a"},
        kms_key=KEY,
    )
    alone = OnVertex(spec=spec_of(FULL), own=own, parent="projects/p/locations/europe-west1", deployment="d")
    pooled = replace(alone, own=own.model_copy(update={"pool": "shared", "route": "predict"}))
    memory = steps.Memory()
    longer = replace(alone.spec, platform={"answer_within": "1h", "kms_key": KEY})
    seen = Seen({**alone.endpoint(), "name": "x/endpoints/digits", "description": recorded(longer)})
    update = steps.next_step(alone, seen, memory, patience=600)
    assert isinstance(update, steps.Start)
    assert update.path == "endpoints/digits:update"
    for name, body in (
        ("endpoints.create", alone.endpoint()),
        ("endpoints.update", update.body),
        ("models.upload", alone.upload(FULL)),
        ("models.upload", pooled.upload(FULL)),
        ("endpoints.deployModel", alone.deploy(FULL, "3")),
        ("endpoints.deployModel", pooled.deploy(FULL, "3")),
        ("deploymentResourcePools.create", pooled.pool_body()),
    ):
        sent = json.loads(json.dumps(body))
        assert documents.method(f"aiplatform.projects.locations.{name}").check_body(sent) == sent


CONDITION = documents.methods("run")[0].schemas["GoogleCloudRunV2Condition"]["properties"]


@pytest.mark.parametrize(
    ("key", "reason", "kind", "do"),
    [
        ("reason", "CONTAINER_PERMISSION_DENIED", EndpointNotReady, "Grant roles/artifactregistry.reader on"),
        ("reason", "CONTAINER_MISSING", ImageInvalid, "Check that the image is pushed"),
        ("reason", "CONTAINER_IMAGE_UNAUTHORIZED", EndpointNotReady, "Binary Authorization"),
        ("reason", "ENCRYPTION_KEY_PERMISSION_DENIED", EndpointNotReady, "cryptoKeyEncrypterDecrypter"),
        ("reason", "VPC_NETWORK_NOT_FOUND", EndpointNotReady, "Check cloud_run.network"),
        ("revisionReason", "HEALTH_CHECK_CONTAINER_ERROR", ImageInvalid, r"Read its log \(https://log\)"),
        ("reason", "BRAND_NEW", EndpointNotReady, r"Read its log \(https://log\)"),
    ],
)
def test_why_a_revision_cannot_begin_says_what_to_do(key: str, reason: str, kind: type[Exception], do: str) -> None:
    assert (reason in CONDITION[key]["enum"]) == (reason != "BRAND_NEW"), "it is a name of Google's"
    service = Service(spec=spec_of(version(1)), own=CloudRunSection(region="europe-west1"), deployment="d")
    name = service.name_of(version(1))
    condition = {"type": "Ready", "state": "CONDITION_FAILED", key: reason, "message": "It cannot be."}
    revision = {"name": f"services/digits/revisions/{name}", "conditions": [condition], "logUri": "https://log"}
    seen = OnCloudRun({"name": "services/digits", "labels": service.labels}, {name: revision})
    found = run_steps.next_step(service, seen, {"v1": name}, run_steps.Memory(), patience=600)
    assert isinstance(found, run_steps.Fail)
    assert isinstance(found.error, kind)
    assert re.search(f"It cannot be.*{do}.*; the split is as it was", str(found.error))


def test_a_deployed_model_has_the_number_of_its_version_unless_another_one_has_it() -> None:
    own = VertexEndpointSection(region="europe-west1")
    first, again = version(3), version(3, image=IMAGE[:-1] + "2")
    spec = spec_of(first)
    place = OnVertex(spec=spec, own=own, parent="projects/p/locations/r", deployment="d")
    assert place.deployed_id(first, {}) == "3"
    taken = {"3": place.model_id(first)}
    assert place.deployed_id(first, taken) == "3"
    other = place.deployed_id(again, taken)
    assert len(other) == 10
    assert other.isdigit()
    assert place.deployed_id(again, {**taken, other: place.model_id(again)}) == other
    assert len(place.deployed_id(version(3, name="old"), {})) == 10


@pytest.mark.parametrize(
    ("weights", "step"), [((100, 0), Patch), ((0, 100), Patch), ((50, 50), Patch), ((0, 0, 100), Wait)]
)
def test_a_version_that_may_be_being_undeployed_gets_no_request(weights: tuple[int, ...], step: type) -> None:
    """It is listed until it is; a split among versions that have requests waits for nothing."""
    shares = (20, 80, 0)
    versions = [version(number, weight=weight) for number, weight in enumerate(shares, start=1)]
    section = VertexEndpointSection(region="europe-west1", project="my-project")
    before = OnVertex(spec=spec_of(*versions), own=section, parent="projects/p/locations/r", deployment="d")
    ids = Seen({"name": "endpoints/digits"}).ids(before)
    deployed = [{"id": ids[each.name], "model": f"x/models/{before.model_id(each)}"} for each in versions]
    endpoint = {
        "name": "endpoints/digits",
        "labels": before.labels,
        "description": recorded(before.spec),
        "deployedModels": deployed,
        "trafficSplit": before.split(ids),
    }
    seen = Seen(endpoint, frozenset(map(before.model_id, versions)), running=("endpoints/digits/operations/1",))
    wanted = [replace(each, weight=weight) for each, weight in zip(versions, weights, strict=False)]
    found = steps.next_step(replace(before, spec=spec_of(*wanted)), seen, steps.Memory(), patience=600)
    assert isinstance(found, step)


def test_what_takes_too_long_is_cancelled_first_also_when_nobody_looked_for_a_while() -> None:
    section = VertexEndpointSection(region="europe-west1", project="my-project")
    desired = OnVertex(spec=spec_of(version(1)), own=section, parent="projects/p/locations/r", deployment="d")
    what, long_ago = "version 1 to be deployed", time.time() - 3000
    memory = steps.Memory(operations={"operations/1": what}, since={what: long_ago})
    found = [steps.next_step(desired, None, memory, patience=600) for _ in range(2)]
    assert found == [steps.Cancel(operations=("operations/1",)), Wait(what=f"{what}, which was cancelled")]
    memory.since = dict.fromkeys(memory.since, long_ago)
    assert "does not end" in str(steps.next_step(desired, None, memory, patience=600))
