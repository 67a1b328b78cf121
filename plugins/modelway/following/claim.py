"""Which attempt follows a job: the last one that claimed it. An earlier attempt that ends leaves the job alone.

Airflow may begin a task's next attempt while a worker still has the one before, such as when its API server was
unavailable for longer than a heartbeat may be late; it ends the older one then, as it does when a user ends a task.
"""

import contextlib
import uuid
from pathlib import Path


class Claim:
    """One attempt's claim on a job, in a file below the home folder; where attempts share no home, each has its own."""

    def __init__(self, *, home: Path, job: str) -> None:
        """Prepare a claim on the job of that name; ``acquire`` makes it."""
        self._path = home / "followers" / job
        self._own = uuid.uuid4().hex

    def acquire(self) -> None:
        """Claim the job; this supersedes any earlier claim."""
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(self._own)

    def is_superseded(self) -> bool:
        """Whether another attempt has claimed the job since."""
        try:
            return self._path.read_text() not in ("", self._own)
        except OSError:
            return False

    def release(self) -> None:
        """Remove the claim, unless it is superseded."""
        if not self.is_superseded():
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
