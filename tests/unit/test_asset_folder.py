"""An asset's folder: what belongs to it, and what cannot."""

import os
from pathlib import Path

import pytest
from modelway.artifacts.store import file_digest
from modelway.assets.folder import AssetFolder, init_folder
from modelway.errors import ModelwayError


@pytest.fixture
def folder(tmp_path: Path) -> AssetFolder:
    return init_folder(tmp_path, "street", description="signs")


def test_a_folder_is_initialised_once(tmp_path: Path, folder: AssetFolder) -> None:
    (folder.place / "a").write_text("1")
    folder.add([folder.place / "a"])
    again = init_folder(tmp_path, "street")
    assert again.read() == folder.read()
    assert (again.read().description, again.read().files) == ("signs", ["a"])


def test_files_from_elsewhere_are_copied_and_those_inside_stay_where_they_are(
    tmp_path: Path, folder: AssetFolder
) -> None:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "b").write_text("2")
    (tmp_path / "data" / ".hidden").write_text("3")
    (folder.place / "own").mkdir()
    (folder.place / "own" / "c").write_text("4")
    assert folder.add([tmp_path / "data"]) == ["data/deep/b"]
    assert folder.add([folder.place / "own" / "c"]) == ["own/c"]
    assert folder.add([tmp_path / "data" / "deep" / "b"], path="as/that") == ["as/that"]
    assert folder.read().files == ["as/that", "data/deep/b", "own/c"]
    assert folder.file("data/deep/b").read_text() == folder.file("as/that").read_text() == "2"
    assert sorted(path.name for path in folder.place.rglob("*") if path.is_file()) == [".asset.json", "b", "c", "that"]


def test_a_file_is_left_out_again(folder: AssetFolder) -> None:
    (folder.place / "a").write_text("1")
    folder.add([folder.place / "a"])
    folder.drop(["a"])
    assert folder.read().files == []
    assert (folder.place / "a").exists()
    with pytest.raises(ModelwayError, match="asset 'street' has no file 'a'"):
        folder.drop(["a"])


def test_links_are_refused_wherever_they_are(tmp_path: Path, folder: AssetFolder) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "f").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    (folder.place / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "inner").symlink_to(tmp_path / "elsewhere")
    for source in (tmp_path / "link", folder.place / "out", folder.place / "out" / "f", tmp_path / "data"):
        with pytest.raises(ModelwayError, match="a link cannot be a file of an asset"):
            folder.add([source])
    with pytest.raises(ModelwayError, match="a link cannot be"):
        folder.add([tmp_path / "secret"], path="out/secret")
    assert not (tmp_path / "elsewhere" / "secret").exists()
    assert folder.read().files == []


def test_a_file_that_becomes_a_link_after_it_was_added_is_refused(tmp_path: Path, folder: AssetFolder) -> None:
    (folder.place / "a").write_text("1")
    folder.add([folder.place / "a"])
    (folder.place / "a").unlink()
    (folder.place / "a").symlink_to("/etc/hostname")
    with pytest.raises(ModelwayError, match="a link cannot be"):
        folder.file("a")


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", "a/../../b", ".asset.json"])
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, folder: AssetFolder, path: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelwayError, match="cannot be a file of an asset"):
        folder.add([tmp_path / "file"], path=path)
    with pytest.raises(ModelwayError, match="cannot be a file of an asset"):
        folder.free_place(path, digest="")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "street"]


def test_what_is_no_file_is_refused(tmp_path: Path, folder: AssetFolder) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelwayError, match="is not a regular file"):
        folder.add([tmp_path / "pipe"])
    with pytest.raises(ModelwayError, match="is not there"):
        folder.add([tmp_path / "none"])
    with pytest.raises(ModelwayError, match="--as names one file or folder, not 2"):
        folder.add([tmp_path / "a", tmp_path / "b"], path="c")


def test_a_record_that_somebody_broke_is_reported(folder: AssetFolder) -> None:
    (folder.place / ".asset.json").write_text('{"name": "../x"')
    with pytest.raises(ModelwayError, match=r"\.asset\.json: the asset's record cannot be read"):
        folder.read()


def test_a_folder_that_is_none_says_how_it_becomes_one(tmp_path: Path) -> None:
    with pytest.raises(ModelwayError, match="there is no asset's folder. modelway asset init other"):
        AssetFolder(tmp_path / "other").read()


def test_a_download_takes_no_place_of_somebody_elses_file(folder: AssetFolder) -> None:
    assert folder.free_place("a", digest="sha256:x") == folder.place / "a"
    (folder.place / "a").write_text("mine")
    assert folder.free_place("a", digest=file_digest(folder.place / "a")) is None
    with pytest.raises(ModelwayError, match="'a' is there already and is another file"):
        folder.free_place("a", digest="sha256:x")
