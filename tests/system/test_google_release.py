"""The digits from code to weighted traffic on Google Cloud through a real Airflow.

Their jobs run on Vertex AI, with folders in a bucket. Cloud Run serves them in one project, then Vertex AI in another.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from conftest import RUN_SECONDS, Lab, wait_for
from modelway.endpoints.base import Endpoint, load_endpoint
from test_release import command

from tests.google.fake import GoogleFake
from tests.google.vertex_jobs import VertexJobs

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]
UPLOAD = "aiplatform.projects.locations.models.upload"
PATCH = "run.projects.locations.services.patch"
MODEL, DEV, PROD = "clouded", "clouded-dev", "clouded-prod"
CLOUD_RUN = {"project": "my-dev", "region": "europe-west1"}
VERTEX = {"project": "my-prod", "region": "europe-west4"}


def opened(lab: Lab, google: GoogleFake, target: str, place: Mapping[str, str]) -> Endpoint:
    return load_endpoint(target, root=lab.home / "endpoints", client=google.connection(), platform=place)


@pytest.fixture(scope="module")
def dev(lab: Lab, google: GoogleFake) -> Iterator[Endpoint]:
    found = opened(lab, google, "cloud_run", CLOUD_RUN)
    yield found
    for name in (MODEL, DEV):
        found.delete(name)


@pytest.fixture(scope="module")
def prod(lab: Lab, google: GoogleFake) -> Iterator[Endpoint]:
    found = opened(lab, google, "vertex", VERTEX)
    yield found
    found.delete(PROD)


def weights(endpoint: Endpoint, name: str) -> dict[int, int]:
    status = endpoint.status(name)
    return {each.version: each.weight for each in status.predictors} if status else {}


def steps(lab: Lab, endpoint: str) -> list[int]:
    """Return the weights that the version of the last rollout had."""
    return [step["weight"] for step in lab.lineage.rollouts(endpoint)[0].detail["results"]]


def release(lab: Lab, version: str, environment: str) -> None:
    done = command(lab, "release", MODEL, version, "--env", environment, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr


def serve_in_environments(lab: Lab) -> None:
    """Have Cloud Run serve what is developed, and Vertex AI of another project what is released."""
    file = lab.models / MODEL / "model.yaml"
    spec: dict[str, Any] = yaml.safe_load(file.read_text())
    repository = spec["image"]["repository"].replace("/dev/", "/prod/")
    spec["endpoint"] = {
        "environments": {
            "dev": {"target": "cloud_run", "cloud_run": CLOUD_RUN},
            "prod": {"target": "vertex", "vertex": {**VERTEX, "image_repository": repository}},
        }
    }
    file.write_text(yaml.safe_dump(spec))
    wait_for(lambda: "environment" in lab.api.call("GET", f"/dags/{MODEL}/details")["params"], RUN_SECONDS)


def test_the_digits_are_trained_on_vertex_and_accepted_on_cloud_run(
    lab: Lab, google: GoogleFake, vertex: VertexJobs, dev: Endpoint
) -> None:
    """From code to traffic: all jobs of the run are Vertex AI's, and their folders are in the bucket."""
    assert lab.finish(MODEL) == "success", lab.states(MODEL)
    assert weights(dev, MODEL) == {1: 100}
    assert lab.xcom(MODEL, "serve.accept")["metrics"]["requests"] > 0
    jobs = [job for job in vertex.jobs.values() if job.document["labels"]["modelway-model"] == MODEL]
    assert {job.state for job in jobs} == {"SUCCEEDED"}
    stages = " ".join(job.document["labels"]["modelway-stage"] for job in jobs)
    assert all(word in stages for word in ("warmup", "finetune", "evaluate", "accept")), stages
    for job in jobs:
        (pool,) = job.document["jobSpec"]["workerPoolSpecs"]
        assert any(word.startswith("gs://lab-jobs/modelway/") for word in pool["containerSpec"]["args"])


def test_the_next_digits_get_traffic_on_cloud_run_by_weight(lab: Lab, google: GoogleFake, dev: Endpoint) -> None:
    run_id = lab.api.trigger(MODEL, conf={"seed": 2})
    wait_for(lambda: lab.api.run_state(MODEL, run_id) in ("success", "failed"), RUN_SECONDS)
    assert lab.api.run_state(MODEL, run_id) == "success", lab.api.tasks(MODEL, run_id)
    assert weights(dev, MODEL) == {2: 100}
    assert steps(lab, MODEL) == [50, 100]
    splits = [[each.get("percent", 0) for each in call.body.get("traffic", ())] for call in google.calls(PATCH)]
    assert [50, 50] in splits


def test_a_version_goes_from_development_to_vertex_of_another_project(
    lab: Lab, google: GoogleFake, dev: Endpoint, prod: Endpoint
) -> None:
    """Its image is copied by its digest; Vertex AI gives it requests by weight."""
    serve_in_environments(lab)
    release(lab, "2", "dev")
    assert weights(dev, DEV) == {2: 100}
    release(lab, "1", "prod")
    assert weights(prod, PROD) == {1: 100}
    (upload,) = google.calls(UPLOAD)
    image, built = upload.body["model"]["containerSpec"]["imageUri"], lab.lineage.version(MODEL, 1).summary.image
    assert built is not None
    host = image.partition("/")[0]
    assert image == f"{host}/prod/clouded@{built.digest}"
    assert built.reference == f"{host}/dev/clouded@{built.digest}"
    release(lab, "2", "prod")
    assert weights(prod, PROD) == {2: 100}
    assert steps(lab, PROD) == [50, 100]


def test_the_version_before_comes_back_on_vertex(lab: Lab, google: GoogleFake, prod: Endpoint) -> None:
    uploads = len(google.calls(UPLOAD))
    done = command(lab, "rollback", MODEL, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert weights(prod, PROD) == {1: 100}
    # The model of version 1 was uploaded once, and its image copied once.
    assert len(google.calls(UPLOAD)) == uploads == 2
