"""The position in a job's log up to which its task's log has it, stored for a new triggerer to continue from."""

import contextlib
import os
from pathlib import Path


class LogPosition:
    """One trigger's position in the log of its job, in a file below the home folder.

    A triggerer that cannot see that folder starts where the worker ended, and repeats what was logged since.
    """

    def __init__(self, *, home: Path, follower: str, first: int = 0) -> None:
        """Store the position of ``follower``, the unique name of a deferral; it starts at ``first``."""
        self._path = home / "positions" / (follower or "nobody")
        self._first = first

    def read(self) -> tuple[int, int]:
        """Return where to continue: an offset of the backend, and how many lines from there are logged already."""
        try:
            offset, lines = self._path.read_text().split()
            return int(offset), int(lines)
        except (OSError, ValueError):
            return self._first, 0

    def write(self, offset: int, *, lines: int = 0) -> None:
        """Store where to continue; a failed write only costs repeated lines after a restart."""
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                # In place, of fixed length and without fsync: it is written for every line, a killed process leaves the
                # old or the new one, and losing it with the machine costs little.
                os.pwrite(file, f"{offset:020d} {lines:010d}\n".encode(), 0)
            finally:
                os.close(file)

    def forget(self) -> None:
        """Remove the file: this deferral is over."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
