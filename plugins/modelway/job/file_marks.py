"""A file's digest, recorded with the file: trusted while size, time of the last change and inode are as they were.

It is an extended attribute of the file, so that it is shared by all hard links to the file and lost by any copy of it.
Where the file system has no such attributes, a digest is computed from the bytes each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from typing import BinaryIO

ATTRIBUTE = "user.modelway.digest"
#: a change within the same tick of the kernel's clock would leave the time of the last change as it is
TICK_SECONDS = 0.01


def known_digest(file: BinaryIO) -> str:
    """Return ``sha256:<hex>`` of a file: as it was recorded, else computed from its bytes and recorded."""
    if (found := marked_digest(file)) is None:
        # As it was before: a change while it is read makes the record invalid.
        state = _settled(file)
        file.seek(0)
        found = digest_of(file)
        _record(file, found, state)
    return found


def digest_of(file: BinaryIO) -> str:
    """Return ``sha256:<hex>`` of the rest of a file, computed from its bytes."""
    # hashlib.file_digest() is newer than the oldest Python that an image may have.
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return "sha256:" + digest.hexdigest()


def marked_digest(file: BinaryIO) -> str | None:
    """Return the recorded digest of an open file; None where none is recorded, or the file was changed since."""
    try:
        digest, *state = os.getxattr(file.fileno(), ATTRIBUTE).decode().split()
    except (OSError, ValueError, AttributeError):
        return None
    return digest if state == _state(file) else None


def mark_digest(file: BinaryIO, digest: str) -> None:
    """Record the digest of an open file that nobody writes to."""
    _record(file, digest, _settled(file))


def _record(file: BinaryIO, digest: str, state: list[str]) -> None:
    recorded = " ".join([digest, *state]).encode()
    with contextlib.suppress(OSError, AttributeError):
        try:
            os.setxattr(file.fileno(), ATTRIBUTE, recorded)
        except PermissionError:
            # Not even its owner may add an attribute to a read-only file.
            with _writable(file):
                os.setxattr(file.fileno(), ATTRIBUTE, recorded)


@contextlib.contextmanager
def _writable(file: BinaryIO) -> Iterator[None]:
    """Let the owner write to a read-only file meanwhile.

    :raises PermissionError: it is another user's file, or is not read-only
    """
    mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    if mode & stat.S_IWUSR:
        # Another process is at it, and would find its change undone.
        raise PermissionError
    os.fchmod(file.fileno(), mode | stat.S_IWUSR)
    try:
        yield
    finally:
        os.fchmod(file.fileno(), mode)


def _settled(file: BinaryIO) -> list[str]:
    """Return a file's state as soon as every later change shows in it."""
    changed = os.fstat(file.fileno()).st_mtime
    time.sleep(min(max(0.0, changed + TICK_SECONDS - time.time()), TICK_SECONDS))
    return _state(file)


def _state(file: BinaryIO) -> list[str]:
    found = os.fstat(file.fileno())
    return [str(found.st_size), str(found.st_mtime_ns), str(found.st_ino)]
