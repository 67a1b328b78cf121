"""Endpoints on Google Cloud keep the promises of their port: our servers behind a fake with Google's rules."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from modelway.endpoints.base import Endpoint, EndpointSpec, Predictor, load_endpoint, predictor_name
from modelway.platforms.google.exchange import Retries
from modelway.platforms.google.rest import GoogleApi

from tests.endpoint_clients import ask, eventually
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
from tests.google.endpoints import PROJECT, REGION, pushed_images, serving_fake
from tests.google.fake import GoogleFake
from tests.system.registry import needs_registry

pytestmark = needs_registry
KINDS = {"cloud_run": CloudRun}
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
    def make(weights: dict[int, int], stable: int = 1, **platform: object) -> EndpointSpec:
        predictors = tuple(
            Predictor(name=predictor_name(version), version=version, image=images[version], weight=weight)
            for version, weight in weights.items()
        )
        section = {**PLACE, **platform}
        name = predictor_name(stable)
        return EndpointSpec(name="tiny", model="tiny", predictors=predictors, stable=name, platform=section)

    return make


class Served:
    """What the fake runs."""

    of_broken = r"version 4 cannot be served: .*failed to start"

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
