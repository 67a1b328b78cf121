"""How much of a job's log is in its task's log, kept so that a new triggerer goes on from there."""

import contextlib
from pathlib import Path


class LogPosition:
    """One trigger's place in the log of its job, in a file below the home folder.

    A triggerer that cannot see that folder begins where the worker ended, and repeats what another has logged since.
    """

    def __init__(self, *, home: Path, follower: str, first: int = 0) -> None:
        """Keep the place of ``follower``, a name that each deferral has of its own; it begins at ``first``."""
        self._path = home / "positions" / (follower or "nobody")
        self._first = first

    def read(self) -> int:
        """Return where to go on."""
        try:
            return int(self._path.read_text())
        except (OSError, ValueError):
            return self._first

    def write(self, offset: int) -> None:
        """Keep where to go on; a place that cannot be written costs repeated lines after a restart, nothing else."""
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Without fsync: this is written for every block, and losing it with the machine costs little.
            beside = self._path.with_suffix(".part")
            beside.write_text(str(offset))
            beside.replace(self._path)

    def forget(self) -> None:
        """Remove the file: nobody follows the job with it any more."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
