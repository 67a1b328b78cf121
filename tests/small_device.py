"""A device of a few megabytes, for what happens when it is full."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_device(folder: Path, *, size: str) -> Iterator[Path]:
    """Mount a device below ``folder``; who may not has the test skipped.

    :param size: such as ``2m``
    """
    place = folder / "device"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a device")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)
