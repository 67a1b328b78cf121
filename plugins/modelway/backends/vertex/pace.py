"""How often the jobs of a process are inspected and their logs read: the more there are, the less often each."""

import threading
import time

from modelway.backends.base import Handle

#: inspections of all jobs in a second, and pauses between two of one job
INSPECTIONS, LEAST_SECONDS, MOST_SECONDS = 25.0, 2.0, 60.0
#: reads of all logs in a second, and the pause between two of one job's
READS, LOG_SECONDS = 4.0, 3.0
#: a job that was not inspected for so long is followed by another process, or by none
FORGOTTEN_SECONDS = 600.0


class Pace:
    """The jobs that this process follows."""

    def __init__(self) -> None:
        """Follow none yet."""
        self._lock = threading.Lock()
        self._inspected_at: dict[str, float] = {}
        self._read_at: dict[str, float] = {}
        self._forgot_at = time.monotonic()

    def followed(self, handle: Handle, *, over: bool) -> None:
        """Note that a job was inspected."""
        now = time.monotonic()
        with self._lock:
            self._inspected_at[handle.mark] = now
            if over:
                self._forget(handle.mark)
            if now - self._forgot_at > FORGOTTEN_SECONDS:
                self._forgot_at = now
                for mark in [mark for mark, at in self._inspected_at.items() if now - at > FORGOTTEN_SECONDS]:
                    self._forget(mark)

    def _forget(self, mark: str) -> None:
        self._inspected_at.pop(mark, None)
        self._read_at.pop(mark, None)

    @property
    def poll_seconds(self) -> float:
        """The pause between two inspections of one job."""
        return min(MOST_SECONDS, max(LEAST_SECONDS, len(self._inspected_at) / INSPECTIONS))

    def may_read_log(self, handle: Handle) -> bool:
        """Whether a running job's log may be read now; notes that it is."""
        now = time.monotonic()
        with self._lock:
            pause = max(LOG_SECONDS, len(self._inspected_at) / READS)
            if now - self._read_at.get(handle.mark, float("-inf")) < pause:
                return False
            self._read_at[handle.mark] = now
        return True
