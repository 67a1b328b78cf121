"""The clock of the fake: it follows this machine's, or stands still until a test moves it."""

import threading
import time
from datetime import UTC, datetime


class Clock:
    """Seconds since the epoch.

    :param speed: 1 follows this machine's clock, 0 stands still, 60 makes a minute of a second
    """

    def __init__(self, *, speed: float = 1.0) -> None:
        self._speed, self._began, self._offset = speed, time.time(), 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        with self._lock:
            return self._began + (time.time() - self._began) * self._speed + self._offset

    def advance(self, seconds: float) -> None:
        """Move it forward; what is due happens before the next request is answered."""
        with self._lock:
            self._offset += seconds

    def stamp(self, at: float | None = None) -> str:
        """Return a time as the APIs write it."""
        moment = datetime.fromtimestamp(self.now() if at is None else at, UTC)
        return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
