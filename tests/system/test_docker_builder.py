"""The builder `docker` on a real engine and a real registry: a base from a Dockerfile, the model's layers on it."""

import hashlib

import pytest
from modelway.builders.base import BuildOptions, Layer, LayerFile, load_builder
from modelway.errors import ImageInvalid, SubmitFailed
from modelway.oci.images import unpack_image
from modelway.platforms.docker.engine import Engine
from registry import Registry, needs_registry

pytestmark = [pytest.mark.system, needs_registry]
DOCKERFILE = "FROM scratch\nARG NAME=nobody\nCOPY motto.txt /etc/motto\nLABEL team=$NAME\n"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    started = Registry(tmp_path_factory.mktemp("registry"))
    yield started
    started.stop()
    engine = Engine()
    for image in engine.api.images(filters={"reference": f"{started.host}/*/*"}):
        engine.api.remove_image(image["Id"], force=True)


@pytest.fixture
def code(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "motto.txt").write_text("from code to traffic")
    (folder / "Dockerfile").write_text(DOCKERFILE)
    return folder


def build(registry, code, folder, *, repository="models/digits", data=b"weights", **platform):
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(data)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    file = LayerFile(
        path_in_image="/models/model/model.onnx", source=folder / "model.onnx", size=len(data), digest=digest
    )
    where = f"{registry.host}/{repository}" if repository else None
    options = BuildOptions(name="digits", repository=where, code=code, platform=platform)
    return load_builder("docker").build(layers=[Layer(files=(file,))], base="scratch", options=options)


def test_the_models_layers_stand_on_the_image_of_the_dockerfile(registry, code, tmp_path):
    image = build(registry, code, tmp_path / "a", arguments={"NAME": "vision"})
    root = unpack_image(reference=image.reference, into=tmp_path / "unpacked")
    assert (root / "etc/motto").read_text() == "from code to traffic"
    assert (root / "models/model/model.onnx").read_bytes() == b"weights"
    assert len(image.layers) == 2


def test_the_same_code_gives_the_same_image_and_another_one_another_base(registry, code, tmp_path, monkeypatch):
    first = build(registry, code, tmp_path / "a")
    with monkeypatch.context() as without_engine:
        without_engine.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
        assert build(registry, code, tmp_path / "b") == first
        second = build(registry, code, tmp_path / "c", data=b"other weights")
        assert second.layers[0] == first.layers[0]
        with pytest.raises(SubmitFailed, match="the Docker engine does not answer"):
            build(registry, code, tmp_path / "d", arguments={"NAME": "speech"})
    (code / "motto.txt").write_text("another one")
    changed = build(registry, code, tmp_path / "e")
    assert (changed.layers[0] == first.layers[0], changed.layers[1] == first.layers[1]) == (False, True)


def test_a_step_that_fails_is_named_with_what_it_printed(registry, code, tmp_path):
    job = "FROM python:3.11-slim-bookworm\nRUN --mount=type=cache,target=/c echo no such package; exit 3\n"
    (code / "other.Dockerfile").write_text(job)
    with pytest.raises(ImageInvalid, match=r"other\.Dockerfile: .*exit code: 3(.|\n)*no such package"):
        build(registry, code, tmp_path / "a", dockerfile="other.Dockerfile")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"repository": None}, "no repository is named. Set image.repository"),
        ({"dockerfile": "none"}, "there is no 'none' in the model's code"),
        ({"dockerfile": "motto.txt"}, "parse error"),
    ],
)
def test_what_cannot_be_built_is_refused(registry, code, tmp_path, change, message):
    with pytest.raises(ImageInvalid, match=message):
        build(registry, code, tmp_path / "a", **change)


def test_an_image_that_cannot_be_pushed_is_named(registry, code, tmp_path):
    with pytest.raises(SubmitFailed, match="could not push .*nobody/here"):
        Engine().push(f"{registry.host}/nobody/here:none")
