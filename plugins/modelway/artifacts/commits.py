"""The git state that a model's code comes from: of a checkout, or as a snapshot recorded it."""

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelway.artifacts.snapshot import MARKER, snapshot_of


@dataclass(frozen=True, kw_only=True)
class Commit:
    """The git state that the code was packaged from; ``None`` where the folder is not in a git checkout."""

    commit: str | None = None
    branch: str | None = None
    dirty: bool | None = None
    diff_digest: str | None = None
    """Of what differs from the commit: the paths in the folder that git tells of, and what they hold now."""
    repository: str | None = None
    """The URL of the remote ``origin``, without credentials."""

    def to_dict(self) -> dict[str, Any]:
        """Return the commit as plain data."""
        return asdict(self)


def git_commit(folder: Path) -> Commit:
    """Return commit, branch (none where HEAD is detached) and whether ``folder`` differs from the commit.

    Of a model's folder in a snapshot: as they were when the snapshot was taken.
    """
    if snapshot := snapshot_of(folder):
        recorded = json.loads((snapshot / MARKER).read_text())["commits"].get(folder.name)
        return Commit(**{name: recorded.get(name) for name in asdict(Commit())}) if recorded else Commit()
    return git_commits(folder.parent, names=[folder.name])[folder.name]


def git_commits(folder: Path, *, names: Iterable[str]) -> dict[str, Commit]:
    """Return ``git_commit`` of many folders in ``folder``, with three calls of git for all that are no links."""
    common = _Checkout(folder)
    found = {}
    for name in names:
        # A link, or a checkout of its own, has another state than what it lies in.
        apart = (folder / name).is_symlink() or (folder / name / ".git").exists()
        found[name] = _Checkout(folder / name).commit() if apart else common.commit(name)
    return found


class _Checkout:
    """The git state of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.head: dict[str, str] = {}
        self.changed: list[str] = []
        self.prefix = ""
        self.repository: str | None = None
        # Each untracked file, not the folders that hold only such.
        status = self._git("status", "--porcelain=v2", "--branch", "--untracked-files=all", "-z", "--", ".")
        prefix = self._git("rev-parse", "--show-prefix") if status is not None else None
        if status is not None and prefix is not None:
            self.prefix = prefix.rstrip("\n")
            self._read(status.split("\0"))
            origin = self._git("config", "--get", "remote.origin.url")
            self.repository = without_credentials(origin.strip()) if origin else None

    def _git(self, *words: str) -> str | None:
        command = ["git", "--no-optional-locks", "-C", str(self.folder), *words]
        try:
            done = subprocess.run(command, capture_output=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.decode("utf-8", "surrogateescape") if done.returncode == 0 else None

    def _read(self, records: list[str]) -> None:
        """Read the records of ``git status``: of each kind, so many words come before the path."""
        before_path = {"1": 8, "2": 9, "u": 10, "?": 1}
        rest = iter(records)
        for record in rest:
            kind = record[:1]
            if kind == "#":
                _, name, value = record.split(" ", 2)
                self.head[name] = value
            elif kind in before_path:
                self.changed.append(record.split(" ", before_path[kind])[-1])
                if kind == "2":
                    # Of a renamed file, where it was.
                    self.changed.append(next(rest))

    def commit(self, name: str = "") -> Commit:
        """Return the state of the folder ``name`` in this one, or of this one."""
        commit, branch = self.head.get("branch.oid"), self.head.get("branch.head")
        if commit is None or commit == "(initial)":
            return Commit()
        folder = f"{self.prefix}{name}/" if name else self.prefix
        # A folder that git does not know ends in a slash, and may hold this one.
        dirty = [
            path for path in self.changed if path.startswith(folder) or path[-1:] == "/" and folder.startswith(path)
        ]
        return Commit(
            commit=commit,
            branch=None if branch == "(detached)" else branch,
            dirty=bool(dirty),
            diff_digest=self._diff_digest(dirty) if dirty else None,
            repository=self.repository,
        )

    def _diff_digest(self, paths: list[str]) -> str:
        """Return the digest of what differs.

        Not of the text of ``git diff``: that changes with git's version and its user's settings.
        """
        digest = hashlib.sha256()
        for path in sorted(set(paths)):
            # Git tells paths from the root of the checkout.
            place = self.folder / os.path.relpath(path, self.prefix or ".")
            digest.update(f"{path}\0{_content(place)}\0".encode("utf-8", "surrogateescape"))
        return f"sha256:{digest.hexdigest()}"


def _content(place: Path) -> str:
    """Return what tells a file's content and mode; ``gone`` where there is none."""
    try:
        if place.is_symlink():
            return f"link {os.readlink(place)}"
        with place.open("rb") as file:
            executable = os.access(place, os.X_OK)
            return f"{'executable' if executable else 'file'} {hashlib.file_digest(file, 'sha256').hexdigest()}"
    except IsADirectoryError:
        return "folder"
    except OSError as error:
        return "gone" if isinstance(error, FileNotFoundError) else "cannot be read"


def without_credentials(url: str) -> str:
    """Return a repository's URL without user and password; of ssh the user stays, it is no secret."""
    found = re.fullmatch(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<user>[^/]*@)?(?P<rest>.*)", url, flags=re.IGNORECASE)
    if not found or not found["user"]:
        return url
    user = found["user"].split(":")[0].rstrip("@") + "@" if "ssh" in found["scheme"].lower() else ""
    return f"{found['scheme']}://{user}{found['rest']}"
