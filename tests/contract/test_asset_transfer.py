"""Assets on their way between folders, the artifact store and both databases, and what can go wrong there."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from modelway.artifacts import copying
from modelway.artifacts.store import Artifact, ArtifactStore, file_digest
from modelway.assets.folder import AssetFolder, init_folder
from modelway.assets.transfer import download_asset, upload_asset
from modelway.errors import DigestMismatch, ModelwayError, NotWritable, UnknownAsset
from modelway.lineage.store import open_lineage
from modelway.lineage.write.assets import Assets

from tests.lineage_samples import make_record

ROOT = Path(__file__).resolve().parents[2]


class Desk:
    """One user's folders, the store and the lineage."""

    def __init__(self, url: str, place: Path) -> None:
        self.url, self.place = url, place
        self.assets: Assets = open_lineage(url).assets
        self.store = ArtifactStore(f"file://{place}/store")
        self.folders = place / "work"
        self.folders.mkdir()

    def draft(self, name: str, files: dict[str, str], **more: Any) -> AssetFolder:
        folder = init_folder(self.folders, name)
        for path, text in files.items():
            (folder.place / path).parent.mkdir(parents=True, exist_ok=True)
            (folder.place / path).write_text(text)
        folder.add([folder.place / path for path in files])
        folder.write(replace(folder.read(), **more))
        return folder

    def upload(self, folder: AssetFolder) -> int:
        return upload_asset(self.assets, self.store, folder, actor="mia").number

    def download(self, wanted: str, *, to: str = "there", refs: bool = False) -> list[str]:
        done = download_asset(self.assets, self.store, wanted, to=self.place / to, with_references=refs)
        return [f"{each.folder.name} {each.brought}" for each in done]

    def stored(self) -> list[Path]:
        return sorted(path for path in (self.place / "store").rglob("*") if path.is_file())


@pytest.fixture
def desk(url: str, tmp_path: Path) -> Desk:
    return Desk(url, tmp_path)


def test_two_assets_are_linked_uploaded_and_downloaded_elsewhere_by_alias(desk: Desk) -> None:
    desk.upload(desk.draft("labels", {"labels.csv": "a,1"}))
    desk.upload(desk.draft("street", {"net/model.onnx": "weights"}, references={"data": "labels"}, aliases=["good"]))
    assert desk.download("street:good", refs=True) == ["street 1", "labels 1"]
    there = desk.place / "there"
    assert (there / "street" / "net" / "model.onnx").read_text() == "weights"
    assert (there / "labels" / "labels.csv").read_text() == "a,1"
    draft = AssetFolder(there / "street").read()
    assert (draft.version, draft.files, draft.references) == (1, ["net/model.onnx"], {"data": "labels@1"})
    # A folder that was downloaded is one to continue with.
    (there / "street" / "net" / "model.onnx").write_text("better weights")
    assert desk.upload(AssetFolder(there / "street")) == 2


def test_an_upload_of_nothing_new_is_no_version_and_sends_nothing(desk: Desk) -> None:
    folder = desk.draft("labels", {"a": "1", "b": "2"})
    assert desk.upload(folder) == 1
    before = [(path, path.stat().st_ino) for path in desk.stored()]
    assert desk.upload(folder) == 1
    assert [(path, path.stat().st_ino) for path in desk.stored()] == before


def test_the_same_content_is_stored_once_whoever_stored_it_first(desk: Desk) -> None:
    content = desk.place / "model.zip"
    content.write_text("weights")
    archive = desk.store.put(content, model="digits")
    about = {"archive_uri": archive.uri, "archive_digest": archive.digest, "archive_size": archive.size}
    open_lineage(desk.url).register(make_record(**about))
    desk.upload(desk.draft("mine", {"copy.zip": "weights", "again.zip": "weights"}))
    assert len(desk.stored()) == 1
    assert {file.uri for file in desk.assets.version("mine").files} == {archive.uri}


def test_two_versions_of_one_asset_lie_beside_each_other(desk: Desk) -> None:
    desk.upload(desk.draft("labels", {"a": "1"}))
    desk.upload(desk.draft("labels", {"a": "2"}))
    both = {"new": "labels@2", "old": "labels@1"}
    desk.upload(desk.draft("street", {"net": "x"}, references=both))
    assert desk.download("street", refs=True) == ["street 1", "labels 1", "labels@1 1"]
    assert (desk.place / "there" / "labels@1" / "a").read_text() == "1"


def test_an_upload_that_was_killed_continues_where_it_was(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {f"part-{number}": str(number) for number in range(5)}
    folder = desk.draft("labels", names)
    code = f"""
        import os, signal
        from pathlib import Path
        from modelway.assets.folder import AssetFolder
        from modelway.artifacts.store import ArtifactStore
        from modelway.assets.transfer import upload_asset
        from modelway.lineage.store import open_lineage
        sent, write = [], ArtifactStore._write
        def counted(self, fs, place, path, digest, opened, shared):
            if len(sent) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            sent.append(path)
            write(self, fs, place, path, digest, opened, shared=shared)
        ArtifactStore._write = counted
        folder = AssetFolder(Path({str(folder.place)!r}))
        upload_asset(open_lineage({desk.url!r}).assets, ArtifactStore({desk.store.root!r}), folder, actor="mia")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with pytest.raises(UnknownAsset):
        desk.assets.version("labels")
    sent: list[Path] = []
    write = ArtifactStore._write
    monkeypatch.setattr(ArtifactStore, "_write", lambda *given, **more: (sent.append(given[3]), write(*given, **more)))
    assert desk.upload(folder) == 1
    assert [path.name for path in sent] == ["part-3", "part-4"]


#: copies in small blocks, and is killed in the middle of the fifth
_CUT_OFF = """
    import os, signal, sys
    from pathlib import Path
    from modelway.artifacts import copying, whole_files
    from modelway.assets.folder import AssetFolder
    from modelway.artifacts.store import ArtifactStore
    from modelway.assets.transfer import download_asset, upload_asset
    from modelway.lineage.store import open_lineage
    whole_files.BLOCK, copy = 1000, copying._copy_on
    class Killing:
        def __init__(self, target):
            self.target, self.blocks = target, 0
        def write(self, block):
            self.blocks += 1
            if self.blocks == 5:
                self.target.write(block[:500])
                self.target.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            self.target.write(block)
    copying._copy_on = lambda source, target, hashed: copy(source, Killing(target), hashed)
    what, url, root, place = sys.argv[1:]
    assets, store = open_lineage(url).assets, ArtifactStore(root)
    if what == "upload":
        upload_asset(assets, store, AssetFolder(Path(place)), actor="mia")
    else:
        download_asset(assets, store, "labels", to=Path(place))
"""


def _cut_off(desk: Desk, what: str, place: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(_CUT_OFF), what, desk.url, desk.store.root, str(place)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each copy took from where the content is."""
    copy, counts = copying._copy_on, []

    def counted(source: Any, target: Any, hashed: Any) -> str:
        before = target.tell()
        digest = copy(source, target, hashed)
        counts.append(target.tell() - before)
        return digest

    monkeypatch.setattr(copying, "_copy_on", counted)
    return counts


#: ten thousand characters that differ from each other's neighbours
_LONG = "".join(f"{number:05}" for number in range(2_000))


def test_an_upload_killed_within_a_file_sends_the_rest_of_it(desk: Desk, copied: list[int]) -> None:
    folder = desk.draft("labels", {"a": _LONG})
    _cut_off(desk, "upload", folder.place)
    (part,) = desk.stored()
    assert (part.suffix, part.stat().st_size) == (".part", 4_500)
    assert desk.upload(folder) == 1
    assert copied == [5_500]
    (whole,) = desk.stored()
    assert (whole.suffix, whole.read_text()) == ("", _LONG)


def test_a_download_killed_within_a_file_brings_the_rest_of_it(desk: Desk, copied: list[int]) -> None:
    desk.upload(desk.draft("labels", {"a": _LONG}))
    _cut_off(desk, "download", desk.place / "there")
    copied.clear()
    folder = desk.place / "there" / "labels"
    assert not (folder / "a").exists()
    (folder / ".asset.parts" / ("0" * 64)).write_text("of a version that nobody wants any more")
    assert desk.download("labels") == ["labels 1"]
    assert copied == [5_500]
    assert (folder / "a").read_text() == _LONG
    assert sorted(path.name for path in folder.iterdir()) == [".asset.json", "a"]


@pytest.mark.parametrize("left", ["x" * 4_500, "x" * 20_000], ids=["damaged", "longer than the file"])
def test_what_was_left_damaged_is_copied_from_the_beginning(desk: Desk, copied: list[int], left: str) -> None:
    folder = desk.draft("labels", {"a": _LONG})
    place = Path(desk.store.uri(file_digest(folder.place / "a"), model="_assets").removeprefix("file://"))
    place.parent.mkdir(parents=True)
    place.with_name(f"{place.name}.part").write_text(left)
    assert desk.upload(folder) == 1
    assert desk.stored() == [place]
    parts = desk.place / "there" / "labels" / ".asset.parts"
    parts.mkdir(parents=True)
    (parts / f"{place.parent.name}{place.name}").write_text(left)
    copied.clear()
    assert desk.download("labels") == ["labels 1"]
    assert copied == [max(0, 10_000 - len(left)), 10_000]
    assert (desk.place / "there" / "labels" / "a").read_text() == _LONG


def test_two_who_store_one_content_at_once_both_store_it_whole(desk: Desk) -> None:
    folder = desk.draft("labels", {"a": _LONG})
    place = Path(desk.store.uri(file_digest(folder.place / "a"), model="_assets").removeprefix("file://"))
    place.parent.mkdir(parents=True)
    with copying.reused_part(place.with_name(f"{place.name}.part")) as (_, other):
        other.write(b"half")
        other.flush()
        assert desk.upload(folder) == 1
    assert place.read_text() == _LONG


def test_a_full_disk_keeps_no_part(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = desk.draft("labels", {"a": _LONG})

    def fills_up(_source: Any, target: Any, _hashed: Any) -> str:
        target.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(copying, "_copy_on", fills_up)
    with pytest.raises(NotWritable, match="No space left"):
        desk.upload(folder)
    assert desk.stored() == []


def test_a_download_that_was_cut_off_brings_only_what_is_missing(desk: Desk) -> None:
    desk.upload(desk.draft("labels", {"a": "1", "b": "2", "c": "3"}))
    assert desk.download("labels") == ["labels 3"]
    (desk.place / "there" / "labels" / "b").unlink()
    (desk.place / "there" / "labels" / ".asset.json").unlink()
    assert desk.download("labels") == ["labels 1"]


def test_a_newer_version_replaces_what_nobody_changed_and_nothing_else(desk: Desk) -> None:
    desk.upload(desk.draft("labels", {"a": "1", "b": "2"}))
    desk.download("labels")
    desk.upload(desk.draft("labels", {"a": "one", "b": "two"}))
    assert desk.download("labels@2") == ["labels 2"]
    mine = desk.place / "there" / "labels" / "b"
    mine.write_text("my own")
    with pytest.raises(ModelwayError, match="'b' is there already and is another file than the asset's"):
        desk.download("labels@1")
    assert (mine.read_text(), (mine.parent / "a").read_text()) == ("my own", "one")
    AssetFolder(mine.parent).write(replace(AssetFolder(mine.parent).read(), aliases=["mine"]))
    with pytest.raises(ModelwayError, match="has changes that were never uploaded"):
        desk.download("labels@2")


def test_a_link_in_the_way_of_a_download_is_refused(desk: Desk) -> None:
    desk.upload(desk.draft("labels", {"data/a": "1"}))
    outside = desk.place / "outside"
    outside.mkdir()
    (desk.place / "there" / "labels").mkdir(parents=True)
    (desk.place / "there" / "labels" / "data").symlink_to(outside)
    with pytest.raises(ModelwayError, match="a link cannot be"):
        desk.download("labels")
    assert list(outside.iterdir()) == []


def test_a_file_that_changes_while_it_is_uploaded_is_noticed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = desk.draft("labels", {"a": "1" * 100})
    copy = copying._copy_on

    def changed(source: Any, target: Any, hashed: Any) -> str:
        (folder.place / "a").write_text("2" * 100)
        return copy(source, target, hashed)

    monkeypatch.setattr(copying, "_copy_on", changed)
    with pytest.raises(DigestMismatch, match="the file changed while it was stored.*when nothing writes to it"):
        desk.upload(folder)
    assert desk.stored() == []
    with pytest.raises(UnknownAsset):
        desk.assets.version("labels")
    monkeypatch.undo()
    assert desk.upload(folder) == 1


def test_a_file_that_went_after_it_was_added_is_reported_before_anything_is_sent(desk: Desk) -> None:
    folder = desk.draft("labels", {"a": "1", "z": "2"})
    (folder.place / "z").unlink()
    with pytest.raises(ModelwayError, match="'z' is not a file of the folder now.*--remove z"):
        desk.upload(folder)
    assert desk.stored() == []


def test_a_reference_to_nothing_is_reported_before_anything_is_sent(desk: Desk) -> None:
    folder = desk.draft("street", {"a": "1"}, references={"labels": "labels:good"})
    with pytest.raises(UnknownAsset, match="refers to 'labels:good'.*Upload that one first: modelway asset upload lab"):
        desk.upload(folder)
    assert desk.stored() == []


def test_other_bytes_than_the_digest_names_are_quarantined_and_a_good_copy_mends_it(desk: Desk) -> None:
    folder = desk.draft("labels", {"a": "good bytes"})
    desk.upload(folder)
    (place,) = desk.stored()
    place.write_text("evil bytes")
    with pytest.raises(DigestMismatch, match="the stored bytes are sha256:.*The bad one is beside it now, as .*quar"):
        desk.download("labels")
    assert not (desk.place / "there" / "labels" / "a").exists()
    (bad,) = desk.stored()
    assert (bad.name, bad.read_text()) == (f"{place.name}.quarantine", "evil bytes")
    with pytest.raises(DigestMismatch, match="'a' of labels@1 is gone from the artifact store.*Upload a file with sha"):
        desk.download("labels")
    assert desk.upload(folder) == 1
    assert desk.download("labels") == ["labels 1"]
    assert (desk.place / "there" / "labels" / "a").read_text() == "good bytes"
    assert bad.exists()


def test_bytes_that_break_off_on_their_way_are_looked_at_twice(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.upload(desk.draft("labels", {"a": "good bytes"}))
    copy, calls = copying._copy_on, []

    def breaks_off(source: Any, target: Any, hashed: Any) -> str:
        calls.append(1)
        return copy(source, target, hashed) if len(calls) > 1 else "sha256:half"

    monkeypatch.setattr(copying, "_copy_on", breaks_off)
    assert desk.download("labels") == ["labels 1"]
    assert len(desk.stored()) == 1


def test_a_file_outside_of_the_store_is_never_moved_aside(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    artifact = Artifact(uri=precious.as_uri(), digest="sha256:" + "0" * 64, size=1)
    with pytest.raises(DigestMismatch) as caught:
        ArtifactStore(f"file://{tmp_path}/store").fetch(artifact, to=tmp_path / "copy")
    assert "beside" not in str(caught.value)
    assert precious.read_text() == "x"


def test_a_content_that_is_gone_in_one_place_is_found_in_another(desk: Desk) -> None:
    desk.upload(desk.draft("labels", {"a": "1"}))
    (place,) = desk.stored()
    elsewhere = desk.store.put(desk.folders / "labels" / "a", model="digits")
    about = {"archive_uri": elsewhere.uri, "archive_digest": elsewhere.digest, "archive_size": elsewhere.size}
    open_lineage(desk.url).register(make_record(**about))
    place.unlink()
    assert desk.download("labels") == ["labels 1"]


def test_large_files_need_no_memory(tmp_path: Path) -> None:
    code = """
        import resource, sys
        from pathlib import Path
        from modelway.assets.folder import init_folder
        from modelway.artifacts.store import ArtifactStore
        from modelway.assets.transfer import download_asset, upload_asset
        from modelway.lineage.store import open_lineage
        place = Path(sys.argv[1])
        assets, store = open_lineage(f"sqlite:///{place}/lineage.db").assets, ArtifactStore(f"file://{place}/store")
        peaks = []
        for name, size in (("small", 2**20), ("large", 160 * 2**20)):
            folder = init_folder(place, name)
            with (folder.place / "data").open("wb") as file:
                file.write(name.encode())
                file.truncate(size)
            folder.add([folder.place / "data"])
            upload_asset(assets, store, folder, actor="mia")
            download_asset(assets, store, name, to=place / "there")
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        print(*peaks)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "plugins")},
        capture_output=True,
        text=True,
        check=True,
    )
    small, large = map(int, done.stdout.split())
    assert large - small < 64, f"{small} MiB for 1 MiB, {large} MiB for 160 MiB"
    assert file_digest(tmp_path / "there" / "large" / "data") == file_digest(tmp_path / "large" / "data")
    for folder in ("store", "there", "large"):
        shutil.rmtree(tmp_path / folder)
