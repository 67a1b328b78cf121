"""What every builder promises; a new file in the room is tested by being there."""

import hashlib
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from modelway.builders.base import BuildOptions, Layer, LayerFile, load_builder
from modelway.errors import CapabilityMissing, DigestMismatch, ImageInvalid, NotWritable, RegistryError
from modelway.oci.images import unpack_image
from modelway.oci.layout import OciLayout
from modelway.ports import known, load

MODEL = {
    "/models/model/model.onnx": b"onnx" * 5000,
    "/models/model/model.safetensors": bytes(range(256)) * 4000,
    "/models/golden/inputs.safetensors": b"golden",
}
METADATA = {"/models/outputs/model.yml": b'{"name": "digits"}', "/models/MANIFEST.json": b"{}"}


#: the others need an engine and a registry: tests/system/test_docker_builder.py
ALONE = [name for name in known("builders") if "scratch" in load("builders", name).capabilities]


@pytest.fixture(params=ALONE)
def builder(request):
    return load_builder(request.param)


def sources(folder, files, *, mode=0o644, mtime=1_000_000_000):
    """Write the files somewhere and return the layer that holds them."""
    listed = []
    for name, data in files.items():
        path = folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)
        os.utime(path, (mtime, mtime))
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        listed.append(LayerFile(path_in_image=name, source=path, size=len(data), digest=digest))
    return Layer(files=tuple(listed))


def build(builder, folder, *, files=MODEL, metadata=METADATA, layout="images", base="scratch", **options):
    layers = [sources(folder / "src", files), sources(folder / "src", metadata)]
    named = BuildOptions(name="digits", layout=folder / layout, **options)
    return builder.build(layers=layers, base=base, options=named)


def inventory(root):
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}


def test_the_same_model_gives_the_same_digest_anywhere(builder, tmp_path):
    first = build(builder, tmp_path / "one", tag="v1")
    backwards = dict(reversed(MODEL.items()))
    layers = [
        sources(tmp_path / "two", backwards, mode=0o600, mtime=5),
        sources(tmp_path / "two", METADATA, mode=0o755),
    ]
    options = BuildOptions(name="digits", layout=tmp_path / "elsewhere", tag="v2")
    second = builder.build(layers=layers, base="scratch", options=options)
    assert second.digest == first.digest
    assert second.layers == first.layers
    assert second.reference != first.reference


def test_a_changed_byte_changes_the_digest_of_its_layer_only(builder, tmp_path):
    first = build(builder, tmp_path / "one")
    second = build(builder, tmp_path / "two", metadata={**METADATA, "/models/MANIFEST.json": b"[]"})
    assert second.digest != first.digest
    assert second.layers[0] == first.layers[0]
    assert second.layers[1] != first.layers[1]


def test_name_and_annotations_are_part_of_the_digest(builder, tmp_path):
    digests = {
        build(builder, tmp_path / str(number), annotations=annotations).digest
        for number, annotations in enumerate([{}, {"a": "1", "b": "2"}, {"b": "2", "a": "1"}, {"a": "2"}])
    }
    assert len(digests) == 3


def test_the_image_gives_back_the_same_bytes(builder, tmp_path):
    image = build(builder, tmp_path)
    assert image.reference.endswith("@" + image.digest)
    root = unpack_image(reference=image.reference, into=tmp_path / "unpacked")
    for name, data in {**MODEL, **METADATA}.items():
        assert (root / name.lstrip("/")).read_bytes() == data
        assert (root / name.lstrip("/")).stat().st_mode & 0o777 == 0o644
    assert sum(1 for path in root.rglob("*") if path.is_file()) == len(MODEL) + len(METADATA) + 1


def test_building_again_writes_nothing_new(builder, tmp_path):
    first = build(builder, tmp_path, tag="v1")
    before = inventory(tmp_path / "images")
    assert build(builder, tmp_path, tag="v1") == first
    assert inventory(tmp_path / "images") == before


def test_a_tag_that_names_another_image_is_refused(builder, tmp_path):
    first = build(builder, tmp_path, tag="v1")
    with pytest.raises(ImageInvalid, match=f"'digits:v1' names {first.digest} already"):
        build(builder, tmp_path, tag="v1", files={"/models/other": b"x"})


def test_size_and_layers_are_those_of_the_manifest(builder, tmp_path):
    image = build(builder, tmp_path)
    layout = OciLayout(tmp_path / "images")
    manifest = layout.manifest(image.digest)
    blobs = [image.digest, manifest["config"]["digest"], *image.layers]
    assert image.size == sum(layout.blob_path(digest).stat().st_size for digest in blobs)
    config = json.loads(layout.blob_path(manifest["config"]["digest"]).read_bytes())
    assert config["created"] == "1970-01-01T00:00:00Z"
    assert config["rootfs"]["diff_ids"] == list(image.layers)


@pytest.mark.parametrize("fault", ["changed", "truncated", "gone"])
def test_a_source_that_is_not_its_digest_is_refused(builder, tmp_path, fault):
    layer = sources(tmp_path, MODEL)
    path = layer.files[1].source
    data = path.read_bytes()
    path.write_bytes(data[:-1] if fault == "truncated" else b"X" + data[1:])
    if fault == "gone":
        path.unlink()
    options = BuildOptions(name="digits", layout=tmp_path / "images", tag="v1")
    with pytest.raises(DigestMismatch, match=r"model\.safetensors: .*Run the freeze stage again"):
        builder.build(layers=[layer], base="scratch", options=options)
    assert OciLayout(tmp_path / "images").references() == ()


def test_a_layout_that_cannot_be_written_is_named(builder, tmp_path):
    (tmp_path / "images").write_text("a file where the folder should be")
    with pytest.raises(NotWritable, match=r"/images: the folder cannot be written"):
        build(builder, tmp_path)


@pytest.mark.parametrize(
    "names", [["/a/../b"], ["/"], ["/a", "a"], ["/a", "/a/b"], ["/models/.wh.a"]], ids=lambda names: " ".join(names)
)
def test_a_path_that_cannot_be_in_an_image_is_refused(builder, tmp_path, names):
    (tmp_path / "source").write_bytes(b"")
    digest = "sha256:" + hashlib.sha256(b"").hexdigest()
    files = [LayerFile(path_in_image=name, source=tmp_path / "source", size=0, digest=digest) for name in names]
    options = BuildOptions(name="digits", layout=tmp_path / "images")
    with pytest.raises(ImageInvalid, match="the path"):
        builder.build(layers=[Layer(files=tuple(files))], base="scratch", options=options)


def _build_from_pipe(name, folder, pipe):
    layer = sources(folder / "src", MODEL)
    endless = LayerFile(path_in_image="/models/z", source=pipe, size=1 << 40, digest="sha256:" + "0" * 64)
    options = BuildOptions(name="digits", layout=folder / "images", tag="v1")
    load_builder(name).build(layers=[layer, Layer(files=(endless,))], base="scratch", options=options)


@pytest.mark.parametrize("name", ALONE)
def test_a_killed_build_leaves_no_half_blob_and_the_next_one_succeeds(name, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = multiprocessing.get_context("fork").Process(target=_build_from_pipe, args=(name, tmp_path, pipe))
    process.start()
    with pipe.open("wb") as writer:
        for _ in range(3):
            writer.write(b"x" * 4 * 1024 * 1024)
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size > 4 << 20 for path in (tmp_path / "images").rglob("*") if path.is_file()):
            assert time.monotonic() < deadline, "the build wrote nothing"
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.join(20)
    layout = OciLayout(tmp_path / "images")
    blobs = list((layout.root / "blobs" / "sha256").iterdir())
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in blobs] == [path.name for path in blobs]
    assert layout.tags() == {}
    image = build(load_builder(name), tmp_path, tag="v1")
    assert unpack_image(reference=image.reference, into=tmp_path / "unpacked").is_dir()
    assert not list((layout.root / ".ingest").iterdir())


def test_a_base_lies_below_the_model_and_its_settings_stay(builder, tmp_path):
    base = build(builder, tmp_path / "base", files={"/etc/os": b"linux", "/models/old": b"old"}, metadata={})
    one = build(builder, tmp_path / "one", base=base.reference)
    assert one.layers[: len(base.layers)] == base.layers
    root = unpack_image(reference=one.reference, into=tmp_path / "u")
    assert (root / "etc/os").read_bytes() == b"linux"
    assert (root / "models/model/model.onnx").read_bytes() == MODEL["/models/model/model.onnx"]
    annotations = OciLayout(tmp_path / "one/images").manifest(one.digest)["annotations"]
    assert annotations == {
        "org.opencontainers.image.title": "digits",
        "org.opencontainers.image.base.digest": base.digest,
    }
    (tmp_path / "base").rename(tmp_path / "moved")
    moved = base.reference.replace(str(tmp_path / "base"), str(tmp_path / "moved"))
    assert build(builder, tmp_path / "two", base=moved).digest == one.digest


@pytest.mark.parametrize("base", ["debian:12", "ghcr.io/team/base:latest", "scratchy"])
def test_a_base_that_is_not_pinned_is_refused(builder, tmp_path, base):
    with pytest.raises(ImageInvalid, match="does not pin an image by its digest"):
        build(builder, tmp_path, base=base)


def test_a_base_that_is_not_there_is_named(builder, tmp_path):
    with pytest.raises(ImageInvalid, match="cannot be read"):
        build(builder, tmp_path, base=f"oci-layout:{tmp_path}/none@sha256:{'0' * 64}")


@pytest.mark.parametrize("repository", ["digits", "registry.example.com/Digits", "registry.example.com/digits:v1"])
def test_a_repository_that_is_none_is_refused_before_anything_is_written(builder, tmp_path, repository):
    with pytest.raises(ImageInvalid, match="host"):
        build(builder, tmp_path, repository=repository)
    assert not (tmp_path / "images").exists()


def test_a_tag_that_is_none_is_refused(builder, tmp_path):
    with pytest.raises(ImageInvalid, match="'a/b' is not a tag"):
        build(builder, tmp_path, tag="a/b")


def test_a_password_is_not_shown(tmp_path):
    options = BuildOptions(name="digits", layout=tmp_path, username="me", password="s3cret")
    assert "s3cret" not in repr(options)


def test_an_unknown_builder_is_refused_with_the_known_ones():
    with pytest.raises(CapabilityMissing, match=r"'ocii' is not a builder\. Known: .*oci.*Did you mean 'oci'\?"):
        load_builder("ocii")


def test_the_room_is_listed():
    folder = Path(__file__).resolve().parents[2] / "plugins/modelway/builders"
    files = {path.parent.name for path in folder.glob("*/member.py")}
    assert set(known("builders")) == files
    assert "oci" in files


def test_a_registry_that_is_down_is_a_retryable_error_and_the_layout_is_whole(builder, tmp_path, free_port):
    with pytest.raises(RegistryError, match=rf"127\.0\.0\.1:{free_port}/models/digits: .*Connection refused") as down:
        build(builder, tmp_path, repository=f"127.0.0.1:{free_port}/models/digits", username="me", password="s3cret")
    assert down.value.retryable
    assert "s3cret" not in str(down.value)
    (reference,) = OciLayout(tmp_path / "images").references()
    assert unpack_image(reference=reference, into=tmp_path / "u").is_dir()


@pytest.fixture
def free_port():
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return port


def test_the_digest_of_a_known_image_never_changes(tmp_path):
    image = build(load_builder("oci"), tmp_path, annotations={"org.opencontainers.image.licenses": "Apache-2.0"})
    assert image.digest == "sha256:c288c84ffda1297534a3df104feb505a5cac1b696a3168c1b83d82a4c0e815fc"
