"""Files that are whole or absent."""

import os
from pathlib import Path


def write_durably(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, world-readable, and sync it."""
    beside = path.with_name(f".{path.name}.part")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.chmod(0o644)
    beside.replace(path)
