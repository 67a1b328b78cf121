"""The git state that a model's code comes from: of a checkout, or as a snapshot recorded it."""

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from modelway.artifacts.checkout import find_checkout
from modelway.artifacts.snapshot import MARKER, snapshot_of


@dataclass(frozen=True, kw_only=True)
class Commit:
    """The git state that the code was packaged from; ``None`` where the folder is not in a git checkout."""

    commit: str | None = None
    branch: str | None = None
    dirty: bool | None = None
    diff_digest: str | None = None
    """Of what differs from the commit: the paths in the folder that git reports, and their content now."""
    repository: str | None = None
    """The URL of the remote ``origin``, without credentials."""

    def to_dict(self) -> dict[str, Any]:
        """Return the commit as plain data."""
        return asdict(self)


def git_commit(folder: Path) -> Commit:
    """Return commit, branch (none where HEAD is detached) and whether ``folder`` differs from the commit.

    Of a model's folder in a snapshot: as they were when the snapshot was made.
    """
    if snapshot := snapshot_of(folder):
        recorded = json.loads((snapshot / MARKER).read_text())["commits"].get(folder.name)
        return Commit(**{name: recorded.get(name) for name in asdict(Commit())}) if recorded else Commit()
    return git_commits(folder.parent, names=[folder.name])[folder.name]


def git_commits(folder: Path, *, names: Iterable[str]) -> dict[str, Commit]:
    """Return ``git_commit`` of many folders in ``folder``; git is run once for all that are in one checkout."""
    common = _State(folder)
    found = {}
    for name in names:
        # A link, or a checkout of its own, has another state than the folder around it.
        apart = (folder / name).is_symlink() or os.path.lexists(folder / name / ".git")
        found[name] = _State(folder / name).commit() if apart else common.commit(name)
    return found


class _State:
    """The git state of one folder."""

    def __init__(self, folder: Path) -> None:
        self.checkout = find_checkout(folder)
        self.head: str | None = None
        self.changed: list[str] | None = None
        if self.checkout is None:
            return
        self.head, self.branch = self.checkout.head()
        self.prefix = os.path.relpath(os.path.realpath(folder), self.checkout.root)
        if self.head:
            # Each untracked file, not the folders that contain only such; checkouts within are not read.
            arguments = ("status", "--porcelain=v2", "--untracked-files=all", "--ignore-submodules=all", "-z")
            listed = self.checkout.run(*arguments, "--", self.prefix, commit=self.head)
            self.changed = None if listed is None else list(_changed(listed.split("\0")))

    def commit(self, name: str = "") -> Commit:
        """Return the state of the folder ``name`` in this one, or of this one."""
        if self.checkout is None or self.head is None:
            return Commit()
        origin = self.checkout.settings.get("remote.origin.url")
        known = Commit(
            commit=self.head, branch=self.branch, repository=without_credentials(origin.strip()) if origin else None
        )
        if self.changed is None:
            return known
        path = os.path.normpath(os.path.join(self.prefix, name))
        folder = "" if path == "." else f"{path}/"
        # A folder that git does not know ends in a slash, and may contain this one.
        dirty = [
            path for path in self.changed if path.startswith(folder) or path[-1:] == "/" and folder.startswith(path)
        ]
        return replace(known, dirty=bool(dirty), diff_digest=_diff_digest(self.checkout.root, dirty) if dirty else None)


def _changed(records: list[str]) -> Iterator[str]:
    """Yield the paths in the records of ``git status``: each kind has a fixed number of fields before the path."""
    before_path = {"1": 8, "2": 9, "u": 10, "?": 1}
    rest = iter(records)
    for record in rest:
        kind = record[:1]
        if kind in before_path:
            yield record.split(" ", before_path[kind])[-1]
            if kind == "2":
                # Of a renamed file, where it was.
                yield next(rest)


def _diff_digest(root: Path, paths: list[str]) -> str:
    """Return the digest of what differs.

    Not of the text of ``git diff``: that changes with git's version.
    """
    digest = hashlib.sha256()
    for path in sorted(set(paths)):
        digest.update(f"{path}\0{_content(root / path)}\0".encode("utf-8", "surrogateescape"))
    return f"sha256:{digest.hexdigest()}"


def _content(place: Path) -> str:
    """Return a file's mode and the digest of its content; ``gone`` where there is none."""
    try:
        if place.is_symlink():
            return f"link {os.readlink(place)}"
        if not stat.S_ISREG(place.stat().st_mode):
            return "folder" if place.is_dir() else "no file"
        with place.open("rb") as file:
            executable = os.access(place, os.X_OK)
            return f"{'executable' if executable else 'file'} {hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        return "gone" if isinstance(error, FileNotFoundError) else "cannot be read"


def without_credentials(url: str) -> str:
    """Return a repository's URL without user, password and query; of ssh the user stays, it is no secret."""
    url = re.split(r"[?#]", url)[0] if "://" in url else url
    found = re.fullmatch(r"(?P<scheme>[a-z][a-z0-9+.:-]*)://(?P<user>[^/]*@)?(?P<rest>.*)", url, flags=re.IGNORECASE)
    if not found or not found["user"]:
        return url
    user = found["user"].split(":")[0].rstrip("@") + "@" if "ssh" in found["scheme"].lower() else ""
    return f"{found['scheme']}://{user}{found['rest']}"
