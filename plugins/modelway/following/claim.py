"""Who follows a job: the last attempt of a task that found it. Another attempt that Airflow ends leaves the job alone.

Airflow may begin a task's next attempt while a worker still has the one before, such as when its API server was
unavailable for longer than a heartbeat may be late; it ends the older one then, as it does when a user ends a task.
"""

import contextlib
import uuid
from pathlib import Path


class Claim:
    """One attempt's claim on a job, in a file below the home folder; where attempts share no home, each has its own."""

    def __init__(self, *, home: Path, job: str) -> None:
        """Claim the job of that name, when ``take`` is called."""
        self._path = home / "followers" / job
        self._own = uuid.uuid4().hex

    def take(self) -> None:
        """Follow the job from now on, whoever did before."""
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(self._own)

    def is_anothers(self) -> bool:
        """Whether another attempt follows the job by now."""
        try:
            return self._path.read_text() not in ("", self._own)
        except OSError:
            return False

    def give_up(self) -> None:
        """Stop following the job."""
        if not self.is_anothers():
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
