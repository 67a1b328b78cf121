"""The model digits from code to traffic, its jobs in containers of an engine that the worker only talks to."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import Lab
from modelway import names
from modelway.backends.base import Options, image_of
from registry import Registry, needs_registry

from tests.docker_engine import remove_all, require_engine
from tests.image_samples import built_here

pytestmark = [pytest.mark.system, pytest.mark.cluster, pytest.mark.timeout(900), needs_registry]
HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]


@pytest.fixture(scope="module")
def model() -> str:
    """A model of this test's own name: an engine is shared."""
    return f"digits-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    found = Registry(tmp_path_factory.mktemp("registry"))
    yield found
    found.stop()


@pytest.fixture(scope="module")
def lab(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, model: str, registry: Registry
) -> Iterator[Lab]:
    """An Airflow with the model digits, its jobs on Docker."""
    engine = require_engine()
    lab: Lab = request.getfixturevalue("container_lab")
    folder = tmp_path_factory.mktemp("docker-run") / model
    shutil.copytree(REPOSITORY / "include" / "models" / "digits", folder)
    (folder / "digits.py").rename(folder / f"{model.replace('-', '_')}.py")
    spec = folder / "model.yaml"
    document = yaml.safe_load(spec.read_text())
    document["model"] = model
    document["train"]["backend"] = "docker"
    document["rollout"] = {"steps": [100]}
    # The tests look at the containers when the run is over.
    document["keep"] = {"time": "1h"}
    # The registry is on the engine's machine.
    document["docker"] = {"network": "host"}
    document["image"] = {"repository": f"{registry.host}/models/digits"}
    spec.write_text(yaml.safe_dump(document))
    # The whole folder at once: Airflow reads it meanwhile.
    folder.rename(lab.models / model)
    yield lab
    if model in lab.runs:
        remove_all(engine, run=f"{model}/{lab.runs[model]}")


def test_digits_becomes_a_version_that_serves(lab: Lab, model: str) -> None:
    assert lab.finish(model) == "success", lab.states(model)
    (version,) = lab.lineage.versions(model)
    assert version.number == 1


def test_its_jobs_were_containers_without_any_folder_of_this_machine(lab: Lab, model: str) -> None:
    lab.finish(model)
    engine = require_engine()
    listed = engine.containers({"modelway.dev/model": model, "modelway.dev/run": f"{model}/{lab.runs[model]}"})
    stages = {container["Labels"]["modelway.dev/stage"] for container in listed}
    name = image_of(Options())
    image = engine.api.inspect_image(name)
    digest = image["RepoDigests"][0].split("@")[1] if image["RepoDigests"] else image["Id"]
    recorded = lab.lineage.version(model, 1).run.stages
    assert {stage.environment.image for stage in recorded if stage.environment} == {f"{name}@{digest}"}
    assert all(stage.cpu_seconds > 1 for stage in recorded), recorded
    assert {names.slug(task) for task in ("train.warmup", "train.finetune", "serve.build_image")} <= stages
    for container in listed:
        assert container["State"] == "exited"
        assert {mount["Type"] for mount in container["Mounts"]} == {"volume"}


def test_a_container_pushed_the_image_that_the_task_would_have(lab: Lab, model: str, tmp_path: Path) -> None:
    lab.finish(model)
    (image,) = lab.lineage.version(model, 1).images
    assert image.digest == built_here(lab.lineage.version(model, 1).summary, tmp_path)
    log = lab.log(model, "serve.build_image")
    assert f"image {image.digest} as {image.reference}" in log, log[-3000:]


def test_the_log_of_a_container_is_in_the_log_of_its_task(lab: Lab, model: str) -> None:
    lab.finish(model)
    log = lab.log(model, "train.warmup")
    assert "train_loss" in log, log[-3000:]
