"""Files that are whole or absent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_durably(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, world-readable, and sync it."""
    with durable_file(path) as file:
        file.write(data)


@contextmanager
def syncing(file: BinaryIO) -> Iterator[None]:
    """Sync a file to the disk while the block works, such as on its digest; it is durable when the block ends."""
    # Loaded here: every job writes durable files, and few of them large ones.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="sync") as pool:
        synced = pool.submit(os.fsync, file.fileno())
        yield
        synced.result()


@contextmanager
def durable_file(path: Path, *, synced: bool = True) -> Iterator[BinaryIO]:
    """Open a file to write part by part; it is at ``path``, whole and synced, when the block ends without an error.

    :param synced: False for what is made again if the machine breaks down
    """
    beside = path.with_name(f".{path.name}.part")
    with beside.open("wb") as file:
        yield file
        file.flush()
        if synced:
            os.fsync(file.fileno())
    beside.chmod(0o644)
    beside.replace(path)
