"""The model digits from its code to containers: its DAG pushes the image and serves it on Docker."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from modelway.endpoints.base import Endpoint, EndpointStatus, load_endpoint
from modelway.endpoints.gateway.container import GATEWAY_IMAGE
from modelway.job.freezing.golden import read_calls
from modelway.lineage.store import Lineage, open_lineage
from modelway.platforms.docker.engine import Engine
from registry import needs_registry

from tests.airflow_template import with_database
from tests.docker_engine import require_engine
from tests.endpoint_clients import left_on_engine
from tests.inference_messages import connected
from tests.pushed_layers import SERVER, registry_with_layers

pytestmark = [pytest.mark.system, pytest.mark.timeout(900), needs_registry]
MODELWAY = Path(sys.executable).parent / "modelway"
DIGITS = Path(__file__).resolve().parents[2] / "include/models/digits"


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The DAG of digits with an image in a registry and an endpoint on Docker."""

    engine: Engine
    root: Path
    home: Path
    environment: dict[str, str]

    def run(self, *words: str, version: int) -> str:
        """Run the DAG to its end and return the image of the version that it made."""
        done = subprocess.run([MODELWAY, "run", "digits", *words], env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        (image,) = self.lineage.version("digits", version).images
        return image.reference

    @property
    def lineage(self) -> Lineage:
        return open_lineage(f"sqlite:///{self.home / 'lineage.db'}")

    @property
    def endpoint(self) -> Endpoint:
        return load_endpoint("docker", root=self.home / "endpoints")

    def status(self) -> EndpointStatus:
        found = self.endpoint.status("digits")
        assert found is not None
        return found


@dataclass(frozen=True)
class Served:
    """A container of the model's image, and what the model must answer."""

    engine: Engine
    container: str
    port: int
    grpc_port: int
    inputs: dict[str, Any]
    expected: dict[str, Any]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    root, engine = tmp_path_factory.mktemp("image"), require_engine(SERVER, GATEWAY_IMAGE)
    registry = registry_with_layers(root, repository="modelway/server")
    models, home = root / "models", with_database(root / "home", name="airflow-run")
    shutil.copytree(DIGITS, models / "digits", ignore=shutil.ignore_patterns("__pycache__"))
    spec = models / "digits/model.yaml"
    document = yaml.safe_load(spec.read_text())
    document["image"] = {"base": "server", "repository": f"{registry.host}/models/digits"}
    document["endpoint"] = {"target": "docker", "resources": {"cpu": 1, "memory": "512Mi"}}
    document["rollout"] |= {"steps": [50, 100], "interval": "2s"}
    # Trained for a moment: it is served here, not judged.
    document["train"]["stages"] = [{"name": "warmup", "params": {"epochs": 2, "lr": 0.003}}]
    document["verify"]["gates"] = {"accuracy": ">= 0.2"}
    spec.write_text(yaml.safe_dump(document))
    base = _pushed(engine, f"{registry.host}/modelway/server")
    own = {"MODELWAY_HOME": str(home), "MODELWAY_MODELS": str(models), "MODELWAY_SERVER_IMAGE": base}
    found = Pipeline(engine=engine, root=root, home=home, environment={**os.environ, **own})
    try:
        yield found
    finally:
        found.endpoint.delete("digits")
        for listed in engine.api.images(name=f"{registry.host}/models/digits"):
            engine.api.remove_image(listed["Id"], force=True)
        registry.stop()
    assert left_on_engine(home / "endpoints") == []


@pytest.fixture(scope="module")
def image(pipeline: Pipeline) -> str:
    """The image of version 1, which the pipeline serves on Docker."""
    return pipeline.run(version=1)


@pytest.fixture(scope="module")
def served(pipeline: Pipeline, image: str) -> Iterator[Served]:
    engine, container = pipeline.engine, pipeline.engine.create(_description(image), f"modelway-test-{os.getpid()}")
    try:
        engine.start(container)
        yield _served(engine, container, pipeline.root)
    finally:
        print(engine.last_lines(container, lines=20).decode())
        engine.remove(container)


def _pushed(engine: Engine, repository: str) -> str:
    """Push the image of the model server and return its reference, by its digest."""
    engine.api.tag(SERVER, repository, "test")
    engine.push(f"{repository}:test")
    (digest,) = [name for name in engine.api.inspect_image(SERVER)["RepoDigests"] if name.startswith(repository)]
    engine.api.remove_image(f"{repository}:test")
    return str(digest)


def _description(image: str) -> dict[str, Any]:
    """Describe a container as careful operators run it: no rights, nothing to write to, ports on this machine alone."""
    ports = ("8080/tcp", "8001/tcp")
    return {
        "Image": image,
        "Env": ["GRPC_PORT=8001", "MODELWAY_MODEL_VERSION=1"],
        "ExposedPorts": {port: {} for port in ports},
        "HostConfig": {
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "PortBindings": {port: [{"HostIp": "127.0.0.1", "HostPort": ""}] for port in ports},
        },
    }


def _served(engine: Engine, container: str, root: Path) -> Served:
    """Wait until the server is ready, and read the model's golden rows out of the container."""
    ports = engine.api.inspect_container(container)["NetworkSettings"]["Ports"]
    port, grpc_port = (int(ports[name][0]["HostPort"]) for name in ("8080/tcp", "8001/tcp"))
    deadline = time.monotonic() + 120
    while not _is_ready(port):
        assert time.monotonic() < deadline, engine.last_lines(container, lines=20).decode()
        assert engine.api.inspect_container(container)["State"]["Running"], engine.last_lines(container, lines=20)
        time.sleep(0.1)
    packed = io.BytesIO(b"".join(engine.get(container, "/models/golden") or ()))
    with tarfile.open(fileobj=packed) as archive:
        archive.extractall(root, filter="data")
    inputs, expected = read_calls(root)["7"]
    return Served(engine, container, port, grpc_port, inputs, expected)


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/v2/health/ready", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _tensors(served: Served) -> list[dict[str, Any]]:
    return [
        {"name": name, "shape": array.shape, "datatype": "FP32", "data": array.ravel().tolist()}
        for name, array in served.inputs.items()
    ]


def test_the_container_answers_right_over_rest(served: Served) -> None:
    url = f"http://127.0.0.1:{served.port}/v2/models/digits/versions/1/infer"
    answer = httpx.post(url, json={"inputs": _tensors(served)}, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-model-version"] == "1"
    for output in answer.json()["outputs"]:
        found = np.asarray(output["data"], dtype=np.float32).reshape(output["shape"])
        np.testing.assert_allclose(found, served.expected[output["name"]], atol=1e-4, rtol=1e-3)


def test_the_container_answers_right_over_grpc(served: Served) -> None:
    tensors = [
        {"name": name, "shape": array.shape, "datatype": "FP32", "contents": {"fp32_contents": array.ravel().tolist()}}
        for name, array in served.inputs.items()
    ]
    with connected(served) as client:
        answer = client.call("ModelInfer", model_name="digits", model_version="1", inputs=tensors)
    assert (answer.model_name, answer.model_version) == ("digits", "1")
    for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
        found = np.frombuffer(raw, dtype=np.float32).reshape(tuple(output.shape))
        np.testing.assert_allclose(found, served.expected[output.name], atol=1e-4, rtol=1e-3)


def test_the_loader_of_the_servers_image_fetches_the_model(served: Served) -> None:
    engine = served.engine
    image = engine.api.inspect_container(served.container)["Config"]["Image"]
    load = f"python3 -m modelway.server.loader --image {image} --into /models"
    check = "from modelway.server.core import runtime, whole; from pathlib import Path; m = Path('/models'); "
    check += "print(whole.check_files(m), runtime.load_model(m, threads=1).signature.name)"
    description = {
        "Image": SERVER,
        "Entrypoint": ["sh", "-c", f'{load} && {load} && python3 -c "{check}"'],
        # The registry is on the engine's own machine; the volume is anybody's, as that of a pod.
        "HostConfig": {"ReadonlyRootfs": True, "NetworkMode": "host", "Tmpfs": {"/models": "mode=0777"}},
    }
    container = engine.create(description, f"modelway-test-loader-{served.port}")
    try:
        engine.start(container)
        engine.api.wait(container)
        first, second, *_, loaded = engine.last_lines(container, lines=20).decode().splitlines()
    finally:
        engine.remove(container)
    assert first == f"modelway loader: /models has the model of {image}"
    assert second == f"{first} already"
    files, name = loaded.split()
    assert (int(files) >= 2, name) == (True, "digits")


def test_the_dag_serves_version_1_on_docker(pipeline: Pipeline, image: str, served: Served) -> None:
    status = pipeline.status()
    assert [(one.name, one.weight, one.ready, one.image) for one in status.predictors] == [("v1", 100, True, image)]
    (server,) = pipeline.engine.containers({"modelway.dev/endpoint": "digits", "modelway.dev/predictor": "v1"})
    found = pipeline.engine.inspect(server["Id"])
    assert found is not None
    assert (found["Config"]["Image"], found["HostConfig"]["Memory"]) == (image, 512 << 20)
    answer = httpx.post(f"{status.url}/v2/models/digits/infer", json={"inputs": _tensors(served)}, trust_env=False)
    assert (answer.status_code, answer.headers["x-model-version"]) == (200, "1")


def test_the_dag_rolls_version_2_out_beside_version_1(pipeline: Pipeline, image: str, served: Served) -> None:
    url, over, answers = f"{pipeline.status().url}/v2/models/digits/infer", threading.Event(), list[tuple[int, str]]()

    def call() -> None:
        with httpx.Client(trust_env=False, timeout=30) as client:
            while not over.is_set():
                answer = client.post(url, json={"inputs": _tensors(served)})
                answers.append((answer.status_code, answer.headers.get("x-model-version", "")))
                time.sleep(0.02)

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    try:
        second = pipeline.run("--seed", "2", version=2)
    finally:
        over.set()
        for caller in callers:
            caller.join()
    status = pipeline.status()
    assert [(one.name, one.weight, one.image) for one in status.predictors if one.weight] == [("v2", 100, second)]
    assert second != image
    assert pipeline.lineage.aliases("digits")["champion"] == 2
    assert {code for code, _ in answers} == {200}, "no request failed"
    versions = [version for _, version in answers]
    first_of_2, last_of_1 = versions.index("2"), len(versions) - 1 - versions[::-1].index("1")
    assert first_of_2 < last_of_1, "both answered for a while"
    mixed = versions[first_of_2:last_of_1].count("2") / (last_of_1 - first_of_2)
    assert 0.25 < mixed < 0.75


def test_it_drains_as_the_first_process_of_its_container(served: Served) -> None:
    assert served.engine.api.top(served.container)["Processes"]
    served.engine.stop(served.container, grace_seconds=30)
    state = served.engine.api.inspect_container(served.container)["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    assert b"drained" in served.engine.last_lines(served.container, lines=5)


def test_the_server_adds_little_to_its_base() -> None:
    engine = Engine()
    base, server = (engine.api.inspect_image(name)["Size"] for name in ("python:3.11-slim-bookworm", SERVER))
    assert server - base < 250 << 20
    listed = engine.api.create_container(SERVER, entrypoint=["python3", "-c", "import torch"])["Id"]
    try:
        engine.start(listed)
        assert engine.api.wait(listed)["StatusCode"] == 1, "torch is not in the image"
    finally:
        engine.remove(listed)
