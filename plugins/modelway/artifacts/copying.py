"""Copying bytes with their digest: an interrupted copy continues from what it has."""

import errno
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from modelway.artifacts.whole_files import blocks, lock


def copy(source: BinaryIO, target: BinaryIO) -> str:
    """Copy the rest of ``source`` in blocks of 4 MiB and return the digest of it, ``sha256:<hex>``."""
    return _copy_on(source, target, hashlib.sha256())


def copy_to_end(open_source: Callable[[], BinaryIO], target: BinaryIO, *, digest: str, attempts: int) -> str:
    """Copy a source behind what an earlier copy of it left in ``target``, and return the digest of all of ``target``.

    A copy with another digest than ``digest`` is repeated from the beginning, ``attempts`` times in all; what was left
    there does not count as an attempt.
    """
    found = ""
    if target.seek(0, os.SEEK_END):
        found = _attempt(open_source, target)
    for _ in range(attempts):
        if found == digest:
            break
        target.seek(0)
        target.truncate()
        found = _attempt(open_source, target)
    return found


def _attempt(open_source: Callable[[], BinaryIO], target: BinaryIO) -> str:
    target.seek(0)
    hashed = hashlib.sha256()
    for block in blocks(target):
        hashed.update(block)
    with open_source() as source:
        source.seek(target.tell())
        return _copy_on(source, target, hashed)


def _copy_on(source: BinaryIO, target: BinaryIO, hashed: "hashlib._Hash") -> str:
    for block in blocks(source):
        hashed.update(block)
        target.write(block)
    return "sha256:" + hashed.hexdigest()


@contextmanager
def new_part(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Open a new file beside ``path`` that may replace it; afterwards it is removed unless it was renamed."""
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with beside.open("x+b") as file:
            yield beside, file
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def reused_part(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Open the file ``path`` with what an interrupted writer left in it, locked for this writer.

    It is retained if the body fails, except on a full disk, which it would keep full. While another writer has it, a
    new file beside it is returned, which is not retained.
    """
    file = _open_to_continue(path)
    if file is None:
        with new_part(path) as made:
            yield made
        return
    try:
        with file:
            yield path, file
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            path.unlink(missing_ok=True)
        raise


def _open_to_continue(path: Path) -> BinaryIO | None:
    """Return the file locked, None while another writer has it, or where files cannot be locked."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    try:
        # Its last writer may have renamed it in the instant before it was locked.
        if lock(file, wait=False) and os.path.exists(path) and os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
            return file
    except OSError:
        pass
    file.close()
    return None
