"""From code to traffic on Google's endpoints through a real Airflow: Cloud Run in one project, Vertex AI in another."""

import httpx
import pytest
from conftest import REGISTRY_LOGIN, Lab
from modelway.endpoints.base import Endpoint, load_endpoint
from test_release import RUN_SECONDS, command, wait_for

from tests.google.fake import GoogleFake

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
MODEL, DEV, PROD = "clouded", "clouded-dev", "clouded-prod"


def opened(lab: Lab, google: GoogleFake, target: str, **place: str) -> Endpoint:
    return load_endpoint(target, root=lab.home / "endpoints", client=google.connection(), platform=place)


def weights(endpoint: Endpoint, name: str) -> dict[int, int]:
    status = endpoint.status(name)
    return {each.version: each.weight for each in status.predictors} if status else {}


def ended(lab: Lab, run_id: str) -> str:
    wait_for(lambda: lab.api.run_state(MODEL, run_id) in ("success", "failed"), RUN_SECONDS)
    return lab.api.run_state(MODEL, run_id)


def release(lab: Lab, version: str) -> None:
    done = command(lab, "release", MODEL, version, "--env", "prod", "--wait")
    assert done.returncode == 0, done.stdout + done.stderr


def test_versions_go_from_cloud_run_of_one_project_to_vertex_of_another(lab: Lab, google: GoogleFake) -> None:
    """Two runs deploy to dev; each image is copied for prod by its digest, and the second gets traffic by weight."""
    dev = opened(lab, google, "cloud_run", project="my-dev", region="europe-west1")
    prod = opened(lab, google, "vertex", project="my-prod", region="europe-west4")
    assert lab.finish(MODEL) == "success", lab.states(MODEL)
    assert weights(dev, DEV) == {1: 100}
    assert lab.xcom(MODEL, "serve.accept")["metrics"]["requests"] > 0
    release(lab, "1")
    assert weights(prod, PROD) == {1: 100}
    second = lab.api.trigger(MODEL)
    assert ended(lab, second) == "success", lab.api.tasks(MODEL, second)
    assert weights(dev, DEV) == {2: 100}
    release(lab, "2")
    assert weights(prod, PROD) == {2: 100}
    results = lab.lineage.rollouts(PROD)[0].detail["results"]
    assert [step["weight"] for step in results] == [50, 100]
    # Every version that the lineage has gone through prod runs there with the digest of dev's image.
    uploads = [one.body["model"] for one in google.calls("aiplatform.projects.locations.models.upload")]
    images = [each["containerSpec"]["imageUri"] for each in uploads]
    assert [image.rpartition("@")[0].partition("/")[2] for image in images] == ["prod/clouded"] * 2
    built = [lab.lineage.version(MODEL, number).summary.image for number in (1, 2)]
    assert [image.rpartition("@")[2] for image in images] == [each.digest for each in built if each]
    host = images[0].partition("/")[0]
    found = httpx.get(f"http://{host}/v2/prod/clouded/manifests/{built[1].digest}", auth=REGISTRY_LOGIN)  # type: ignore[union-attr]
    assert found.status_code == 200
    before = len(google.calls("aiplatform.projects.locations.models.upload"))
    done = command(lab, "rollback", MODEL, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert weights(prod, PROD) == {1: 100}
    # The model of version 1 was uploaded once, and its image copied once.
    assert len(google.calls("aiplatform.projects.locations.models.upload")) == before
    dev.delete(DEV)
    prod.delete(PROD)
