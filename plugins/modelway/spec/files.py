"""Reads the small text files of a model's folder, and refuses pipes, devices and links out of it."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from modelway.fields.refusal import Refusal

LARGEST_BYTES = 1_000_000


@dataclass
class FilesRead:
    """What was read of files."""

    digests: dict[Path, bytes] = field(default_factory=dict)
    """by file, the SHA-256 of its content; empty for a file that had different content at two times"""
    is_all: bool = True
    """False where something else was read, such as which files a folder has"""

    def add(self, file: Path, digest: bytes) -> None:
        """Note the content of a file."""
        self.digests[file] = digest if self.digests.get(file, digest) == digest else b""


_recorded: ContextVar[FilesRead | None] = ContextVar("recorded", default=None)


@contextmanager
def record_reads() -> Iterator[FilesRead]:
    """Record which files are read here, and with which content."""
    token = _recorded.set(found := FilesRead())
    try:
        yield found
    finally:
        _recorded.reset(token)


def note_other_read() -> None:
    """Note that more is read than files by their names."""
    if (found := _recorded.get()) is not None:
        found.is_all = False


def read_bytes(file: Path, *, within: tuple[Path, ...] = ()) -> bytes:
    """Return the content of a file of at most 1 MB; does not block on a pipe.

    :param within: the file must be in one of these folders, links followed
    :raises Refusal: it cannot be read, is no regular file, is larger, or is a link that leads elsewhere
    """
    try:
        # A pipe may replace the file at any moment.
        with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise Refusal("this is not a regular file", do="Put a text file there")
            if within and not _is_within(os.path.realpath(file), within):
                raise Refusal("this is a link that leads out of the folder of the models", do="Put the file there")
            content = stream.read(LARGEST_BYTES + 1)
    except IsADirectoryError:
        raise Refusal("this is not a regular file", do="Put a text file there") from None
    except OSError as error:
        raise Refusal(f"the file cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(content) > LARGEST_BYTES:
        raise Refusal("the file is larger than 1 MB", do="Keep data out of it")
    if (found := _recorded.get()) is not None:
        found.add(file, hashlib.sha256(content).digest())
    return content


def read_text(file: Path, *, within: tuple[Path, ...] = ()) -> str:
    """Return the text of a UTF-8 file of at most 1 MB.

    :param within: as for ``read_bytes``
    :raises Refusal: as ``read_bytes``, or it is not UTF-8
    """
    content = read_bytes(file, within=within)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        place = (before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1)
        raise Refusal("the text is not UTF-8", do="Save the file as UTF-8", place=place) from None


def _is_within(real: str, folders: tuple[Path, ...]) -> bool:
    """Return whether a path without links is below one of the folders; most folders' paths have no links either."""
    plain = (os.path.join(folder, "") for folder in folders)
    return any(map(real.startswith, plain)) or any(
        real.startswith(os.path.join(os.path.realpath(folder), "")) for folder in folders
    )
