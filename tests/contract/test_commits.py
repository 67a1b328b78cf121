"""The commit of a model's code, from real repositories, and what is shown of two."""

import os
import subprocess
from dataclasses import replace
from functools import partial

import pytest
from modelway.artifacts.commits import Commit, git_commit, git_commits
from modelway.cli import main
from modelway.lineage.store import open_lineage

from tests.lineage_samples import digest, make_record
from tests.unit.spec_samples import write_model


def git_in(folder, *words):
    person = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", "-C", folder, *person, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def git(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    folder = tmp_path / "repository" / "model"
    folder.mkdir(parents=True)
    for name in ("digits.py", "requirements.txt"):
        (folder / name).write_text("x = 1\n")

    def run(*words):
        return git_in(folder, *words)

    run("init", "--quiet", "--initial-branch=work", "..")
    return folder, run


def test_the_commit_is_recorded(git):
    folder, run = git
    assert git_commit(folder) == Commit()
    run("add", ".")
    run("commit", "--quiet", "--message=first")
    commit = run("rev-parse", "HEAD")
    assert git_commit(folder) == Commit(commit=commit, branch="work", dirty=False)
    (folder.parent / "elsewhere.txt").touch()
    assert git_commit(folder).dirty is False
    (folder / "new.py").touch()
    assert git_commit(folder).dirty is True
    run("checkout", "--quiet", "--detach")
    printed = git_commit(folder).to_dict()
    assert (printed["commit"], printed["branch"], printed["dirty"]) == (commit, None, True)


def test_what_differs_from_the_commit_has_a_digest(git):
    folder, run = git
    run("add", ".")
    run("commit", "--quiet", "--message=first")
    assert git_commit(folder).diff_digest is None
    (folder / "new.py").write_text("x = 1\n")
    first = git_commit(folder).diff_digest
    assert first == git_commit(folder).diff_digest
    assert first.startswith("sha256:")
    (folder / "new.py").write_text("x = 2\n")
    assert git_commit(folder).diff_digest != first, "the content of what git does not know"
    (folder / "new.py").write_text("x = 1\n")
    assert git_commit(folder).diff_digest == first
    run("add", "new.py")
    assert git_commit(folder).diff_digest == first, "whether it is staged is no difference"
    (folder.parent / "elsewhere.txt").write_text("no part of the model")
    assert git_commit(folder).diff_digest == first
    run("rm", "--quiet", "--force", "new.py")
    kept = next(path for path in folder.rglob("*") if path.is_file())
    kept.unlink()
    gone = git_commit(folder).diff_digest
    kept.write_text("changed")
    assert len({first, gone, git_commit(folder).diff_digest}) == 3


@pytest.mark.parametrize(
    ("url", "printed"),
    [
        ("https://mia:secret@example.org/models.git", "https://example.org/models.git"),
        ("https://token@example.org/models.git", "https://example.org/models.git"),
        ("https://a:p@ss@example.org/m@n.git", "https://example.org/m@n.git"),
        ("ssh://git:secret@example.org:22/models.git", "ssh://git@example.org:22/models.git"),
        ("git@example.org:models.git", "git@example.org:models.git"),
        ("/srv/git/models.git", "/srv/git/models.git"),
    ],
)
def test_the_repository_is_reported_without_credentials(git, url, printed):
    folder, run = git
    run("commit", "--quiet", "--allow-empty", "--message=first")
    assert git_commit(folder).repository is None
    run("remote", "add", "origin", url)
    assert git_commit(folder).repository == printed


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Two good models in a checkout."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    folder = tmp_path / "source" / "include" / "models"
    for name in ("first", "second"):
        write_model(folder, name)
    git_in(tmp_path / "source", "init", "--quiet", "--initial-branch=work")
    return folder


def without_digests(found):
    assert all((commit.diff_digest is None) is not commit.dirty for commit in found.values())
    return {name: replace(commit, diff_digest=None) for name, commit in found.items()}


def test_each_model_has_its_own_state_of_one_checkout(models):
    git = partial(git_in, models.parents[1])
    assert git_commits(models, names=["first"]) == {"first": Commit()}
    git("commit", "--quiet", "--allow-empty", "--message=nothing")
    assert {each.dirty for each in git_commits(models, names=["first", "second"]).values()} == {True}, "untracked"
    git("add", ".")
    git("commit", "--quiet", "--message=first")
    commit = git("rev-parse", "HEAD")
    clean, dirty = Commit(commit=commit, branch="work", dirty=False), Commit(commit=commit, branch="work", dirty=True)
    assert git_commits(models, names=["first", "second"]) == {"first": clean, "second": clean}
    git("mv", "include/models/first/first.py", "include/models/second/moved one.py")
    assert without_digests(git_commits(models, names=["first", "second"])) == {"first": dirty, "second": dirty}
    git("reset", "--quiet", "--hard")
    write_model(models, "first-born")
    (models / "second" / "second.py").write_text("x = 1\n")
    found = git_commits(models, names=["first", "second", "first-born"])
    assert without_digests(found) == {"first": clean, "second": dirty, "first-born": dirty}
    assert {name: git_commit(models / name) for name in found} == found


def test_a_model_in_a_checkout_of_its_own_has_its_commit(models, tmp_path):
    git = partial(git_in, models.parents[1])
    git("add", ".")
    git("commit", "--quiet", "--message=outer")
    own = write_model(tmp_path / "own", "third").parent
    git_in(own, "init", "--quiet", "--initial-branch=other")
    git_in(own, "add", ".")
    git_in(own, "commit", "--quiet", "--message=inner")
    (models / "third").symlink_to(own / "third")
    assert git_commit(models / "third").branch == "other"


def test_diff_counts_the_commits_where_the_repository_is_at_hand(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path))
    monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    git = partial(git_in, tmp_path)
    git("init", "--quiet")
    commits = []
    for number in range(3):
        git("commit", "--quiet", "--allow-empty", "--message", str(number))
        commits.append(git("rev-parse", "HEAD"))
    store = open_lineage(f"sqlite:///{tmp_path}/lineage.db")
    for name, commit in (("a", commits[0]), ("b", commits[2])):
        record = make_record(name, model="counted")
        store.register(replace(record, run=replace(record.run, commit=commit, code_digest=digest(name))))
    main(["diff", "counted", "1", "2"])
    printed = capsys.readouterr().out
    between = f"{commits[0]}..{commits[2]}"
    assert f"~ commits {between}, 2 commits: git log --stat {between}" in printed
    assert "! a ran with changes that no commit holds" in printed
