"""The image job in containers of a Docker engine: the same image as the task makes, and what goes wrong."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faulty_registry import Fault, FaultyRegistry
from modelway.artifacts.archive import write_archive
from modelway.artifacts.store import ArtifactStore
from modelway.backends.base import Handle, Job, JobState, JobStatus, Options
from modelway.backends.docker.backend import DockerBackend
from modelway.builders.base import BuildOptions
from modelway.failures import FailureKind
from modelway.runs.image_contents import build_version_image
from modelway.runs.image_job import IMAGE, PASSWORD, USERNAME, ImageOrder, left_image
from modelway.runs.messages.version import KnownVersion
from registry import Registry, basic_auth, needs_registry

from tests.docker_engine import remove_all, require_engine
from tests.kubernetes_cluster import PYTHON_IMAGE

pytestmark = [pytest.mark.system, pytest.mark.timeout(300), needs_registry]
FILES = {
    "model/model.onnx": b"program",
    "model/a.safetensors": b"first" * 30_000,
    "model/b.safetensors": b"second" * 30_000,
    "golden/inputs.safetensors": b"golden",
}
BLOB = "/blobs/uploads/.*digest="
Start = Callable[..., Handle]


@pytest.fixture(autouse=True)
def no_docker_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)


@pytest.fixture
def version(tmp_path: Path) -> KnownVersion:
    for name, data in FILES.items():
        (tmp_path / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "files" / name).write_bytes(data)
    documents = {"outputs/model.yml": {}, "inputs/git_commit.yml": {"commit": "c0ffee", "code_digest": "sha256:1"}}
    made = write_archive(folder=tmp_path / "files", documents=documents, to=tmp_path / "archive.zip")
    archive = ArtifactStore((tmp_path / "artifacts").as_uri()).put(tmp_path / "archive.zip", model="digits")
    return KnownVersion(model="digits", version=1, archive=archive, model_digest=made.model_digest)


@pytest.fixture
def backend(tmp_path: Path) -> DockerBackend:
    require_engine()
    return DockerBackend(home=tmp_path / "home")


@pytest.fixture
def start(backend: DockerBackend, version: KnownVersion) -> Iterator[Start]:
    """Submit the job of one run, or find it again; its container has nothing but Python, and this machine's network."""
    run = f"digits/image-{uuid.uuid4().hex[:8]}"

    def started(host: str, **env: str) -> Handle:
        order = ImageOrder(
            version=version,
            base="scratch",
            path="/models",
            builder="oci",
            repository=f"{host}/models/digits",
            tag="v1",
            platform={"parallel": 1},
        )
        job = Job(
            model="digits",
            run=run,
            key="build_image",
            stage="image",
            action="image",
            params=order.params(),
            inputs=order.inputs(),
        )
        options = Options(image=PYTHON_IMAGE, platform={"network": "host", "env": env})
        return backend.submit(backend.build_request(job, options))

    yield started
    remove_all(backend.engine, run=run)


def ended(backend: DockerBackend, handle: Handle) -> JobStatus:
    until = time.monotonic() + 120
    while not (status := backend.describe(handle)).state.is_terminal:
        assert time.monotonic() < until
        time.sleep(0.1)
    return status


def succeeded(backend: DockerBackend, handle: Handle) -> Path:
    status, (log, _) = ended(backend, handle), backend.logs(handle)
    assert status.state is JobState.SUCCEEDED, (status, log)
    return backend.folder(handle)


def built_here(version: KnownVersion, layout: Path) -> str:
    """Return the digest of the image that the task itself makes, with all that says where it comes from."""
    archive = ArtifactStore("").readable_file(version.archive)
    options = BuildOptions(name="digits", layout=layout)
    image = build_version_image(
        version,
        archive=archive,
        store=ArtifactStore(""),
        base="scratch",
        path="/models",
        builder="oci",
        options=options,
    )
    return image.digest


def test_a_container_makes_the_same_image_as_the_task_and_shows_no_password(
    backend: DockerBackend, start: Start, version: KnownVersion, tmp_path: Path
) -> None:
    (tmp_path / "registry").mkdir()
    registry = Registry(tmp_path / "registry", auth=basic_auth(tmp_path))
    try:
        handle = start(registry.host, **{USERNAME: "me", PASSWORD: "s3cret"})
        folder = succeeded(backend, handle)
    finally:
        registry.stop()
    image = left_image(json.loads((folder / IMAGE).read_bytes()))
    assert image.digest == built_here(version, tmp_path / "layout")
    assert image.reference == f"{registry.host}/models/digits@{image.digest}"
    assert b"s3cret" not in b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert "s3cret" not in backend.logs(handle)[0]
    assert image.digest in backend.logs(handle)[0]


def test_a_registry_that_does_not_answer_is_worth_another_attempt_and_a_refusal_is_not(
    backend: DockerBackend, start: Start, closed_port: int, tmp_path: Path
) -> None:
    status = ended(backend, start(f"127.0.0.1:{closed_port}"))
    assert (status.failure, status.retryable) == (FailureKind.BAD_EXIT, True)
    assert "the registry does not answer" in (status.reason or "")
    registry = Registry(tmp_path, auth=basic_auth(tmp_path))
    try:
        status = ended(backend, start(registry.host))
    finally:
        registry.stop()
    assert (status.failure, status.retryable) == (FailureKind.BAD_EXIT, False)
    assert "the registry refuses access (401" in (status.reason or "")


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[tuple[FaultyRegistry, threading.Event, threading.Event]]:
    """A registry whose second upload does not end until the second event: the first says that it has begun."""
    (tmp_path / "registry").mkdir()
    registry, reached, go_on = Registry(tmp_path / "registry"), threading.Event(), threading.Event()
    sent: list[int] = []

    def at_upload() -> None:
        sent.append(1)
        if len(sent) == 2:
            reached.set()
            go_on.wait(120)

    proxy = FaultyRegistry(registry.port, Fault("PUT", BLOB, times=2, before=at_upload))
    yield proxy, reached, go_on
    go_on.set()
    proxy.stop()
    registry.stop()


def test_one_that_is_killed_while_it_uploads_continues_with_what_is_missing(
    backend: DockerBackend,
    start: Start,
    version: KnownVersion,
    hanging: tuple[FaultyRegistry, threading.Event, threading.Event],
    tmp_path: Path,
) -> None:
    proxy, reached, go_on = hanging
    first = start(proxy.host)
    assert reached.wait(120)
    backend.engine.api.kill(first.name)
    assert ended(backend, first).failure is FailureKind.KILLED
    go_on.set()
    second = start(proxy.host)
    folder = succeeded(backend, second)
    assert (first.place, first.attempt, second.attempt) == (second.place, 1, 2)
    assert left_image(json.loads((folder / IMAGE).read_bytes())).digest == built_here(version, tmp_path / "layout")
    first_sent, *sent = (path.rpartition("digest=")[2] for method, path in proxy.requests if "digest=" in path)
    assert sent.count(first_sent) == 0, "the layer that was there is not sent again"
    assert proxy.count("PUT", "/manifests/v1$") == 1


def test_one_that_is_cancelled_leaves_no_tag(
    backend: DockerBackend, start: Start, hanging: tuple[FaultyRegistry, threading.Event, threading.Event]
) -> None:
    proxy, reached, go_on = hanging
    handle = start(proxy.host)
    assert reached.wait(120)
    backend.cancel(handle)
    assert ended(backend, handle).state is JobState.CANCELLED
    go_on.set()
    assert proxy.count("PUT", "/manifests/") == 0
