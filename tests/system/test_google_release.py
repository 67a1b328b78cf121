"""From code to traffic on Google's endpoints through a real Airflow: Cloud Run in one project, Vertex AI in another."""

from collections.abc import Iterator

import pytest
from conftest import Lab
from modelway.endpoints.base import Endpoint, load_endpoint
from test_release import command

from tests.google.fake import GoogleFake

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]
UPLOAD = "aiplatform.projects.locations.models.upload"
MODEL, DEV, PROD = "clouded", "clouded-dev", "clouded-prod"


def opened(lab: Lab, google: GoogleFake, target: str, **place: str) -> Endpoint:
    return load_endpoint(target, root=lab.home / "endpoints", client=google.connection(), platform=place)


@pytest.fixture(scope="module")
def dev(lab: Lab, google: GoogleFake) -> Iterator[Endpoint]:
    found = opened(lab, google, "cloud_run", project="my-dev", region="europe-west1")
    yield found
    found.delete(DEV)


@pytest.fixture(scope="module")
def prod(lab: Lab, google: GoogleFake) -> Iterator[Endpoint]:
    found = opened(lab, google, "vertex", project="my-prod", region="europe-west4")
    yield found
    found.delete(PROD)


def weights(endpoint: Endpoint, name: str) -> dict[int, int]:
    status = endpoint.status(name)
    return {each.version: each.weight for each in status.predictors} if status else {}


def release(lab: Lab, version: str) -> None:
    done = command(lab, "release", MODEL, version, "--env", "prod", "--wait")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_version_is_served_by_cloud_run_and_released_to_vertex_of_another_project(
    lab: Lab, google: GoogleFake, dev: Endpoint, prod: Endpoint
) -> None:
    """The run deploys to dev and accepts the version there; its image is copied for prod by its digest."""
    assert lab.finish(MODEL) == "success", lab.states(MODEL)
    assert weights(dev, DEV) == {1: 100}
    assert lab.xcom(MODEL, "serve.accept")["metrics"]["requests"] > 0
    release(lab, "1")
    assert weights(prod, PROD) == {1: 100}
    (upload,) = google.calls(UPLOAD)
    image, built = upload.body["model"]["containerSpec"]["imageUri"], lab.lineage.version(MODEL, 1).summary.image
    assert built is not None
    host = image.partition("/")[0]
    assert image == f"{host}/prod/clouded@{built.digest}"
    assert built.reference == f"{host}/dev/clouded@{built.digest}"
