"""How the files of an archive become the layers of an image."""

import hashlib
import json
import zipfile
from pathlib import Path

import fsspec
import pytest
from modelway.artifacts.archive import Manifest, read_manifest, write_archive
from modelway.artifacts.store import ArtifactStore
from modelway.builders.base import BuildOptions, Layer, load_builder
from modelway.errors import DigestMismatch
from modelway.runs import image_contents
from modelway.runs.image_contents import MODEL_PATH, MOST_LAYERS, build_version_image, image_layers, weights_frame
from modelway.runs.messages.version import KnownVersion


def archive_of(tmp_path: Path, files: dict[str, bytes]) -> tuple[Path, Manifest]:
    for name, data in files.items():
        (tmp_path / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "files" / name).write_bytes(data)
    archive = tmp_path / "archive.zip"
    documents = {"outputs/model.yml": {}}
    return archive, write_archive(folder=tmp_path / "files", documents=documents, to=archive, layer_frame=weights_frame)


def names(layers: list[Layer]) -> list[list[str]]:
    return [[file.path_in_image.removeprefix("/m/") for file in layer.files] for layer in layers]


def test_each_file_of_weights_is_a_layer_and_all_that_is_small_the_last(tmp_path: Path) -> None:
    files = {
        "model/b.safetensors": b"b" * 10,
        "model/a.safetensors": b"a" * 5000,
        "model/large.onnx.data": bytes(1 << 20),
        "model/model.onnx": b"program",
        "golden/inputs.safetensors": b"golden",
        "rows/inputs.safetensors": b"rows",
        "outputs/meta.yml": b"{}",
    }
    archive, _ = archive_of(tmp_path, files)
    layers = image_layers(archive=archive, path="/m/")
    assert names(layers) == [
        ["model/a.safetensors"],
        ["model/b.safetensors"],
        ["model/large.onnx.data"],
        ["golden/inputs.safetensors", "model/model.onnx", "outputs/model.yml", "MANIFEST.json"],
    ]
    for file in (file for layer in layers for file in layer.files):
        with file.source.open("rb") as source:
            source.seek(file.offset)
            assert file.digest == "sha256:" + hashlib.sha256(source.read(file.size)).hexdigest()


def test_freezing_records_the_digests_of_the_layers_that_a_build_would_compute(tmp_path: Path) -> None:
    large = (bytes(range(256)) * 20_000)[:5_000_001]
    files = {"model/a.safetensors": b"a" * 5000, "model/l.onnx.data": large, "model/model.onnx": b"program"}
    archive, manifest = archive_of(tmp_path, files)
    layers = image_layers(archive=archive, path=MODEL_PATH)
    given = [layer.digest for layer in layers]
    assert given[:2] == [member.layer for member in manifest.members if member.layer]
    assert given[2:] == [None], "the small files change with each version"
    options = BuildOptions(name="digits", layout=tmp_path / "images")
    image = load_builder("oci").build(layers=layers, base="scratch", options=options)
    assert list(image.layers[:2]) == given[:2]
    elsewhere = image_layers(archive=archive, path="/other")
    assert {layer.digest for layer in elsewhere} == {None}, "the path is in the layer"


def test_an_archive_of_an_earlier_version_has_no_digests_of_layers(tmp_path: Path) -> None:
    archive, manifest = archive_of(tmp_path, {"model/a.safetensors": b"a" * 5000})
    (tmp_path / "old").mkdir()
    earlier = tmp_path / "old" / "archive.zip"
    write_archive(folder=tmp_path / "files", documents={"outputs/model.yml": {}}, to=earlier)
    assert b"layer" not in zipfile.ZipFile(earlier).read("MANIFEST.json")
    assert read_manifest(earlier).model_digest == manifest.model_digest
    assert {layer.digest for layer in image_layers(archive=earlier, path=MODEL_PATH)} == {None}


@pytest.mark.parametrize("count", [47, 48, 200])
def test_no_image_has_more_layers_than_a_node_mounts(tmp_path: Path, count: int) -> None:
    files = {f"model/{number:04}.safetensors": bytes(100 + number % 7) for number in range(count)}
    archive, _ = archive_of(tmp_path, files)
    layers = image_layers(archive=archive, path="/m")
    assert len(layers) <= MOST_LAYERS
    assert [name for group in names(layers)[:-1] for name in group] == sorted(files)
    assert (len(layers) == count + 1) == (count == 47)


def test_neighbours_share_no_layer_that_registries_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_contents, "LARGEST_LAYER_BYTES", 250)
    files = {f"model/{number:04}.safetensors": bytes(100) for number in range(60)}
    archive, _ = archive_of(tmp_path, files)
    weights = image_layers(archive=archive, path="/m")[:-1]
    assert max(sum(file.size for file in layer.files) for layer in weights) <= 250


def test_an_archive_of_another_model_is_refused(tmp_path: Path) -> None:
    archive, manifest = archive_of(tmp_path, {"model/model.onnx": b"program"})
    store = ArtifactStore((tmp_path / "artifacts").as_uri())
    stored = store.put(archive, model="digits")
    version = KnownVersion(model="digits", version=1, archive=stored, model_digest="sha256:" + "1" * 64)
    options = BuildOptions(name="digits", layout=tmp_path / "images")
    with pytest.raises(DigestMismatch, match=f"the archive has {manifest.model_digest} instead of sha256:1111"):
        build_version_image(
            version, archive=archive, store=store, base="scratch", path="/m", builder="oci", options=options
        )
    assert not (tmp_path / "images").exists()


def test_an_archive_on_an_object_store_is_read_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"model/a.safetensors": b"a" * 3_000_000, "model/model.onnx": b"program", "rows/inputs.safetensors": b"r"}
    archive, manifest = archive_of(tmp_path, files)
    digests = []
    for root in (tmp_path.as_uri(), "memory://bucket"):
        store = ArtifactStore(f"{root}/artifacts")
        stored = store.put(archive, model="digits")
        version = KnownVersion(model="digits", version=1, archive=stored, model_digest=manifest.model_digest)
        options = BuildOptions(name="digits", layout=tmp_path / root.partition(":")[0])
        monkeypatch.setattr("tempfile.TemporaryDirectory", None)
        readable = store.readable_file(stored)
        image = build_version_image(
            version, archive=readable, store=store, base="scratch", path="/m", builder="oci", options=options
        )
        digests.append((isinstance(readable, Path), image.digest))
    assert [is_path for is_path, _ in digests] == [True, False]
    assert digests[0][1] == digests[1][1]


def test_a_damaged_archive_of_this_machine_is_named(tmp_path: Path) -> None:
    archive, _ = archive_of(tmp_path, {"model/model.onnx": b"program"})
    store = ArtifactStore((tmp_path / "artifacts").as_uri())
    stored = store.put(archive, model="digits")
    place = Path(stored.uri.removeprefix("file://"))
    place.chmod(0o644)
    place.write_bytes(b"x" + archive.read_bytes()[1:])
    with pytest.raises(DigestMismatch, match="the stored bytes are sha256:.*not sha256:"):
        store.readable_file(stored)


@pytest.mark.parametrize("changed", ["model/model.onnx", "golden/inputs.safetensors", "inputs/git_commit.yml"])
def test_a_changed_archive_on_an_object_store_is_refused(tmp_path: Path, changed: str) -> None:
    """Whoever can write to the bucket changes a member and the manifest with it, but not the lineage."""
    files = {"model/model.onnx": b"program", "golden/inputs.safetensors": b"golden", "inputs/git_commit.yml": b"{}"}
    (tmp_path / "good").mkdir()
    (tmp_path / "other").mkdir()
    archive, manifest = archive_of(tmp_path / "good", files)
    other, _ = archive_of(tmp_path / "other", files | {changed: b"changed"})
    store = ArtifactStore(f"memory://bucket/{tmp_path.name}")
    stored = store.put(archive, model="digits")
    fsspec.filesystem("memory").pipe(stored.uri.removeprefix("memory:/"), other.read_bytes())
    version = KnownVersion(model="digits", version=1, archive=stored, model_digest=manifest.model_digest)
    options = BuildOptions(name="digits", layout=tmp_path / "images")
    readable = store.readable_file(stored)
    with pytest.raises(DigestMismatch, match=f"the stored bytes are sha256:.*, not {stored.digest}"):
        build_version_image(
            version, archive=readable, store=store, base="scratch", path="/m", builder="oci", options=options
        )
    assert not (tmp_path / "images").exists()


def test_a_manifest_that_names_another_model_than_its_members_are_is_refused(tmp_path: Path) -> None:
    archive, manifest = archive_of(tmp_path, {"model/model.onnx": b"program"})
    document = json.loads(zipfile.ZipFile(archive).read("MANIFEST.json"))
    with zipfile.ZipFile(archive, "w") as zipped:
        for member in document["files"]:
            zipped.writestr(member["path"], b"another")
            member["sha256"] = hashlib.sha256(b"another").hexdigest()
        zipped.writestr("MANIFEST.json", json.dumps(document))
    assert read_manifest(archive).model_digest == manifest.model_digest
    store = ArtifactStore((tmp_path / "artifacts").as_uri())
    stored = store.put(archive, model="digits")
    version = KnownVersion(model="digits", version=1, archive=stored, model_digest=manifest.model_digest)
    options = BuildOptions(name="digits", layout=tmp_path / "images")
    with pytest.raises(DigestMismatch, match=f"the archive has sha256:.* instead of {manifest.model_digest}"):
        build_version_image(
            version, archive=archive, store=store, base="scratch", path="/m", builder="oci", options=options
        )
