"""Endpoints on Google Cloud keep the promises of their port: our servers behind a fake with Google's rules."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from modelway.endpoints.base import (
    Endpoint,
    EndpointStatus,
    load_endpoint,
    request_headers,
)
from modelway.endpoints.cloud_run.observed import Seen
from modelway.endpoints.cloud_run.place import Place
from modelway.errors import EndpointNotReady, ImageInvalid, InvalidSpec
from modelway.lineage.records.version import RolloutRecord
from modelway.platforms.google.connection import Source
from modelway.platforms.google.exchange import Retries
from modelway.platforms.google.rest import GoogleApi
from modelway.runs import rollout_record
from modelway.runs.predictor import read_signature

from tests.endpoint_clients import Client, ask, eventually
from tests.endpoint_promises import (  # noqa: F401
    Make,
    Target,
    test_a_new_version_comes_and_goes_many_times_under_load,
    test_a_version_that_cannot_be_loaded_leaves_the_split_as_it_is,
    test_answers_come_from_the_version_that_the_header_names,
    test_apply_twice_changes_nothing,
    test_bad_weights_are_refused,
    test_delete_leaves_no_process,
    test_endpoint_that_is_not_there,
    test_same_version_from_another_image_is_replaced_without_a_gap,
    test_split_is_exact,
    test_stopped_endpoint_comes_back_as_it_was,
    test_two_applies_at_once_come_one_after_the_other,
    test_weights_change_under_load_without_one_failed_request,
)
from tests.google.cloud_run import CloudRun
from tests.google.counted import Monitoring
from tests.google.endpoints import PROJECT, REGION, pushed_images, serving_fake
from tests.google.fake import CUT, LOST_ANSWER, NOT_DONE, GoogleFake
from tests.google.vertex_endpoints import VertexEndpoints
from tests.system.registry import needs_registry
from tests.tiny_endpoint import tiny_spec
from tests.tiny_model import infer_body

pytestmark = needs_registry
KINDS = {"cloud_run": CloudRun, "vertex": VertexEndpoints}
PLACE = {"project": PROJECT, "region": REGION}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int | str, str]]:
    with pushed_images(tmp_path_factory.mktemp("images")) as found:
        yield found


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[GoogleFake]:
    with serving_fake(tmp_path / "google") as found:
        yield found


@pytest.fixture(params=sorted(KINDS))
def endpoint(request: pytest.FixtureRequest, fake: GoogleFake, tmp_path: Path) -> Endpoint:
    return opened(request.param, fake, tmp_path)


def opened(kind: str, fake: GoogleFake, folder: Path) -> Endpoint:
    api = GoogleApi(fake.connection(), retries=Retries(pause_seconds=0.01))
    found: Any = load_endpoint(kind, root=folder / "home" / "endpoints", client=api, platform=PLACE)
    found.poll_seconds = 0.05
    return found  # type: ignore[no-any-return]


@pytest.fixture
def spec(images: dict[int | str, str]) -> Make:
    return lambda weights, stable=1, **platform: tiny_spec(images, weights, stable, **{**PLACE, **platform})


class Served:
    """What the fake runs."""

    requests = 500
    of_broken = r"version 4 cannot be served: .*(failed to start|exited unexpectedly)"

    def __init__(self, service: Any) -> None:
        self._service = service

    def process_at(self, url: str) -> object:
        return url

    def runs(self, servers: int) -> bool:
        eventually(lambda: len(self._service.servers()) == servers)
        return True

    def is_silent(self, url: str) -> bool:
        try:
            return {code for code, *_ in ask(url, 1)} <= {404, 503}
        except OSError:
            return True


@pytest.fixture
def target(endpoint: Endpoint, fake: GoogleFake) -> Target:
    return Served(fake.service(KINDS[type(endpoint).__module__.split(".")[2]]))


def service_of(endpoint: Endpoint, fake: GoogleFake) -> Any:
    return fake.service(KINDS[kind_of(endpoint)])


def kind_of(endpoint: Endpoint) -> str:
    return type(endpoint).__module__.split(".")[2]


#: the calls that change something, in the order of a change
CALLS = {
    "cloud_run": ("run.projects.locations.services.create", "run.projects.locations.services.patch"),
    "vertex": (
        "aiplatform.projects.locations.endpoints.create",
        "aiplatform.projects.locations.models.upload",
        "aiplatform.projects.locations.endpoints.deployModel",
        "aiplatform.projects.locations.endpoints.patch",
    ),
}
MOVES = {kind: calls[-1] for kind, calls in CALLS.items()}


FAULTS = (LOST_ANSWER, CUT, NOT_DONE, 503)


def test_a_change_whose_answers_are_lost_is_made_once(
    endpoint: Endpoint, fake: GoogleFake, spec: Make, target: Target
) -> None:
    """The first of each call that changes something is not answered, and further ones in other ways."""
    first, *others = CALLS[kind_of(endpoint)]
    fake.fail(first, LOST_ANSWER)
    for call in others:
        for fault in FAULTS[:3]:
            fake.fail(call, fault)
    status = endpoint.apply(spec({1: 90, 2: 10}))
    assert status.ready
    assert [(one.name, one.weight) for one in status.predictors] == [("v1", 90), ("v2", 10)]
    assert target.runs(2)
    for weight, fault in zip((20, 40, 60, 80), FAULTS, strict=True):
        fake.fail(MOVES[kind_of(endpoint)], fault)
        moved = endpoint.set_weights("tiny", {"v1": 100 - weight, "v2": weight})
        assert [one.weight for one in moved.predictors] == [100 - weight, weight]


def test_any_process_continues_a_change_that_another_began(
    endpoint: Endpoint, fake: GoogleFake, spec: Make, target: Target, tmp_path: Path
) -> None:
    """Each look is made by a process that knows nothing but the spec: as if every one was killed after its call."""
    wanted = spec({1: 50, 2: 50})
    found: object = None

    def made() -> bool:
        nonlocal found
        found = opened(kind_of(endpoint), fake, tmp_path).advance(wanted)  # type: ignore[attr-defined]
        return isinstance(found, EndpointStatus)

    eventually(made, patience=120)
    assert isinstance(found, EndpointStatus)
    assert found.ready
    assert {version for _, version, _ in ask(found.url, 60)} == {"1", "2"}
    assert target.runs(2)
    for call in CALLS[kind_of(endpoint)][:-1]:
        # One per version at most, and the endpoint once.
        assert len(fake.calls(call)) <= 2


def test_a_version_that_never_becomes_ready_gets_no_traffic(
    endpoint: Endpoint, fake: GoogleFake, spec: Make, target: Target
) -> None:
    before = endpoint.apply(spec({1: 100}))
    service = service_of(endpoint, fake)
    service.held.add("2")
    endpoint.ready_timeout = 1.0  # type: ignore[attr-defined]
    with pytest.raises(EndpointNotReady, match="not (ready|done) after 1 s"):
        endpoint.apply(spec({1: 50, 2: 50}))
    assert endpoint.status("tiny") == before
    assert {version for _, version, _ in ask(before.url, 20)} == {"1"}
    # Once nothing keeps it from becoming ready, the same is applied again.
    service.held.clear()
    endpoint.ready_timeout = 120.0  # type: ignore[attr-defined]
    assert endpoint.apply(spec({1: 50, 2: 50})).ready


def test_a_new_endpoint_whose_version_fails_leaves_nothing(
    endpoint: Endpoint, fake: GoogleFake, spec: Make, images: dict[int | str, str], target: Target
) -> None:
    (good,) = spec({1: 100}).predictors
    broken = replace(spec({1: 100}), predictors=(replace(good, version=4, name="v4", image=images["broken"]),))
    with pytest.raises(ImageInvalid, match="version 4 cannot be served"):
        endpoint.apply(replace(broken, stable="v4"))
    assert target.runs(0)
    status = endpoint.apply(spec({1: 100}))
    assert status.ready
    assert [one.name for one in status.predictors] == ["v1"]


def test_of_two_changes_at_once_neither_is_lost(
    endpoint: Endpoint, fake: GoogleFake, spec: Make, tmp_path: Path
) -> None:
    """Somebody else's change comes between reading and writing: the etag is not the newest, and it is made anew."""
    endpoint.apply(spec({1: 100, 2: 0}))
    for status in (409, 409):
        fake.fail(MOVES[kind_of(endpoint)], status)
    assert [one.weight for one in endpoint.set_weights("tiny", {"v1": 60, "v2": 40}).predictors] == [60, 40]
    errors: list[Exception] = []

    def change(weight: int) -> None:
        try:
            other = opened(kind_of(endpoint), fake, tmp_path)
            other.set_weights("tiny", {"v1": 100 - weight, "v2": weight})
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=change, args=(weight,)) for weight in (10, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    found = endpoint.status("tiny")
    assert found is not None
    assert [one.weight for one in found.predictors] in [[90, 10], [80, 20], [70, 30]]


def test_shares_are_whole_per_cents_and_smaller_ones_are_refused(endpoint: Endpoint, spec: Make) -> None:
    status = endpoint.apply(spec({1: 1, 2: 1, 3: 1}))
    shares = [one.weight for one in status.predictors]
    assert shares in ([34, 33, 33], [1, 1, 1])
    with pytest.raises(InvalidSpec, match=r"the share of v2 is 0.1 %, and is split in whole per cents"):
        endpoint.set_weights("tiny", {"v1": 999, "v2": 1})
    assert endpoint.status("tiny") == status


def test_an_endpoint_of_another_airflow_is_left_alone(
    endpoint: Endpoint, fake: GoogleFake, spec: Make, tmp_path: Path
) -> None:
    before = endpoint.apply(spec({1: 100}))
    other = opened(kind_of(endpoint), fake, tmp_path / "other")
    assert other.status("tiny") is None
    with pytest.raises(InvalidSpec, match="'tiny' that is not of this Airflow"):
        other.apply(spec({2: 100}, stable=2))
    other.delete("tiny")
    assert (endpoint.status("tiny"), endpoint.names(), other.names()) == (before, ("tiny",), ())


def test_a_split_that_was_changed_by_hand_is_drift_until_the_next_apply(
    endpoint: Endpoint, fake: GoogleFake, spec: Make
) -> None:
    status = endpoint.apply(spec({1: 80, 2: 20}))
    other = opened(kind_of(endpoint), fake, Path(endpoint.root).parents[1])  # type: ignore[attr-defined]
    other.set_weights("tiny", {"v1": 50, "v2": 50})
    changed = endpoint.status("tiny")
    assert changed is not None
    assert [one.weight for one in changed.predictors] == [50, 50]
    assert endpoint.apply(spec({1: 80, 2: 20})) == status


def test_counts_are_of_the_split_that_is(endpoint: Endpoint, fake: GoogleFake, spec: Make) -> None:
    status = endpoint.apply(spec({1: 100, 2: 0}))
    ask(status.url, 10)
    counts = endpoint.metrics("tiny")
    assert [one.requests for one in counts.values()] == [10, 0]
    assert sum(counts["v1"].latency.values()) == 10
    endpoint.set_weights("tiny", {"v1": 0, "v2": 100})
    moved = endpoint.metrics("tiny")
    assert [one.requests for one in moved.values()] == [0, 0], "requests of before are in no test of the new split"
    assert moved["v1"].since > counts["v1"].since
    # What is a minute old is not shown yet.
    fake.service(Monitoring).late_seconds = 60
    ask(status.url, 5)
    endpoint._counts.fresh_seconds = 0.0  # type: ignore[attr-defined]
    assert [one.requests for one in endpoint.metrics("tiny").values()] == [0, 0]
    fake.service(Monitoring).late_seconds = 0
    assert [one.requests for one in endpoint.metrics("tiny").values()] == [0, 5]


@pytest.fixture
def cloud_run(fake: GoogleFake, tmp_path: Path) -> Endpoint:
    return opened("cloud_run", fake, tmp_path)


def test_traffic_that_cloud_run_does_not_move_stays(cloud_run: Endpoint, fake: GoogleFake, spec: Make) -> None:
    """The operation ends without its effect after the new split was accepted."""
    before = cloud_run.apply(spec({1: 100, 2: 0}))
    fake.service(CloudRun).refused_splits = 1
    with pytest.raises(EndpointNotReady, match="Cloud Run did not move the traffic: .*internal error"):
        cloud_run.set_weights("tiny", {"v1": 50, "v2": 50})
    after = cloud_run.status("tiny")
    assert after == before
    assert {version for _, version, _ in ask(before.url, 20)} == {"1"}
    assert [one.weight for one in cloud_run.set_weights("tiny", {"v1": 50, "v2": 50}).predictors] == [50, 50]


def test_a_split_that_a_later_one_replaced_is_not_requested_again(
    cloud_run: Endpoint, spec: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two callers would replace each other's again and again."""
    cloud_run.apply(spec({1: 100, 2: 0}))
    patch, calls = Place.patch, []

    def patch_twice(place: Place, seen: Seen, body: dict[str, Any], mask: tuple[str, ...]) -> None:
        patch(place, seen, body, mask)
        later = place.seen("tiny")
        assert later is not None
        patch(place, later, {"traffic": [{**each, "percent": 50} for each in body["traffic"]]}, mask)
        calls.append(mask)

    monkeypatch.setattr(Place, "patch", patch_twice)
    assert [one.weight for one in cloud_run.set_weights("tiny", {"v1": 90, "v2": 10}).predictors] == [50, 50]
    assert calls == [("traffic",)]


def test_a_version_of_which_every_revision_failed_is_refused(
    cloud_run: Endpoint, spec: Make, images: dict[int | str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelway.endpoints.cloud_run.endpoint._MOST_ATTEMPTS", 2)
    before = cloud_run.apply(spec({1: 100}))
    (good,) = spec({1: 100}).predictors
    broken = replace(good, version=4, name="v4", image=images["broken"], weight=0)
    wanted = replace(spec({1: 100}), predictors=(good, broken))
    with pytest.raises(ImageInvalid):
        cloud_run.apply(wanted)
    with pytest.raises(EndpointNotReady, match="1 revisions of v4 have failed") as refused:
        cloud_run.apply(wanted)
    assert not refused.value.retryable
    assert cloud_run.status("tiny") == before


def test_a_service_that_follows_the_latest_revision_is_pinned_before_a_new_one(
    cloud_run: Endpoint, fake: GoogleFake, spec: Make
) -> None:
    """By hand, as the console does it: a new revision would get all requests as soon as it is ready."""
    status = cloud_run.apply(spec({1: 100}))
    place: Any = cloud_run
    service = place.place.seen("tiny")
    latest = {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}
    place.place.patch(service, {"traffic": [latest]}, ("traffic",))
    fake.service(CloudRun).held.add("2")
    place.ready_timeout = 1.0
    with pytest.raises(EndpointNotReady):
        cloud_run.apply(spec({1: 50, 2: 50}))
    fake.service(CloudRun).held.clear()
    eventually(lambda: not place.place.seen("tiny").is_changing)
    assert {version for _, version, _ in ask(status.url, 20)} == {"1"}


def test_tags_that_were_set_by_hand_are_drift_and_disturb_nothing(
    cloud_run: Endpoint, fake: GoogleFake, spec: Make
) -> None:
    """On a version's revision, on the latest one, and on a revision that was made by hand."""
    before = cloud_run.apply(spec({1: 80, 2: 20}))
    place: Any = cloud_run.place  # type: ignore[attr-defined]
    service = place.seen("tiny")
    template = {**service.service["template"], "revision": "tiny-mine", "annotations": {}}
    tagged = [
        *service.pinned(),
        {**service.pinned()[0], "percent": 0, "tag": "probe"},
        {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "tag": "newest"},
        {"type": service.pinned()[0]["type"], "revision": "tiny-mine", "percent": 0, "tag": "v3"},
    ]
    place.patch(service, {"template": template, "traffic": tagged}, ("template", "traffic"))
    eventually(lambda: not place.seen("tiny").is_changing)
    found = cloud_run.status("tiny")
    assert found is not None
    assert found.predictors == before.predictors
    first = service.pinned()[0]["revision"]
    assert found.drift == (
        f"the tag 'probe' is on {first}",
        "the tag 'newest' is on the latest revision",
        "the tag 'v3' is on tiny-mine",
    )
    assert list(cloud_run.metrics("tiny")) == ["v1", "v2"]
    moved = cloud_run.set_weights("tiny", {"v1": 50, "v2": 50})
    assert [(one.name, one.weight) for one in moved.predictors] == [("v1", 50), ("v2", 50)]
    service = place.seen("tiny")
    latest = {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "tag": "newest"}
    place.patch(service, {"traffic": [*service.pinned(), latest]}, ("traffic",))
    eventually(lambda: not place.seen("tiny").is_changing)
    status = cloud_run.apply(spec({1: 80, 2: 20}))
    assert (status.predictors, status.drift) == (before.predictors, ())


def test_callers_of_a_service_that_is_not_public_need_a_token(fake: GoogleFake, spec: Make, tmp_path: Path) -> None:
    fake.service(CloudRun).checks_callers = True
    key = fake.key()
    api = GoogleApi(fake.connection(source=Source.KEY, key=key), retries=Retries(pause_seconds=0.01))
    found: Any = load_endpoint("cloud_run", root=tmp_path / "home" / "endpoints", client=api, platform=PLACE)
    found.poll_seconds = 0.05
    status = found.apply(spec({1: 100}))
    with closing(Client(status.url)) as client:
        assert client.ask()[0] == 403
    headers = found.request_headers(status.url)
    assert httpx.get(f"{status.url}/v2/models/tiny", headers=headers).json()["versions"] == ["1"]
    assert found.demanded_token(status.url) == {"kind": "identity", "audience": status.url}
    public = found.apply(spec({1: 100}, public=True))
    with closing(Client(public.url)) as client:
        assert client.ask()[0] == 200


def test_signature_and_golden_inputs_of_a_version_without_traffic(endpoint: Endpoint, spec: Make) -> None:
    status = endpoint.apply(spec({1: 100, 2: 0}))
    url = status.predictors[1].url
    found = read_signature(url=url, model="tiny", version=2, authorised=request_headers(endpoint, url))
    assert (list(found.inputs), list(found.outputs)) == (["x"], ["y"])
    assert ask(url, 2) == [(200, "2", 2.0)] * 2


def test_vertex_predict_takes_instances_and_open_inference(fake: GoogleFake, spec: Make, tmp_path: Path) -> None:
    vertex = opened("vertex", fake, tmp_path)
    status = vertex.apply(spec({2: 100}, stable=2, route="predict"))
    assert status.url.endswith("/endpoints/tiny:rawPredict")
    assert [one.url for one in status.predictors] == [""]
    raw = httpx.post(status.url, json=infer_body())
    assert raw.json()["outputs"][0]["data"] == [2.0] * 4
    predicted = httpx.post(status.url.replace(":rawPredict", ":predict"), json={"instances": [[1, 2, 3, 4]]})
    assert predicted.json() == {"predictions": [[2, 4, 6, 8]]}


def test_a_change_of_machines_that_fails_on_vertex_leaves_every_version_deployed(
    fake: GoogleFake, spec: Make, images: dict[int | str, str], tmp_path: Path
) -> None:
    """Also those without traffic."""
    vertex: Any = opened("vertex", fake, tmp_path)
    before = vertex.apply(spec({1: 100, 2: 0}))
    wanted = spec({1: 100, 2: 0}, machine_type="n1-standard-4")
    broken = replace(wanted.predictors[0], version=4, name="v4", image=images["broken"], weight=0)
    with pytest.raises(ImageInvalid, match="version 4 cannot be served"):
        vertex.apply(replace(wanted, predictors=(broken, *wanted.predictors)))
    eventually(lambda: not vertex.place.running("tiny"))
    assert vertex.status("tiny") == before


def test_versions_on_vertex_share_the_machines_of_a_pool(fake: GoogleFake, spec: Make, tmp_path: Path) -> None:
    vertex = opened("vertex", fake, tmp_path)
    assert vertex.apply(spec({1: 50, 2: 50}, pool="shared")).ready
    bodies = [one.body["deployedModel"] for one in fake.calls("aiplatform.projects.locations.endpoints.deployModel")]
    assert {body["sharedResources"].rpartition("/")[2] for body in bodies} == {"shared"}
    assert [body["id"] for body in bodies] == ["1", "2"]
    assert len(fake.calls("aiplatform.projects.locations.deploymentResourcePools.create")) == 1


@pytest.mark.parametrize("fails", [False, True])
def test_a_step_of_a_rollout_is_judged_by_what_google_counted(
    endpoint: Endpoint, fake: GoogleFake, spec: Make, fails: bool
) -> None:
    """From 0 to 50 %: the counts are a version's own, and a version that answers with errors loses the step."""
    status = endpoint.apply(spec({1: 100, 2: 0}))
    ask(status.url, 5)
    detail = {"stable": 1, "already_served": False}
    record = RolloutRecord(
        endpoint="tiny", run_id="tiny/run-2", model="tiny", version=2, state="running", detail=detail
    )
    settings = rollout_record.Settings(steps=[50, 100], interval_seconds=0, minimum_requests=20)
    record = rollout_record.planned(record, settings, target=kind_of(endpoint))
    status = endpoint.set_weights("tiny", {"v1": 50, "v2": 50})
    record = rollout_record.begun(record, metrics=endpoint.metrics("tiny"), restarts=0, now=time.time())
    if fails:
        service_of(endpoint, fake).failing.add("2")
    codes = [code for code, *_ in ask(status.url, 100)]
    endpoint._counts.fresh_seconds = 0.0  # type: ignore[attr-defined]
    record, verdict = rollout_record.looked(
        record, status=status, metrics=endpoint.metrics("tiny"), now=time.time() + 1
    )
    assert verdict.action == ("rollback" if fails else "promote"), verdict.reason
    evidence = rollout_record.evidence_of(record)
    assert evidence is not None
    assert evidence.canary_step.requests + evidence.stable_step.requests == 100
    assert evidence.canary_step.errors == codes.count(500)
    assert evidence.stable_step.errors == 0
