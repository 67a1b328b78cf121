"""Files that appear whole or not at all: written beside, synced, renamed, guarded by file locks."""

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from modelway.errors import NotWritable

BLOCK = 4 * 1024 * 1024


def blocks(file: BinaryIO, *, most: int | None = None) -> Iterator[bytes]:
    """Yield the rest of a file in pieces of at most 4 MiB.

    :param most: how many bytes to read; default: all
    """
    while block := file.read(BLOCK if most is None else min(BLOCK, most)):
        most = most and most - len(block)
        yield block


def replace_file(*, path: Path, data: bytes) -> None:
    """Replace the file at ``path`` with ``data`` atomically."""
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with beside.open("xb") as file:
            file.write(data)
            publish(beside=beside, file=file, final=path)
    finally:
        beside.unlink(missing_ok=True)


def publish(*, beside: Path, file: BinaryIO, final: Path) -> None:
    """Sync a written file to the disk and rename it into place, readable by every user."""
    file.flush()
    os.fchmod(file.fileno(), 0o644)
    os.fsync(file.fileno())
    beside.rename(final)
    sync_folder(final.parent)


def sync_folder(folder: Path) -> None:
    """Sync a folder's entries to the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def partial_file(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Open a new file in ``folder`` that is locked while its writer lives and removed unless it was renamed."""
    while True:
        beside = folder / uuid.uuid4().hex
        file = beside.open("xb")
        lock(file)
        # Another process may have swept the file in the instant before it was locked.
        if beside.exists():
            break
        file.close()
    try:
        yield beside, file
    finally:
        beside.unlink(missing_ok=True)
        file.close()


def sweep_partial_files(folder: Path) -> None:
    """Remove the files of ``partial_file`` whose writers were killed."""
    for left in folder.iterdir():
        try:
            with left.open("r+b") as file:
                if lock(file, wait=False):
                    left.unlink()
        except FileNotFoundError:
            continue


def lock(file: IO[Any], *, wait: bool = True) -> bool:
    """Lock an open file for this process alone, until it is closed or the process ends, however it does.

    :param wait: for another process that has the lock; else return False
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Make the lock file ``path`` if need be and lock it for the block; see ``lock``."""
    with path.open("a") as file:
        lock(file)
        yield


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Translate the operating system's errors to one message about ``folder``.

    :raises NotWritable: the body met an ``OSError``
    """
    try:
        yield
    except OSError as error:
        raise NotWritable(
            f"the folder cannot be written ({error.strerror or error})",
            where=str(folder),
            do="Make the folder writable for the Airflow worker and leave it space, or set MODELWAY_HOME to another",
        ) from error
