"""Whoever may write into the folder of the models chooses no program that runs when its git state is read."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from modelway.artifacts.checkout import find_checkout
from modelway.artifacts.commits import Commit, git_commit, git_commits

PERSON = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")


def git(at: Path, *words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", *PERSON, *words],
        cwd=at,
        capture_output=True,
        text=True,
        check=True,
        env=environment | {"GIT_CONFIG_GLOBAL": os.devnull},
    )
    return done.stdout.strip()


def commit_all(at: Path) -> str:
    git(at, "add", "--all")
    git(at, "commit", "--quiet", "--no-verify", "--message=state")
    return git(at, "rev-parse", "HEAD")


@pytest.fixture
def models(tmp_path):
    """Return a folder of two committed models in an operator's checkout."""
    models = tmp_path / "site" / "include" / "models"
    for name in ("first", "second"):
        (models / name).mkdir(parents=True)
        (models / name / "model.yaml").write_text(f"model: {name}\n")
    git(tmp_path / "site", "init", "--quiet", "--initial-branch=work")
    commit_all(tmp_path / "site")
    return models


@pytest.fixture
def marker(tmp_path):
    """Return a program that leaves a file, and a check that it never ran."""
    left = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {left}\ncat\n")
    program.chmod(0o755)
    yield program
    assert not left.exists(), "a program that the folder's authors chose has run"


def configuration(program: Path) -> str:
    return f"""
[core]
    repositoryformatversion = 0
    fsmonitor = {program}
    hooksPath = {program.parent}
    sshCommand = {program}
    pager = {program}
    editor = {program}
    attributesFile = {program.parent}/attributes
[filter "x"]
    clean = {program}
    smudge = {program}
    process = {program}
    required = true
[diff]
    external = {program}
[diff "x"]
    textconv = {program}
    command = {program}
[credential]
    helper = !{program}
[gpg]
    program = {program}
[alias]
    status = !{program}
    rev-list = !{program}
[include]
    path = {program.parent}/included
[includeIf "gitdir:/"]
    path = {program.parent}/included
[remote "origin"]
    url = https://a:secret@example.org/models.git
"""


def as_the_operators_own(models: Path, program: Path) -> None:
    # The checkout itself may lie in a volume that authors write to.
    (models.parents[1] / ".git" / "config").write_text(configuration(program))


def as_a_nested_checkout(models: Path, program: Path) -> None:
    git(models / "first", "init", "--quiet")
    commit_all(models / "first")
    (models / "first" / ".git" / "config").write_text(configuration(program))


def deeper(models: Path, program: Path) -> None:
    (models / "first" / "net").mkdir()
    (models / "first" / "net" / "a.txt").write_text("a")
    git(models / "first" / "net", "init", "--quiet")
    commit_all(models / "first" / "net")
    (models / "first" / "net" / ".git" / "config").write_text(configuration(program))


def as_a_submodule(models: Path, program: Path) -> None:
    deeper(models, program)
    (models.parents[1] / ".gitmodules").write_text(
        '[submodule "net"]\n\tpath = include/models/first/net\n\turl = https://example.org/net.git\n'
        f"\tupdate = !{program}\n\tignore = none\n"
    )
    commit_all(models.parents[1])
    (models / "first" / "net" / "a.txt").write_text("b")


def as_a_bare_repository(models: Path, program: Path) -> None:
    # Such a one can come with a pull request: none of its files is called .git.
    for folder in (models, models / "first"):
        git(folder.parent, "init", "--quiet", "--bare", str(folder))
        (folder / "config").write_text(configuration(program).replace("[core]", f"[core]\n    worktree = {folder}"))


def as_a_git_file(models: Path, program: Path) -> None:
    away = models.parents[2] / "away"
    as_a_nested_checkout(models, program)
    (models / "first" / ".git").rename(away)
    (models / "first" / ".git").write_text(f"gitdir: {away}\n")


def as_worktree_settings(models: Path, program: Path) -> None:
    own = models.parents[1] / ".git"
    (own / "config").write_text("[extensions]\n    worktreeConfig = true\n[core]\n    repositoryformatversion = 1\n")
    (own / "config.worktree").write_text(configuration(program))


@pytest.mark.parametrize("variables", [False, True])
@pytest.mark.parametrize(
    "plant",
    [
        as_the_operators_own,
        as_a_nested_checkout,
        deeper,
        as_a_submodule,
        as_a_bare_repository,
        as_a_git_file,
        as_worktree_settings,
    ],
)
def test_no_configuration_of_a_folder_is_obeyed(models, marker, plant, variables, monkeypatch):
    (marker.parent / "included").write_text(f"[core]\n    fsmonitor = {marker}\n")
    (marker.parent / "attributes").write_text("* filter=x diff=x\n")
    for hook in ("post-index-change", "reference-transaction", "fsmonitor-watchman", "pre-auto-gc"):
        shutil.copy(marker, marker.parent / hook)
    plant(models, marker)
    (models / ".gitattributes").write_text("* filter=x diff=x\n")
    for name in ("first", "second"):
        (models / name / "model.yaml").write_text(f"model: {name}  # changed\n")
    if variables:
        git_folder = models.parents[1] / ".git"
        for name, value in {
            "GIT_DIR": git_folder,
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "core.fsmonitor",
            "GIT_CONFIG_VALUE_0": marker,
            "GIT_CONFIG_PARAMETERS": f"'core.fsmonitor={marker}'",
            "GIT_EXTERNAL_DIFF": marker,
        }.items():
            monkeypatch.setenv(name, str(value))
    found = git_commits(models, names=["first", "second"])
    assert found["second"].dirty is True
    assert found["second"].branch == "work"
    assert find_checkout(models).run("rev-list", "--count", "HEAD", commit=found["second"].commit)
    assert "secret" not in str(found)


def test_the_marker_would_be_left_by_git_itself(models, tmp_path):
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    program.chmod(0o755)
    as_a_bare_repository(models, program)
    subprocess.run(["git", "-C", models / "first", "status"], capture_output=True)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["HEAD", "index", "config", "packed-refs", "commondir", "info/exclude"])
def test_a_pipe_in_place_of_a_file_of_git_is_not_waited_for(models, name):
    place = models.parents[1] / ".git" / name
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    found = git_commit(models / "first")
    assert found.dirty is None if name in ("HEAD", "index") else found.dirty is False


def test_a_linked_worktree_has_its_own_state(models, tmp_path):
    linked = tmp_path / "linked"
    git(models, "worktree", "add", "--quiet", "-b", "other", str(linked))
    git(models, "remote", "add", "origin", "https://example.org/models.git")
    (linked / "include" / "models" / "first" / "model.yaml").write_text("model: other\n")
    found = git_commits(linked / "include" / "models", names=["first", "second"])
    commit = git(models, "rev-parse", "HEAD")
    expected = {"commit": commit, "branch": "other", "repository": "https://example.org/models.git"}
    assert found["second"] == Commit(**expected, dirty=False)
    assert (found["first"].dirty, found["first"].branch) == (True, "other")
    assert git_commit(models / "first").branch == "work"


def test_a_shallow_clone_and_packed_references_are_read(models, tmp_path):
    (models / "first" / "more.py").touch()
    commit = commit_all(models.parents[1])
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{models.parents[1]}", str(shallow))
    git(shallow, "pack-refs", "--all")
    assert git_commit(shallow / "include" / "models" / "first") == Commit(
        commit=commit, branch="work", dirty=False, repository=f"file://{models.parents[1]}"
    )
    assert find_checkout(shallow).run("rev-list", "--count", "HEAD", commit=commit) == "1\n"


@pytest.mark.parametrize("words", [("--split-index",), ("--untracked-cache",), ("--index-version", "4")])
def test_each_form_of_the_index_is_read(models, words):
    git(models, "update-index", *words)
    assert git_commit(models / "first").dirty is False
    (models / "first" / "new.py").touch()
    assert git_commit(models / "first").dirty is True


def test_what_git_is_meant_to_ignore_is_no_change(models):
    (models.parents[1] / ".git" / "info" / "exclude").write_text("*.log\n")
    (models / "first" / "x.log").touch()
    assert git_commit(models / "first").dirty is False


def test_how_files_lie_on_the_disk_is_taken_from_the_checkout(models):
    git(models, "config", "core.fileMode", "false")
    (models / "first" / "model.yaml").chmod(0o755)
    assert git_commit(models / "first").dirty is False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_checkout_that_belongs_to_another_user_is_read(models):
    for path in (models.parents[1], *models.parents[1].rglob("*")):
        os.chown(path, 12345, 12345)
    assert git_commit(models / "first").dirty is False


def test_without_git_the_commit_is_known_and_not_whether_anything_changed(models, tmp_path, monkeypatch):
    commit = git(models, "rev-parse", "HEAD")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(models / "first") == Commit(commit=commit, branch="work")


@pytest.mark.parametrize(
    "head", ["ref: refs/heads/../../outside", "ref: /etc/hostname", "x" * 40, "ref: refs/heads/a\nb"]
)
def test_a_head_that_is_none_names_no_commit(models, head):
    (models.parents[1] / ".git" / "outside").write_text("1" * 40)
    (models.parents[1] / ".git" / "HEAD").write_text(head)
    assert git_commit(models / "first") == Commit()


def test_git_is_run_in_one_place():
    library = Path(find_checkout.__code__.co_filename).parents[1]
    found = [path.name for path in library.rglob("*.py") if '["git"' in path.read_text()]
    assert found == ["checkout.py"]
