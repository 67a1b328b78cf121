"""The git state that a model's code comes from: of a checkout, or as a snapshot recorded it."""

import json
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

    def to_dict(self) -> dict[str, Any]:
        """Return the commit as plain data."""
        return asdict(self)


def git_commit(folder: Path) -> Commit:
    """Return commit, branch (none where HEAD is detached) and whether ``folder`` differs from the commit.

    Of a model's folder in a snapshot: as they were when the snapshot was taken.
    """
    if snapshot := snapshot_of(folder):
        recorded = json.loads((snapshot / MARKER).read_text())["commits"].get(folder.name)
        return Commit(**recorded) if recorded else Commit()
    return git_commits(folder.parent, names=[folder.name])[folder.name]


def git_commits(folder: Path, *, names: Iterable[str]) -> dict[str, Commit]:
    """Return ``git_commit`` of many folders in ``folder``, with two calls of git for all that are no links."""
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
        status = self._git("status", "--porcelain=v2", "--branch", "-z", "--", ".")
        prefix = self._git("rev-parse", "--show-prefix") if status is not None else None
        if status is not None and prefix is not None:
            self.prefix = prefix.rstrip("\n")
            self._read(status.split("\0"))

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
        dirty = any(path.startswith(folder) or (path[-1:] == "/" and folder.startswith(path)) for path in self.changed)
        return Commit(commit=commit, branch=None if branch == "(detached)" else branch, dirty=dirty)
