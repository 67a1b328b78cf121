"""Snapshots: the same files give the same bytes, and what is wrong in a folder is just as wrong in its snapshot."""

import json
import os
import zipfile
from pathlib import Path

import pytest
from modelway.artifacts.code_package import package_files
from modelway.artifacts.commits import Commit, git_commit
from modelway.artifacts.snapshot import (
    LARGEST_YAML_BYTES,
    MARKER,
    find_entries,
    signature,
    snapshot_of,
    unpack_snapshot,
    write_snapshot,
)
from modelway.artifacts.store import file_digest
from modelway.errors import InvalidModelCode, ModelwayError
from modelway.spec.load import load_specs, models_beside, models_folder
from modelway.spec.problems import display

from tests.unit.spec_samples import write_model


@pytest.fixture
def source(tmp_path):
    """Return a folder with DAG files and two good models."""
    dags = tmp_path / "source" / "dags"
    dags.mkdir(parents=True)
    (dags / "models.py").write_text("# dag\n")
    (dags / ".airflowignore").write_text("/examples/\n")
    for name in ("first", "second"):
        write_model(tmp_path / "source" / "include" / "models", name)
    return tmp_path / "source"


def models_of(source: Path) -> Path:
    return source / "include" / "models"


def entries_of(source: Path):
    return find_entries(dags=source / "dags", models=models_of(source))


def take(source: Path, to: Path, commits=None) -> Path:
    """Write and unpack a snapshot of ``source`` as the folder ``to``."""
    package = to.with_suffix(".zip")
    write_snapshot(entries_of(source), commits=commits or {}, to=package)
    unpack_snapshot(package=package, to=to)
    return to


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def test_it_holds_dags_and_models_without_what_is_hidden(source, tmp_path):
    for extra in ("dags/__pycache__/models.pyc", "include/models/.git/x", "include/models/first/.env", "dags/.env"):
        (source / extra).parent.mkdir(exist_ok=True)
        (source / extra).touch()
    (models_of(source) / "schema.json").write_text("{}")
    (models_of(source) / "first" / "net").mkdir()
    (models_of(source) / "first" / "net" / "model.yaml").write_text("kept")
    snapshot = take(source, tmp_path / "snapshot")
    assert files(snapshot) == [
        "dags/.airflowignore",
        "dags/models.py",
        "include/models/first/first.py",
        "include/models/first/model.yaml",
        "include/models/first/net/model.yaml",
        "include/models/schema.json",
        "include/models/second/model.yaml",
        "include/models/second/second.py",
        MARKER,
    ]
    assert load_specs(snapshot / "include" / "models").specs.keys() == {"first", "second"}


def test_the_same_files_give_the_same_bytes_whatever_their_times_and_rights(source, tmp_path):
    take(source, tmp_path / "one")
    for path in source.rglob("*.py"):
        os.utime(path, (1, 1))
        path.chmod(0o600)
    take(source, tmp_path / "two")
    assert file_digest(tmp_path / "one.zip") == file_digest(tmp_path / "two.zip")


@pytest.mark.parametrize("change", ["content", "name", "executable", "more", "less", "commit"])
def test_whatever_changes_changes_digest_and_signature(source, tmp_path, change):
    take(source, tmp_path / "one")
    before, commits = signature(entries_of(source), {}), {}
    file = models_of(source) / "first" / "first.py"
    if change == "content":
        file.write_text(file.read_text().replace("train", "brain"))
    elif change == "name":
        file.rename(file.with_name("other.py"))
    elif change == "executable":
        file.chmod(0o755)
    elif change == "more":
        (source / "dags" / "more.py").touch()
    elif change == "less":
        (models_of(source) / "second" / "model.yaml").unlink()
    else:
        commits = {"first": Commit(commit="1" * 40).to_dict()}
    take(source, tmp_path / "two", commits)
    assert file_digest(tmp_path / "one.zip") != file_digest(tmp_path / "two.zip")
    assert signature(entries_of(source), commits) != before


def broken_link(models: Path) -> None:
    (models / "first" / "model.yaml").unlink()
    (models / "first" / "model.yaml").symlink_to("nowhere.yaml")


def link_to_itself(models: Path) -> None:
    (models / "first" / "model.yaml").unlink()
    (models / "first" / "model.yaml").symlink_to("model.yaml")


def folder_for_the_spec(models: Path) -> None:
    (models / "first" / "model.yaml").unlink()
    (models / "first" / "model.yaml").mkdir()


def pipe_for_the_spec(models: Path) -> None:
    (models / "first" / "model.yaml").unlink()
    os.mkfifo(models / "first" / "model.yaml")


def link_that_cannot_be_followed(models: Path) -> None:
    (models / "third").symlink_to("x" * 300)


def file_for_the_models(models: Path) -> None:
    models.rename(models.with_name("moved"))
    models.touch()


def link_out_of_the_models(models: Path) -> None:
    (models.parent / "secret.yaml").write_text("password: abc\n")
    (models / "first" / "model.yaml").unlink()
    (models / "first" / "model.yaml").symlink_to(models.parent / "secret.yaml")


def no_models(models: Path) -> None:
    models.rename(models.with_name("moved"))


def huge(models: Path) -> None:
    (models / "first" / "model.yaml").write_bytes(b"model: first # " + b"x" * 10_000_000)


def wrong_key(models: Path) -> None:
    (models / "first" / "model.yaml").write_text("model: first\ntrian: {}\n")


def no_code(models: Path) -> None:
    (models / "first" / "first.py").unlink()


def code_is_a_broken_link(models: Path) -> None:
    (models / "first" / "first.py").unlink()
    (models / "first" / "first.py").symlink_to("/nowhere/first.py")


def name_of_another(models: Path) -> None:
    (models / "first" / "model.yaml").write_text("model: second\n")


FAULTS = [broken_link, link_to_itself, folder_for_the_spec, pipe_for_the_spec, file_for_the_models, no_models]
FAULTS += [
    link_out_of_the_models,
    link_that_cannot_be_followed,
    huge,
    wrong_key,
    no_code,
    code_is_a_broken_link,
    name_of_another,
]


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_reported_of_the_snapshot_as_of_the_folder(source, tmp_path, monkeypatch, fault):
    fault(models_of(source))
    snapshot = take(source, tmp_path / "snapshot")
    monkeypatch.chdir(source)
    reported = [str(problem) for problem in load_specs(models_of(source)).problems]
    assert reported
    loaded = load_specs(models_of(snapshot))
    assert [str(problem) for problem in loaded.problems] == reported
    assert loaded.specs.keys() == load_specs(models_of(source)).specs.keys()


@pytest.mark.parametrize("target", ["/etc/passwd", "../second/second.py", "nowhere", "itself", "sub"])
def test_a_link_that_a_code_package_refuses_is_refused_in_the_snapshot_too(source, tmp_path, target):
    folder = models_of(source) / "first"
    (folder / "sub").mkdir()
    (folder / "itself").symlink_to(target)
    with pytest.raises(InvalidModelCode) as refused:
        package_files(folder)
    snapshot = take(source, tmp_path / "snapshot")
    with pytest.raises(InvalidModelCode) as again:
        package_files(models_of(snapshot) / "first")
    assert again.value.what == refused.value.what


def test_links_that_work_become_what_they_lead_to(source, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    write_model(elsewhere, "third")
    (models_of(source) / "third").symlink_to(elsewhere / "third")
    (models_of(source) / "first" / "absolute.py").symlink_to(models_of(source) / "first" / "first.py")
    (source / "dags" / "team").symlink_to(elsewhere)
    (source / "dags" / "round").symlink_to(source / "dags")
    spec = models_of(source) / "second" / "model.yaml"
    spec.rename(models_of(source) / "shared.yaml")
    spec.symlink_to("../shared.yaml")
    snapshot = take(source, tmp_path / "snapshot")
    assert [path for path in snapshot.rglob("*") if path.is_symlink()] == []
    assert load_specs(models_of(snapshot)).specs.keys() == {"first", "second", "third"}
    assert Path("absolute.py") in package_files(models_of(snapshot) / "first")
    assert (snapshot / "dags" / "team" / "third" / "third.py").is_file()
    assert not (snapshot / "dags" / "round").exists()


def test_what_cannot_be_read_is_there_and_cannot_be_read(source, tmp_path, monkeypatch):
    secret, closed = models_of(source) / "first" / "first.py", models_of(source) / "second"
    real = os.access
    # Root may read everything: only the answer can be changed.
    monkeypatch.setattr(os, "access", lambda path, mode: path not in (secret, closed) and real(path, mode))
    snapshot = take(source, tmp_path / "snapshot")
    for name in ("first/first.py", "second/model.yaml"):
        file = models_of(snapshot) / name
        assert (file.stat().st_mode & 0o777, file.stat().st_size) == (0, 0)


def test_of_a_huge_spec_no_more_is_kept_than_is_refused(source, tmp_path):
    huge(models_of(source))
    snapshot = take(source, tmp_path / "snapshot")
    assert (models_of(snapshot) / "first" / "model.yaml").stat().st_size == LARGEST_YAML_BYTES


def test_odd_names_stop_nobody(source, tmp_path):
    (Path(os.fsdecode(os.fsencode(models_of(source)) + b"/first/\xff.txt"))).touch()
    assert "include/models/first/\\udcff.txt" in files(take(source, tmp_path / "snapshot"))


def test_without_dag_files_there_is_no_snapshot(source):
    with pytest.raises(ModelwayError, match="the folder of the DAG files cannot be read: no such file"):
        find_entries(dags=source / "none", models=models_of(source))


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/../../out"])
def test_a_member_that_leaves_the_folder_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(ModelwayError, match="leaves the folder"):
        unpack_snapshot(package=tmp_path / "bad.zip", to=tmp_path / "deep" / "to")


def test_the_models_of_a_dag_file_lie_in_its_snapshot(source, tmp_path):
    snapshot = take(source, tmp_path / "snapshot")
    assert snapshot_of(snapshot / "dags" / "team" / "a.py") == snapshot
    assert models_beside(snapshot / "dags" / "models.py") == models_of(snapshot)
    assert models_beside(source / "dags" / "models.py") == models_folder()
    assert display(models_of(snapshot) / "first" / "model.yaml") == "include/models/first/model.yaml"


def test_a_snapshot_tells_the_commit_of_its_time(source, tmp_path):
    commit = Commit(commit="1" * 40, branch="work", dirty=True)
    snapshot = take(source, tmp_path / "snapshot", {"first": commit.to_dict()})
    assert json.loads((snapshot / MARKER).read_text())["commits"]["first"] == commit.to_dict()
    assert git_commit(models_of(snapshot) / "first") == commit
    assert git_commit(models_of(snapshot) / "second") == Commit()


def test_a_snapshot_of_an_earlier_release_tells_what_it_knows(source, tmp_path):
    snapshot = take(source, tmp_path / "snapshot", {"first": {"commit": "1" * 40, "branch": None, "dirty": True}})
    assert git_commit(models_of(snapshot) / "first") == Commit(commit="1" * 40, dirty=True)
