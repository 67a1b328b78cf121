"""The loader that fetches a model from a real registry before its server starts."""

import base64
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_registry import Fault, FaultyRegistry
from modelway.builders.base import BuildOptions, load_builder
from modelway.oci.layout import OciLayout
from modelway.server.loader import main
from registry import Registry, basic_auth, needs_registry

from tests.image_samples import entry, folder, image_layers, link, make_image, tar
from tests.model_server import environ_of_server

pytestmark = [pytest.mark.system, needs_registry]
WEIGHTS = {f"/models/model/{name}.safetensors": name.encode() * 100_000 for name in ("a", "b")}
SMALL = {"/models/outputs/model.yml": b"{}", "/models/MANIFEST.json": b"{}"}
BLOBS = "/blobs/sha256"


@pytest.fixture(autouse=True)
def docker_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Docker's settings of these tests alone."""
    (tmp_path / "docker").mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    return tmp_path / "docker" / "config.json"


@pytest.fixture
def proxy(shared: Registry) -> Iterator[FaultyRegistry]:
    running = FaultyRegistry(shared.port)
    yield running
    running.stop()


def push(tmp_path: Path, repository: str, *, weights: dict[str, bytes] = WEIGHTS, tag: str = "v1") -> str:
    """Push an image to ``<host>/<repository>`` and return its digest."""
    layers = image_layers(tmp_path / tag, weights, SMALL)
    options = BuildOptions(name="digits", repository=repository, tag=tag, username="me", password="s3cret")
    return load_builder("oci").build(layers=layers, base="scratch", options=options).digest


def load(reference: str, into: Path, *more: str) -> int:
    return main(["--image", reference, "--into", str(into), *more])


def contents(into: Path) -> dict[str, bytes]:
    """Everything in the folder but what the loader remembers."""
    files = {f"/models/{path.relative_to(into)}": path.read_bytes() for path in into.rglob("*") if path.is_file()}
    return {name: data for name, data in files.items() if not Path(name).name.startswith(".")}


def test_a_model_is_fetched_into_a_folder_and_not_fetched_again(
    proxy: FaultyRegistry, repository: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = f"{proxy.host}/{repository}@{push(tmp_path, f'{proxy.host}/{repository}')}"
    into = tmp_path / "volume"
    into.mkdir(mode=0o777)
    assert load(reference, into) == 0
    assert contents(into) == {**WEIGHTS, **SMALL}
    before = len(proxy.requests)
    assert load(reference, into) == 0
    assert proxy.requests[before:] == []
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"modelway loader: {into} has the model of {reference}"
    assert second == f"{first} already"


def test_a_changed_file_is_fetched_again_and_another_version_replaces_the_first(
    shared: Registry, repository: str, tmp_path: Path
) -> None:
    place, into = f"{shared.host}/{repository}", tmp_path / "volume"
    reference = f"{place}@{push(tmp_path, place)}"
    assert load(reference, into) == 0
    (into / "model" / "a.safetensors").write_bytes(b"damaged")
    assert load(reference, into) == 0
    assert contents(into) == {**WEIGHTS, **SMALL}
    other = {"/models/model/c.safetensors": b"c" * 1000}
    assert load(f"{place}@{push(tmp_path, place, weights=other, tag='v2')}", into) == 0
    assert contents(into) == {**other, **SMALL}


def test_one_that_is_killed_is_run_again(proxy: FaultyRegistry, repository: str, tmp_path: Path) -> None:
    reference = f"{proxy.host}/{repository}@{push(tmp_path, f'{proxy.host}/{repository}')}"
    into, reached, ended = tmp_path / "volume", threading.Event(), threading.Event()

    def hang() -> None:
        reached.set()
        ended.wait(60)

    # The first layer is there, the second never comes.
    passed = Fault("GET", BLOBS, times=2, before=lambda: None)
    proxy.faults += [passed, Fault("GET", BLOBS, before=hang)]
    command = [sys.executable, "-m", "modelway.server.loader", "--image", reference, "--into", str(into)]
    with subprocess.Popen(command, env=environ_of_server()) as process:
        assert reached.wait(60)
        process.send_signal(signal.SIGKILL)
    ended.set()
    assert contents(into) != {**WEIGHTS, **SMALL}
    assert load(reference, into) == 0
    assert contents(into) == {**WEIGHTS, **SMALL}
    assert not list(into.glob(".modelway-loader.*"))


def test_the_end_of_its_pod_ends_it(proxy: FaultyRegistry, repository: str, tmp_path: Path) -> None:
    reference = f"{proxy.host}/{repository}@{push(tmp_path, f'{proxy.host}/{repository}')}"
    into, reached, ended = tmp_path / "volume", threading.Event(), threading.Event()

    def hang() -> None:
        reached.set()
        ended.wait(60)

    proxy.faults.append(Fault("GET", BLOBS, before=hang))
    command = [sys.executable, "-m", "modelway.server.loader", "--image", reference, "--into", str(into)]
    with subprocess.Popen(command, env=environ_of_server()) as process:
        assert reached.wait(60)
        process.terminate()
        assert process.wait(30) == 128 + signal.SIGTERM
    ended.set()
    assert contents(into) == {}


def test_the_login_is_that_of_dockers_settings_and_never_shown(
    tmp_path: Path, docker_settings: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    registry = Registry(tmp_path, auth=basic_auth(tmp_path))
    try:
        reference = f"{registry.host}/models/digits@{push(tmp_path, f'{registry.host}/models/digits')}"
        assert load(reference, tmp_path / "volume") == 2
        login = base64.b64encode(b"me:s3cret").decode()
        docker_settings.write_text(json.dumps({"auths": {registry.host: {"auth": login}}}))
        assert load(reference, tmp_path / "volume") == 0
    finally:
        registry.stop()
    assert contents(tmp_path / "volume") == {**WEIGHTS, **SMALL}
    shown = capfd.readouterr().err
    assert "the registry refuses access (401" in shown
    assert "s3cret" not in shown
    assert login not in shown


def test_a_mirror_is_read_first(
    shared: Registry, repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = push(tmp_path, f"{shared.host}/{repository}")
    monkeypatch.setenv("MODELWAY_REGISTRY_MIRRORS", f"registry.invalid={shared.host}")
    assert load(f"registry.invalid/{repository}@{digest}", tmp_path / "volume") == 0
    assert contents(tmp_path / "volume") == {**WEIGHTS, **SMALL}


def refused(capsys: pytest.CaptureFixture[str], status: int, *, found: int) -> str:
    """Return the only line that was printed."""
    assert found == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("modelway loader: ")
    return line


def test_faults_are_one_line_each_and_leave_no_part_of_a_model(
    shared: Registry, repository: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, into = f"{shared.host}/{repository}", tmp_path / "volume"
    # Of this test alone: the registry has each blob once.
    digest = push(tmp_path, place, weights={"/models/model/d.safetensors": b"d" * 100_000})
    line = refused(capsys, 2, found=load(f"{place}:v1", into))
    assert "sha256" in line
    line = refused(capsys, 2, found=load(f"{place}@sha256:{'1' * 64}", into))
    assert "the registry has no sha256:1111" in line
    line = refused(capsys, 2, found=load(f"{place}@{digest}", into, "--path", "/model"))
    assert "the image has no folder /model. Name the folder" in line
    line = refused(capsys, 2, found=load(f"{place}@{digest}", into, "--path", "/models/../.."))
    assert "the image has no folder" in line
    manifest = json.loads(shared.blob(digest).read_bytes())
    layer = shared.blob(manifest["layers"][0]["digest"])
    layer.write_bytes(layer.read_bytes()[:-1] + b"x")
    line = refused(capsys, 2, found=load(f"{place}@{digest}", into))
    assert "is damaged" in line
    assert contents(into) == {}


def test_a_registry_that_does_not_answer_is_worth_another_attempt(
    closed_port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    found = load(f"127.0.0.1:{closed_port}/models/digits@sha256:{'1' * 64}", tmp_path / "volume")
    assert "the registry does not answer" in refused(capsys, 1, found=found)


def test_files_of_somebody_else_are_left_alone(
    shared: Registry, repository: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, into = f"{shared.host}/{repository}", tmp_path / "volume"
    (into / "lost+found").mkdir(parents=True)
    (into / "mine").write_text("mine")
    digest = push(tmp_path, place)
    assert "has files that are not of a model's image" in refused(capsys, 2, found=load(f"{place}@{digest}", into))
    assert (into / "mine").read_text() == "mine"
    (into / "mine").unlink()
    assert load(f"{place}@{digest}", into) == 0
    assert (into / "lost+found").is_dir()
    shutil.rmtree(into / "lost+found")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = load(f"localhost:1/models/digits@sha256:{'1' * 64}", Path("/proc/volume"))
    assert "/proc/volume: the folder cannot be written" in refused(capsys, 2, found=found)


def test_a_link_out_of_the_models_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = OciLayout(tmp_path / "layout")
    layout.create()
    layer = tar(folder("models"), link("models/up", "../etc"), folder("etc"), entry("etc/passwd", b"x"))
    found = load(str(make_image(layout, layer)), tmp_path / "volume")
    assert "the link models/up leads out of the" in refused(capsys, 2, found=found)
    assert contents(tmp_path / "volume") == {}


def test_of_a_base_nothing_is_unpacked(tmp_path: Path) -> None:
    layout = OciLayout(tmp_path / "layout")
    layout.create()
    base = tar(folder("etc"), link("etc/mtab", "/proc/mounts"), entry("models.txt", b"x"), entry("big", bytes(100)))
    model = tar(folder("models"), entry("models/old", b"x"), entry("models/same", b"y"), link("models/link", "same"))
    small = tar(folder("models"), entry("models/.wh.old"), entry("models/new", b"z"), entry(".wh.big"))
    assert load(str(make_image(layout, base, model, small)), tmp_path / "volume") == 0
    assert contents(tmp_path / "volume") == {"/models/same": b"y", "/models/new": b"z", "/models/link": b"y"}
