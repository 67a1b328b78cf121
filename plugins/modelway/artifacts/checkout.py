"""A git checkout, read as data: the one place that runs git, with no configuration of anybody's.

Write access to a checkout must not be enough to choose what runs here. Which commit is checked out is read from git's
files; git itself lists what differs from it, in a git folder made for that one call without configuration, hooks or
helpers. See docs/adr/0019-git-reads-without-configuration.md.
"""

import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

TIMEOUT_SECONDS = 30.0
#: HEAD, a reference, a ``.git`` file; packed references and the configuration may have as much in all
_LARGEST_BYTES = 50_000_000
_MOST_LINKS = 5
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REFERENCE = re.compile(r"refs/(?!.*\.\.)[^\x00-\x20\x7f~^:?*\[\\]+")
#: settings of how files and objects are stored on the disk, with the values that are adopted
_OF_THE_DISK = {
    "core.filemode": ("true", "false"),
    "core.symlinks": ("true", "false"),
    "core.ignorecase": ("true", "false"),
    "core.autocrlf": ("true", "false", "input"),
    "core.eol": ("lf", "crlf", "native"),
    "extensions.objectformat": ("sha1", "sha256"),
}
#: files of a checkout's git folder that say more about its commits and files
_MORE_DATA = ("shallow", "info/exclude", "info/sparse-checkout")


@dataclass(frozen=True)
class Checkout:
    """A folder with a ``.git`` in it, and the location of git's files for it."""

    root: Path
    git_folder: Path
    """its own: HEAD and the index"""
    common_folder: Path
    """that of the repository: objects, references and the configuration; another one for a linked worktree"""

    def head(self) -> tuple[str | None, str | None]:
        """Return the commit that is checked out and its branch; None for no commit yet, and for a detached HEAD."""
        name, branch = "HEAD", None
        for _ in range(_MOST_LINKS):
            text = self._reference(name)
            if text is None or _COMMIT.fullmatch(text):
                return text, branch
            name = text.removeprefix("ref:").strip()
            if not text.startswith("ref:") or not _REFERENCE.fullmatch(name):
                break
            branch = name.removeprefix("refs/heads/")
        return None, None

    def _reference(self, name: str) -> str | None:
        for folder in (self.git_folder, self.common_folder):
            if (text := read_regular(folder / name)) is not None:
                return text.strip()
        for line in (read_regular(self.common_folder / "packed-refs") or "").splitlines():
            commit, _, found = line.partition(" ")
            if found == name:
                return commit
        return None

    @cached_property
    def settings(self) -> Mapping[str, str]:
        """The repository's own configuration, without what it includes: read as data, never applied."""
        file = self.common_folder / "config"
        if not _is_regular(file):
            return {}
        # No git folder: the one around the file would be read, too.
        arguments = ("config", "--file", str(file), "--no-includes", "--null", "--list")
        listed = _git(*arguments, at=self.root, GIT_DIR=os.devnull)
        return dict(entry.split("\n", 1) for entry in (listed or "").split("\0") if "\n" in entry)

    def run(self, *arguments: str, commit: str) -> str | None:
        """Return what a git command that only reads prints, None where it fails or there is no git.

        :param commit: what HEAD is
        """
        with self._plain_git_folder(commit) as git_folder:
            return _git(
                *("--no-optional-locks", "--literal-pathspecs", *arguments),
                at=self.root,
                GIT_DIR=str(git_folder),
                GIT_WORK_TREE=str(self.root),
                GIT_OBJECT_DIRECTORY=str(self.common_folder / "objects"),
                GIT_INDEX_FILE=str(self.git_folder / "index"),
            )

    @contextmanager
    def _plain_git_folder(self, commit: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="modelway-git-") as scratch:
            folder = Path(scratch)
            for name in ("refs", "objects", "info"):
                (folder / name).mkdir()
            (folder / "HEAD").write_text(f"{commit}\n")
            (folder / "config").write_text(self._of_the_disk())
            shared = [path.name for path in self.git_folder.glob("sharedindex.*")]
            for name in (*_MORE_DATA, *shared):
                places = (self.git_folder / name, self.common_folder / name)
                if source := next(filter(_is_regular, places), None):
                    (folder / name).symlink_to(source)
            yield folder

    def _of_the_disk(self) -> str:
        lines = ["[core]", "bare = false"]
        for name, known in _OF_THE_DISK.items():
            if (value := self.settings.get(name, "").lower()) in known:
                section, _, key = name.partition(".")
                lines += [f"[{section}]", f"{key} = {value}"]
        version = 1 if "[extensions]" in lines else 0
        return "\n".join([*lines, "[core]", f"repositoryformatversion = {version}", ""])


def find_checkout(folder: Path) -> Checkout | None:
    """Return the checkout that a folder is in: the nearest folder with a ``.git``, nothing else counts."""
    real = Path(os.path.realpath(folder))
    for root in (real, *real.parents):
        marker = root / ".git"
        if os.path.isdir(marker):
            return _checkout(root, marker)
        if os.path.lexists(marker):
            named = re.fullmatch(r"gitdir: (.+)\n*", read_regular(marker) or "")
            return _checkout(root, root / named[1]) if named else None
    return None


def _checkout(root: Path, git_folder: Path) -> Checkout | None:
    common = read_regular(git_folder / "commondir")
    common_folder = git_folder / common.rstrip("\n") if common else git_folder
    index = git_folder / "index"
    if not os.path.isdir(common_folder / "objects") or (os.path.lexists(index) and not _is_regular(index)):
        return None
    return Checkout(root, Path(os.path.realpath(git_folder)), Path(os.path.realpath(common_folder)))


def read_regular(file: Path) -> str | None:
    """Return the text of a regular file, None for anything else; never waits for a pipe."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    with os.fdopen(handle, "rb") as stream:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_BYTES:
            return None
        return stream.read(_LARGEST_BYTES).decode("utf-8", "surrogateescape")


def _is_regular(file: Path) -> bool:
    try:
        return stat.S_ISREG(file.stat().st_mode)
    except (OSError, ValueError):
        return False


def _git(*arguments: str, at: Path, **environment: str) -> str | None:
    """Run git with these settings alone: none of the machine's, the user's, or the caller's environment."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    alone = {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "LC_ALL": "C",
    }
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=at,
            env=inherited | alone | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "surrogateescape") if done.returncode == 0 else None
