"""The model archive: byte-identical for the same inputs, and every member checked when it is read."""

import hashlib
import json
import os
import zipfile

import pytest
from modelway.artifacts.archive import ALIGNMENT, member_offsets, read_manifest, unpack_archive, write_archive
from modelway.artifacts.store import file_digest
from modelway.errors import DigestMismatch
from modelway.runs.archive_documents import archive_documents
from modelway.runs.messages.checkpoints import Checkpoint
from modelway.runs.messages.code import CodePackage
from modelway.runs.messages.evaluation import ConsideredCheckpoint, Selection

from tests.lineage_samples import CODE

FILES = {
    "model/model.onnx": b"program",
    "model/model.safetensors": bytes(range(256)) * 40,
    "golden/inputs.safetensors": b"in",
    "outputs/model.yml": b"{}",
}
DOCUMENTS = {"outputs/summary.json": {"b": 1, "a": [0.1, None]}, "inputs/training.yml": {"stages": []}}


def make(folder, *, files=FILES, documents=DOCUMENTS):
    for name, data in files.items():
        path = folder / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    manifest = write_archive(folder=folder / "tree", documents=documents, to=folder / "model.zip")
    return folder / "model.zip", manifest


def rewrite(archive, **changes):
    """Write the archive again with other members; ``None`` takes one out."""
    with zipfile.ZipFile(archive) as zipped:
        members = {name: zipped.read(name) for name in zipped.namelist()}
    members = {name: data for name, data in {**members, **changes}.items() if data is not None}
    with zipfile.ZipFile(archive, "w") as zipped:
        for name, data in members.items():
            zipped.writestr(name, data)


def test_the_same_inputs_give_the_same_bytes(tmp_path):
    first, one = make(tmp_path / "a")
    files, documents = dict(reversed(FILES.items())), dict(reversed(DOCUMENTS.items()))
    second, two = make(tmp_path / "b" / "deeper", files=files, documents=documents)
    assert file_digest(first) == file_digest(second)
    assert one == two


def test_members_are_sorted_stored_and_listed_last(tmp_path):
    archive, manifest = make(tmp_path)
    with zipfile.ZipFile(archive) as zipped:
        names = zipped.namelist()
        assert names == [*sorted([*FILES, *DOCUMENTS]), "MANIFEST.json"]
        assert {info.compress_type for info in zipped.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in zipped.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert json.loads(zipped.read("outputs/summary.json")) == DOCUMENTS["outputs/summary.json"]
    assert [member.path for member in manifest.members] == names[:-1]
    roles = {member.path: member.role for member in manifest.members}
    assert roles["model/model.onnx"] == "model"
    assert roles["golden/inputs.safetensors"] == "golden"
    assert roles["inputs/training.yml"] == "input"
    assert roles["outputs/summary.json"] == "output"
    for member in manifest.members:
        if member.path in FILES:
            assert member.size == len(FILES[member.path])
            assert member.sha256 == hashlib.sha256(FILES[member.path]).hexdigest()


def test_the_data_of_each_member_can_be_mapped_where_it_is(tmp_path):
    archive, _ = make(tmp_path)
    offsets, data = member_offsets(archive), archive.read_bytes()
    assert set(offsets) == {*FILES, *DOCUMENTS, "MANIFEST.json"}
    assert {offset % ALIGNMENT for offset in offsets.values()} == {0}
    for name, content in FILES.items():
        assert data[offsets[name] :].startswith(content)


def test_a_compressed_member_has_no_place(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("a", b"a" * 1000)
    with pytest.raises(DigestMismatch, match="'a' is not stored as it is"):
        member_offsets(tmp_path / "x.zip")


def test_only_some_members_are_unpacked_from_an_open_file(tmp_path):
    archive, manifest = make(tmp_path)
    with archive.open("rb") as file:
        assert unpack_archive(archive=file, to=tmp_path / "to", only=("golden/",)) == manifest
    found = {path.relative_to(tmp_path / "to").as_posix() for path in (tmp_path / "to").rglob("*") if path.is_file()}
    assert found == {"golden/inputs.safetensors", "MANIFEST.json"}


def test_the_model_digest_follows_from_the_models_files_only(tmp_path):
    _, manifest = make(tmp_path / "a")
    _, other_words = make(tmp_path / "b", documents={"outputs/summary.json": {"loss": 1}})
    _, other_weights = make(tmp_path / "c", files={**FILES, "model/model.onnx": b"Program"})
    assert manifest.model_digest == other_words.model_digest
    assert manifest.model_digest != other_weights.model_digest


def test_a_number_that_json_cannot_hold_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        make(tmp_path, documents={"outputs/summary.json": {"loss": float("nan")}})


def test_an_archive_is_unpacked_as_it_was(tmp_path):
    archive, manifest = make(tmp_path)
    assert read_manifest(archive) == manifest
    assert unpack_archive(archive=archive, to=tmp_path / "to") == manifest
    for name, data in FILES.items():
        assert (tmp_path / "to" / name).read_bytes() == data
    assert json.loads((tmp_path / "to" / "MANIFEST.json").read_text())["model_digest"] == manifest.model_digest


@pytest.mark.parametrize("length", [0, 10, 0.5, 0.99, -1])
def test_a_truncated_archive_is_refused(tmp_path, length):
    archive, _ = make(tmp_path)
    size = archive.stat().st_size
    os.truncate(archive, size - 1 if length == -1 else int(length * size) if length < 1 else length)
    with pytest.raises(DigestMismatch, match="not a whole model archive"):
        read_manifest(archive)


@pytest.mark.parametrize(
    "text",
    [None, "", "{", "[]", "{}", '{"files": [{}], "model_digest": ""}', '{"files": 1, "model_digest": ""}', b"\xff"],
)
def test_a_manifest_that_is_none_is_refused(tmp_path, text):
    archive, _ = make(tmp_path)
    rewrite(archive, **{"MANIFEST.json": text})
    with pytest.raises(DigestMismatch, match="not a whole model archive.*Run the freeze stage again"):
        unpack_archive(archive=archive, to=tmp_path / "to")


def test_an_archive_that_is_gone_is_refused(tmp_path):
    with pytest.raises(DigestMismatch, match="not a whole model archive"):
        read_manifest(tmp_path / "none.zip")


def test_a_changed_member_is_refused(tmp_path):
    archive, _ = make(tmp_path)
    rewrite(archive, **{"model/model.onnx": b"Program"})
    with pytest.raises(DigestMismatch, match=r"'model/model\.onnx' is not what MANIFEST\.json says"):
        unpack_archive(archive=archive, to=tmp_path / "to")


def test_a_flipped_bit_and_a_missing_member_are_refused(tmp_path):
    archive, _ = make(tmp_path / "a")
    data = archive.read_bytes()
    archive.write_bytes(data.replace(b"program", b"Program", 1))
    with pytest.raises(DigestMismatch, match=r"'model/model\.onnx' is damaged"):
        unpack_archive(archive=archive, to=tmp_path / "to")
    archive, _ = make(tmp_path / "b")
    rewrite(archive, **{"model/model.onnx": None})
    with pytest.raises(DigestMismatch, match=r"'model/model\.onnx' is damaged"):
        unpack_archive(archive=archive, to=tmp_path / "to")


@pytest.mark.parametrize("name", ["../out", "/tmp/modelway-out", "a/../../out"])
def test_a_member_that_leaves_the_folder_is_refused(tmp_path, name):
    archive, _ = make(tmp_path)
    entry = {"path": name, "size": 1, "sha256": hashlib.sha256(b"x").hexdigest(), "role": "doc"}
    manifest = json.dumps({"format": 1, "model_digest": "", "files": [entry]})
    rewrite(archive, **{name: b"x", "MANIFEST.json": manifest})
    with pytest.raises(DigestMismatch, match="leaves the folder"):
        unpack_archive(archive=archive, to=tmp_path / "deep" / "to")
    assert not list(tmp_path.rglob("out"))


def test_how_long_a_run_took_is_not_in_its_archive():
    def documents(seconds):
        known = {"stage": "train", "step": 1, "digest": "sha256:00"}
        selected = Selection(
            checkpoint=Checkpoint(id="train-000001", uri="file:///c", size=1, **known),
            metrics={"loss": 0.1},
            rule="least loss",
            evaluations=(
                ConsideredCheckpoint(
                    checkpoint="train-000001", metrics={"loss": 0.1}, seconds=seconds, startup_seconds=seconds, **known
                ),
            ),
        )
        return archive_documents(code=CodePackage.from_xcom(CODE), selected=selected, training=[], datasets=[])

    assert documents(1.5) == documents(2.5)
    assert documents(1.5)["outputs/summary.json"]["evaluations"] == [
        {
            **{"checkpoint": "train-000001", "stage": "train", "step": 1, "digest": "sha256:00"},
            **{"metrics": {"loss": 0.1}, "not_finite": {}},
        }
    ]
