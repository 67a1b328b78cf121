"""How much of a job's log is in its task's log, stored so that a new triggerer continues from there."""

import contextlib
import os
from pathlib import Path


class LogPosition:
    """One trigger's place in the log of its job, in a file below the home folder.

    A triggerer that cannot see that folder begins where the worker ended, and repeats what another has logged since.
    """

    def __init__(self, *, home: Path, follower: str, first: int = 0) -> None:
        """Store the place of ``follower``, a name that each deferral has of its own; it begins at ``first``."""
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
        """Store where to continue; a place that cannot be written only costs repeated lines after a restart."""
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                # In place, always as long and without fsync: it is written for every line, a killed process leaves the
                # old or the new one, and losing it with the machine costs little.
                os.pwrite(file, f"{offset:020d} {lines:010d}\n".encode(), 0)
            finally:
                os.close(file)

    def forget(self) -> None:
        """Remove the file: nobody follows the job with it anymore."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
