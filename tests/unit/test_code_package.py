"""The code package: the same tree gives the same bytes, and nothing gets in or out of the folder."""

import os
import zipfile

import pytest
from modelway.artifacts.code_package import (
    package_files,
    unpack_code_package,
    write_code_package,
)
from modelway.artifacts.commits import Commit, git_commit
from modelway.artifacts.store import file_digest
from modelway.errors import InvalidModelCode

TREE = {"digits.py": "x = 1\n", "nets/__init__.py": "", "nets/small.py": "y = 2\n", "requirements.txt": "numpy\n"}


def write_tree(folder, tree=TREE, *, mtime=None):
    for name, text in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if mtime:
            os.utime(path, (mtime, mtime))
    return folder


def package(folder, to):
    write_code_package(folder=folder, to=to)
    return file_digest(to)


def listed(folder):
    return [file.as_posix() for file in package_files(folder)]


def test_the_same_tree_gives_the_same_bytes_anywhere(tmp_path):
    first = write_tree(tmp_path / "one", mtime=1_000_000_000)
    second = write_tree(tmp_path / "two" / "deep", dict(reversed(TREE.items())))
    for path in second.rglob("*.py"):
        path.chmod(0o600)
    assert package(first, tmp_path / "1.zip") == package(second, tmp_path / "2.zip")


@pytest.mark.parametrize("change", ["content", "name", "executable", "more"])
def test_whatever_changes_in_the_tree_changes_the_digest(tmp_path, change):
    folder = write_tree(tmp_path / "code")
    before = package(folder, tmp_path / "1.zip")
    if change == "content":
        (folder / "digits.py").write_text("x = 2\n")
    elif change == "name":
        (folder / "digits.py").rename(folder / "digit.py")
    elif change == "executable":
        (folder / "digits.py").chmod(0o755)
    else:
        (folder / "more.txt").touch()
    assert package(folder, tmp_path / "2.zip") != before


def test_caches_hidden_files_and_the_spec_stay_out(tmp_path):
    extra = [".env", ".git/config", "__pycache__/digits.cpython-311.pyc", "nets/__pycache__/a.pyc", "a.pyo"]
    extra += ["model.yaml", "digits.egg-info/PKG-INFO", "nets/.hidden/secret.py"]
    folder = write_tree(tmp_path / "code", {**TREE, **dict.fromkeys(extra, "x"), "nets/model.yaml": "kept"})
    assert listed(folder) == sorted([*TREE, "nets/model.yaml"])


def test_a_package_is_unpacked_as_it_was(tmp_path):
    folder = write_tree(tmp_path / "code")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o700)
    package(folder, tmp_path / "code.zip")
    unpack_code_package(package=tmp_path / "code.zip", to=tmp_path / "to")
    assert listed(tmp_path / "to") == listed(folder)
    for name in listed(folder):
        assert (tmp_path / "to" / name).read_bytes() == (folder / name).read_bytes()
    assert (tmp_path / "to" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "to" / "digits.py").stat().st_mode & 0o777 == 0o644


def test_a_missing_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(InvalidModelCode, match="there is no such folder"):
        package_files(tmp_path / "none")
    write_tree(tmp_path / "empty", {"model.yaml": "model: x", ".hidden": ""})
    with pytest.raises(InvalidModelCode, match="holds no file to package"):
        package_files(tmp_path / "empty")


def test_a_link_within_the_folder_is_packaged_as_its_file(tmp_path):
    folder = write_tree(tmp_path / "code")
    (folder / "again.py").symlink_to("digits.py")
    package(folder, tmp_path / "code.zip")
    with zipfile.ZipFile(tmp_path / "code.zip") as archive:
        assert archive.read("again.py") == b"x = 1\n"


def test_a_folder_that_is_reached_by_a_link_is_packaged(tmp_path):
    write_tree(tmp_path / "code")
    (tmp_path / "link").symlink_to("code")
    assert listed(tmp_path / "link") == sorted(TREE)


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside.txt", "/etc", ".."])
def test_a_link_out_of_the_folder_is_refused(tmp_path, target):
    (tmp_path / "outside.txt").write_text("secret")
    folder = write_tree(tmp_path / "code")
    (folder / "linked").symlink_to(target)
    with pytest.raises(InvalidModelCode, match="'linked' links out of the folder"):
        package_files(folder)


@pytest.mark.parametrize("target", ["nets", "nowhere", "linked"])
def test_a_link_to_a_folder_or_to_nothing_is_refused(tmp_path, target):
    folder = write_tree(tmp_path / "code")
    (folder / "linked").symlink_to(target)
    with pytest.raises(InvalidModelCode, match="'linked' links to no file"):
        package_files(folder)


def test_a_pipe_is_refused(tmp_path):
    folder = write_tree(tmp_path / "code")
    os.mkfifo(folder / "pipe")
    with pytest.raises(InvalidModelCode, match="'pipe' is no regular file"):
        package_files(folder)


@pytest.mark.parametrize("name", ["../out.py", "/tmp/out.py", "a/../../out.py"])
def test_a_member_that_leaves_the_folder_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(InvalidModelCode, match="leaves the folder"):
        unpack_code_package(package=tmp_path / "bad.zip", to=tmp_path / "deep" / "to")
    assert not list(tmp_path.rglob("out.py"))


def test_a_folder_without_git_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert git_commit(tmp_path) == Commit()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(tmp_path) == Commit()
