"""Which attempt of a task follows a job: the newest one that claimed it. An earlier one leaves the job alone.

Airflow may begin a task's next attempt while a worker still has the one before: when its API server was unavailable for
longer than a heartbeat may be late, or when a Celery worker was killed, whose task's own process runs on to its end.
"""

import contextlib
import uuid
from pathlib import Path


class Claim:
    """One attempt's claim on a job, in a file below the home folder; where attempts share no home, each has its own."""

    def __init__(self, *, home: Path, job: str, attempt: int) -> None:
        """Prepare a claim on the job of that name; ``acquire`` makes it.

        :param attempt: the number of the task's attempt
        """
        self._path = home / "followers" / job
        self._attempt = attempt
        self._own = uuid.uuid4().hex

    def acquire(self) -> None:
        """Claim the job; this supersedes any claim of this attempt or an earlier one, and never that of a later one."""
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self.newer() is None:
                self._path.write_text(f"{self._attempt} {self._own}")

    def newer(self) -> int | None:
        """Return the number of a later attempt that has claimed the job, None where there is none."""
        number, _ = self._read()
        return number if number > self._attempt else None

    def is_superseded(self) -> bool:
        """Whether another attempt has claimed the job since."""
        return self._read()[1] not in ("", self._own)

    def release(self) -> None:
        """Remove the claim, unless it is superseded."""
        if not self.is_superseded():
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _read(self) -> tuple[int, str]:
        """Return the attempt that has claimed the job, and its name; an earlier version wrote the name alone."""
        try:
            number, _, name = self._path.read_text().rpartition(" ")
        except OSError:
            return 0, ""
        return int(number) if number.isdigit() else 0, name
