"""The trigger of a change that takes minutes: it ends with what the change ends with, and shows life meanwhile."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from modelway.endpoints.base import Change, EndpointSpec, Predictor, load_endpoint, remove
from modelway.errors import EndpointNotReady, ImageInvalid
from modelway.platforms.google.errors import GoogleError
from modelway.platforms.google.exchange import Retries
from modelway.platforms.google.rest import GoogleApi
from modelway.triggers.endpoint import EndpointTrigger, failure_of

from tests.endpoint_clients import ask, eventually
from tests.google.cloud_run import CloudRun
from tests.google.endpoints import PROJECT, REGION, pushed_images, serving_fake
from tests.google.fake import GoogleFake
from tests.google.vertex_endpoints import VertexEndpoints
from tests.system.registry import needs_registry

pytestmark = needs_registry
KINDS = {"cloud_run": CloudRun, "vertex": VertexEndpoints}
CREATES = {
    "cloud_run": "run.projects.locations.services.create",
    "vertex": "aiplatform.projects.locations.endpoints.create",
}
CANCEL = "aiplatform.projects.locations.endpoints.operations.cancel"
UNDEPLOY = "aiplatform.projects.locations.endpoints.undeployModel"
PLACE = {"project": PROJECT, "region": REGION}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int | str, str]]:
    with pushed_images(tmp_path_factory.mktemp("images")) as found:
        yield found


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[GoogleFake]:
    with serving_fake(tmp_path / "google") as found:
        yield found


@pytest.fixture
def port(kind: str, fake: GoogleFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)
    api = GoogleApi(fake.connection(), retries=Retries(pause_seconds=0.01))
    found: Any = load_endpoint(kind, root=tmp_path / "home" / "endpoints", client=api, platform=PLACE)
    found.poll_seconds = 0.05
    monkeypatch.setattr("modelway.triggers.endpoint.open_endpoint", lambda *_, **__: found)
    yield found
    api.close()


def spec_of(*served: tuple[int, str, int]) -> EndpointSpec:
    predictors = tuple(
        Predictor(name=f"v{version}", version=version, image=image, weight=weight) for version, image, weight in served
    )
    return EndpointSpec(name="tiny", model="tiny", predictors=predictors, stable=predictors[0].name, platform=PLACE)


def followed(kind: str, spec: EndpointSpec, change: object, meanwhile: Callable[[], object] = lambda: None) -> Any:
    """Follow a change, as another process does that has the trigger from its record; return the event."""
    assert isinstance(change, Change)
    trigger = EndpointTrigger(
        target=kind, platform=PLACE, spec=asdict(spec), change=asdict(change), run="tiny/run-1", poll_interval=0.05
    )
    _, arguments = trigger.serialize()
    again = EndpointTrigger(**json.loads(json.dumps(arguments)))

    async def follow() -> Mapping[str, Any]:
        fires = asyncio.ensure_future(anext(again.run()))
        await asyncio.to_thread(meanwhile)
        return (await asyncio.wait_for(fires, 120)).payload  # type: ignore[no-any-return]

    return json.loads(json.dumps(asyncio.run(follow())))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_version_that_is_never_ready_ends_the_change_once(
    kind: str, port: Any, fake: GoogleFake, images: dict[int | str, str]
) -> None:
    service: Any = fake.service(KINDS[kind])
    service.held.add("1")
    port.ready_timeout = 0.5
    spec = spec_of((1, images[1], 100))
    error = failure_of(followed(kind, spec, port.advance(spec)))
    assert isinstance(error, EndpointNotReady)
    assert "after 0.5 s" in str(error)
    assert error.retryable
    assert len(fake.calls(CREATES[kind])) == 1, "nothing is made anew"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_image_that_is_missing_ends_the_change_once(
    kind: str, port: Any, fake: GoogleFake, images: dict[int | str, str]
) -> None:
    spec = spec_of((1, images[1].partition("@")[0] + "@sha256:" + "0" * 64, 100))
    error = failure_of(followed(kind, spec, Change(waits_for="the service")))
    assert isinstance(error, ImageInvalid)
    assert not error.retryable
    assert len(fake.calls(CREATES[kind])) == 1, "nothing is made anew"


@pytest.mark.parametrize("kind", ["cloud_run"])
def test_a_platform_that_does_not_answer_is_waited_for_and_the_rollout_shows_life(
    kind: str, port: Any, fake: GoogleFake, images: dict[int | str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another Airflow takes a rollout for dead of which nothing is recorded for an hour."""
    shown: list[tuple[str, str]] = []
    monkeypatch.setattr("modelway.triggers.life.LIFE_SECONDS", 0.0)
    monkeypatch.setattr("modelway.triggers.life.show_life", lambda _, *, endpoint, run: shown.append((endpoint, run)))
    spec = spec_of((1, images[1], 100))
    change = port.advance(spec)
    for _ in range(10):
        fake.fail("run.projects.locations.services.get", 503)
    assert failure_of(followed(kind, spec, change)) is None
    assert port.status("tiny").ready
    assert set(shown) == {("tiny", "tiny/run-1")}
    assert len(shown) > 1


@pytest.mark.parametrize("kind", ["vertex"])
@pytest.mark.parametrize(("status", "do"), [(503, "Try again"), (401, "Renew the credentials")])
def test_no_answer_and_expired_credentials_end_the_wait_and_the_task_meets_them(
    kind: str,
    status: int,
    do: str,
    port: Any,
    fake: GoogleFake,
    images: dict[int | str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the middle of a change, which continues afterwards from what there is."""
    monkeypatch.setattr("modelway.triggers.endpoint._SILENCE_SECONDS", 0.2)
    spec = spec_of((1, images[1], 100))
    change = port.advance(spec)
    fake.fail("*", status, times=10_000)
    event = followed(kind, spec, change)
    assert failure_of(event) is None
    with pytest.raises(GoogleError, match=do):
        port.advance(spec, Change(**event["change"]))
    fake._faults.clear()
    assert port.apply(spec).ready
    assert len(fake.calls(CREATES[kind])) == 1


@pytest.mark.parametrize("kind", ["vertex"])
def test_a_version_that_vertex_deploys_too_late_is_undeployed(
    kind: str, port: Any, fake: GoogleFake, images: dict[int | str, str]
) -> None:
    """Its operation is cancelled; where that does not help, what comes of it is undeployed: it would be paid for."""
    port.apply(spec_of((1, images[1], 100)))
    service: Any = fake.service(VertexEndpoints)
    service.held.add("2")
    service.ignores_cancel = True
    port.ready_timeout = 3.0
    spec = spec_of((1, images[1], 50), (2, images[2], 50))

    def deploys_late() -> None:
        port.ready_timeout = 600.0
        service.held.clear()

    service.when_cancelled = deploys_late
    error = failure_of(followed(kind, spec, port.advance(spec)))
    assert len(fake.calls(CANCEL)) == 1
    assert "version 2 to be deployed: not done after" in str(error)
    assert "was cancelled" in str(error)
    eventually(lambda: len(service.servers()) == 1, patience=60)
    assert [(each.name, each.weight) for each in port.status("tiny").predictors] == [("v1", 100)]
    # One that ends when it is cancelled leaves nothing to undeploy.
    service.when_cancelled = lambda: None
    service.ignores_cancel, port.ready_timeout = False, 0.2
    service.held.add("3")
    spec = spec_of((1, images[1], 50), (3, images[3], 50))
    undeployed = len(fake.calls(UNDEPLOY))
    assert isinstance(failure_of(followed(kind, spec, port.advance(spec))), EndpointNotReady)
    assert len(fake.calls(UNDEPLOY)) == undeployed
    assert len(service.servers()) == 1


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_task_removes_an_endpoint_without_waiting(
    kind: str, port: Any, fake: GoogleFake, images: dict[int | str, str]
) -> None:
    """What the platform still has of it answers nobody, and is used or removed by whoever comes next."""
    service: Any = fake.service(KINDS[kind])
    url = port.apply(spec_of((1, images[1], 100))).url
    remove(port, "tiny")
    assert (port.status("tiny"), port.names()) == (None, ())
    eventually(lambda: service.servers() == [])
    with suppress(ConnectionError):
        assert {code for code, *_ in ask(url, 1)} <= {404, 503}
    remove(port, "tiny")
    assert port.apply(spec_of((2, images[2], 100))).ready
    eventually(lambda: len(service.servers()) == 1)
    remove(port, "tiny")
    port.delete("tiny")
    assert port.place.find("tiny") is None
    eventually(lambda: service.servers() == [])


@pytest.mark.parametrize("kind", ["vertex"])
def test_a_removal_that_breaks_off_is_seen_and_begun_again(
    kind: str, port: Any, fake: GoogleFake, images: dict[int | str, str]
) -> None:
    """Else its machine would be paid for, and nothing would name it."""
    service: Any = fake.service(VertexEndpoints)
    port.apply(spec_of((1, images[1], 100)))
    fake.fail(UNDEPLOY, 403)
    with pytest.raises(GoogleError):
        remove(port, "tiny")
    assert len(service.servers()) == 1
    assert port.status("tiny").stopped
    fake.fail(UNDEPLOY, 409)
    remove(port, "tiny")
    assert port.status("tiny") is None
    eventually(lambda: service.servers() == [])


@pytest.mark.parametrize("kind", ["cloud_run"])
def test_a_service_that_is_still_being_removed_is_waited_for(
    kind: str, port: Any, fake: GoogleFake, images: dict[int | str, str]
) -> None:
    port.apply(spec_of((1, images[1], 100)))
    service: Any = fake.service(CloudRun)
    service.keeps_removed = True
    remove(port, "tiny")
    assert (port.status("tiny"), port.names()) == (None, ())
    change = port.advance(spec_of((2, images[2], 100)))
    assert isinstance(change, Change)
    assert change.waits_for == "the service before to be removed"
    service.keeps_removed = False
    assert port.apply(spec_of((2, images[2], 100))).ready


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_weights_that_somebody_changes_during_a_deployment_stay(
    kind: str, port: Any, images: dict[int | str, str]
) -> None:
    """The change ends before it moves the traffic, for its task to compute the spec from the new weights."""
    port.apply(spec_of((1, images[1], 80), (2, images[2], 20)))
    spec = spec_of((1, images[1], 80), (2, images[2], 20), (3, images[3], 0))
    change = port.advance(spec)
    port.set_weights("tiny", {"v1": 50, "v2": 50})
    event = followed(kind, spec, change)
    assert failure_of(event) is None
    assert event["change"]["is_outdated"]
    assert [each.weight for each in port.status("tiny").predictors] == [50, 50]
    spec = spec_of((1, images[1], 50), (2, images[2], 50), (3, images[3], 0))
    event = followed(kind, spec, Change(**event["change"]))
    assert failure_of(event) is None
    assert [each.weight for each in port.status("tiny").predictors] == [50, 50, 0]
