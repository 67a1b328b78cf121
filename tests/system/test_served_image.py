"""The model digits from its code to a container: its DAG pushes the image, Docker runs it, both protocols answer."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from modelway.job.freezing.golden import read_calls
from modelway.lineage.store import open_lineage
from modelway.platforms.docker.engine import Engine
from registry import Registry, needs_registry

from tests.airflow_template import with_database
from tests.inference_messages import connected

pytestmark = [pytest.mark.system, pytest.mark.timeout(900), needs_registry]
MODELWAY = Path(sys.executable).parent / "modelway"
DIGITS = Path(__file__).resolve().parents[2] / "include/models/digits"
SERVER = "modelway-server:0.1.0"


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
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root, engine = tmp_path_factory.mktemp("image"), Engine()
    registry = Registry(root)
    try:
        image = _image_of_the_dag(root, registry, base=_pushed(engine, f"{registry.host}/modelway/server"))
        container = engine.create(_description(image), f"modelway-test-{registry.port}")
        try:
            engine.start(container)
            yield _served(engine, container, root)
        finally:
            print(engine.last_lines(container, lines=20).decode())
            engine.remove(container)
            engine.api.remove_image(image)
    finally:
        registry.stop()


def _pushed(engine: Engine, repository: str) -> str:
    """Push the image of the model server and return its reference, by its digest."""
    engine.api.tag(SERVER, repository, "test")
    engine.push(f"{repository}:test")
    (digest,) = [name for name in engine.api.inspect_image(SERVER)["RepoDigests"] if name.startswith(repository)]
    engine.api.remove_image(f"{repository}:test")
    return str(digest)


def _image_of_the_dag(root: Path, registry: Registry, *, base: str) -> str:
    models, home = root / "models", with_database(root / "home", name="airflow-run")
    shutil.copytree(DIGITS, models / "digits", ignore=shutil.ignore_patterns("__pycache__"))
    with (models / "digits/model.yaml").open("a") as spec:
        spec.write(f"image: {{base: server, repository: {registry.host}/models/digits}}\n")
    environment = {"MODELWAY_HOME": str(home), "MODELWAY_MODELS": str(models), "MODELWAY_SERVER_IMAGE": base}
    command = [MODELWAY, "run", "digits", "--set", "rollout=no"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    (image,) = open_lineage(f"sqlite:///{home / 'lineage.db'}").version("digits", 1).images
    return image.reference


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


def test_the_container_answers_right_over_rest(served: Served) -> None:
    tensors = [
        {"name": name, "shape": array.shape, "datatype": "FP32", "data": array.ravel().tolist()}
        for name, array in served.inputs.items()
    ]
    url = f"http://127.0.0.1:{served.port}/v2/models/digits/versions/1/infer"
    answer = httpx.post(url, json={"inputs": tensors}, trust_env=False)
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
