"""``modelway asset`` and ``modelway gc``: what they refuse and how they end; the walk-through shows the rest."""

import argparse
import json
import os
from pathlib import Path

import pytest
from modelway.artifacts.store import ArtifactStore
from modelway.cli import asset, gc, versions
from modelway.errors import ModelwayError, UnknownAsset
from modelway.lineage.store import open_lineage

from tests.lineage_samples import make_record


def call(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    for group in (asset, gc, versions):
        group.add_commands(commands)
    args = parser.parse_args(arguments)
    status: int = args.run(args)
    return status


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOGNAME", "mia")
    for name in ("MODELWAY_LINEAGE_URL", "MODELWAY_ARTIFACT_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def labels(place: Path) -> Path:
    call("asset", "init", "labels")
    (place / "labels" / "a").write_text("1")
    call("asset", "add", "labels", "labels/a")
    call("asset", "upload", "labels", "--message", "first")
    return place / "labels"


@pytest.mark.usefixtures("labels")
def test_assets_are_listed_with_their_newest_version(capsys: pytest.CaptureFixture[str], labels: Path) -> None:
    call("asset", "init", "another")
    (labels / "a").write_text("2")
    call("asset", "add", "another", "labels/a")
    call("asset", "add", "labels", "labels/a", "--as", "a")
    call("asset", "upload", "labels", "--message", "second")
    call("asset", "upload", "another")
    capsys.readouterr()
    assert call("asset", "list") == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert (head.split()[0], [row.split()[0] for row in rows]) == ("VERSION", ["another@1", "labels@2"])
    assert call("asset", "list", "--json") == 0
    assert [each["asset"] for each in json.loads(capsys.readouterr().out)] == ["another", "labels"]


def test_a_version_is_named_in_one_word_or_two(capsys: pytest.CaptureFixture[str], labels: Path) -> None:
    (labels / "a").write_text("2")
    call("asset", "add", "labels", "labels/a", "--as", "a")
    call("asset", "alias", "labels", "good")
    call("asset", "upload", "labels")
    shown = set()
    for words in (["labels@2"], ["labels", "2"], ["labels", "good"], ["labels:good"], ["labels"]):
        capsys.readouterr()
        assert call("asset", "show", *words) == 0
        shown.add(capsys.readouterr().out.split()[1])
    assert shown == {"labels@2"}
    compared = set()
    for words in (["labels@1", "labels@2"], ["labels", "1", "2"], ["labels", "1", "good"]):
        assert call("asset", "diff", *words) == 0
        compared.add(capsys.readouterr().out)
    assert len(compared) == 1
    assert call("asset", "download", "labels", "1", "--to", "there") == 0
    assert Path("there", "labels", "a").read_text() == "1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "labels", "1", "2"), "one version is named. Write NAME, NAME@3 or NAME:alias"),
        (("show", "labels@1", "2"), "one version is named"),
        (("diff", "labels"), "two versions are compared. Write NAME 1 2, or NAME@1 OTHER:alias"),
    ],
)
def test_another_number_of_versions_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ModelwayError, match=message):
        call("asset", *words)


def test_without_any_asset_the_list_says_so() -> None:
    with pytest.raises(UnknownAsset, match="there are no assets: the lineage is empty. Upload an asset"):
        call("asset", "list")


@pytest.mark.usefixtures("labels")
def test_what_is_known_comes_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    found = {}
    for words in (["show", "labels"], ["history", "labels"], ["diff", "labels@1", "labels"], ["find", "labels/a"]):
        assert call("asset", *words, "--json") == 0
        found[words[0]] = json.loads(capsys.readouterr().out)
    assert (found["show"]["summary"]["number"], found["show"]["files"][0]["path"]) == (1, "a")
    assert found["history"]["versions"][0]["message"] == "first"
    assert (found["diff"]["same"], found["diff"]["changed"]) == (1, [])
    assert [(each["kind"], each["name"]) for each in found["find"]] == [("asset", "labels")]


@pytest.mark.usefixtures("labels")
def test_a_content_that_nobody_has_is_reported_by_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    digest = "sha256:" + "0" * 64
    assert call("asset", "find", digest) == 1
    assert f"no asset and no model has {digest}" in capsys.readouterr().out
    with pytest.raises(ModelwayError, match="'none' is neither a file nor a digest"):
        call("asset", "find", "none")


def test_an_empty_lineage_is_not_made_by_looking(place: Path) -> None:
    for words in (
        ["show", "a"],
        ["history", "a"],
        ["download", "a"],
        ["find", "sha256:" + "0" * 64],
        ["alias", "a", "b"],
    ):
        with pytest.raises(UnknownAsset, match="the lineage is empty"):
            call("asset", *words)
    assert call("gc") == call("gc", "--dry-run") == 0
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("alias", ["latest", "3", "v3", "Ä"])
def test_an_alias_that_reads_like_a_version_is_refused_at_once(labels: Path, alias: str) -> None:
    before = (labels / ".asset.json").read_text()
    with pytest.raises(ModelwayError, match="cannot be an alias"):
        call("asset", "alias", "labels", alias)
    assert (labels / ".asset.json").read_text() == before


def test_an_alias_is_for_the_next_upload_where_the_folder_is_and_moves_at_once_elsewhere(
    labels: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    capsys.readouterr()
    call("asset", "alias", "labels", "good")
    call("asset", "alias", "labels@1", "older")
    monkeypatch.chdir(labels)
    call("asset", "alias", "labels", "newest")
    assert capsys.readouterr().out.splitlines() == [
        "labels: the version that is uploaded next becomes labels:good",
        "labels:older is labels@1",
        "labels:newest is labels@1",
    ]


@pytest.mark.usefixtures("labels")
def test_an_asset_refers_to_others_only() -> None:
    with pytest.raises(ModelwayError, match="cannot refer to itself"):
        call("asset", "ref", "labels", "labels@1")
    with pytest.raises(ModelwayError, match="cannot name a reference"):
        call("asset", "ref", "labels", "other", "--as", "a/b")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--keep", "0"], "--keep 0 would keep no latest version"),
        (["--older-than", "3"], "--older-than: '3' is not a duration.*30m, 2h"),
        (["--older-than", "0s"], "must be between 1s and 365d"),
    ],
)
def test_gc_refuses_what_would_remove_too_much(words: list[str], message: str) -> None:
    with pytest.raises(ModelwayError, match=message):
        call("gc", *words)


def test_a_version_of_a_model_tells_which_files_were_removed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "model").write_text("x")
    store = ArtifactStore((place / "home" / "artifacts").as_uri())
    archive = store.put(place / "model", model="digits")
    os.utime(archive.uri.removeprefix("file://"), (0, 0))
    lineage = open_lineage(f"sqlite:///{place}/home/lineage.db")
    about = {"archive_uri": archive.uri, "archive_digest": archive.digest}
    lineage.register(make_record("one", **about))
    lineage.register(make_record("two"))
    call("show", "digits", "1")
    assert "was removed" not in capsys.readouterr().out
    assert call("gc", "--keep", "1") == 0
    assert "archive of model digits v1" in capsys.readouterr().out
    call("show", "digits", "1")
    assert "The archive was removed from the artifact store by mia at 20" in capsys.readouterr().out
