"""How the server ends: on SIGTERM it stops being ready, answers the requests that still come, and then exits."""

import time


class Drain:
    """Whether the server is draining, and whether that is done."""

    def __init__(self, *, limit: float, quiet: float) -> None:
        """Set the limits (seconds): of the whole drain, and of the silence that ends it."""
        self._limit, self._quiet = limit, quiet
        self._began: float | None = None
        self._last_request = time.monotonic()
        self._in_flight = 0
        self._arriving = 0
        #: requests that were not answered when the limit was reached
        self.cut_off = 0

    @property
    def began(self) -> bool:
        """Whether the drain has started."""
        return self._began is not None

    def begin(self) -> None:
        """Start draining; a second call changes nothing."""
        if self._began is None:
            self._began = time.monotonic()

    def remaining(self) -> float:
        """Seconds that are left of the limit."""
        return self._limit if self._began is None else max(0.0, self._began + self._limit - time.monotonic())

    def done(self) -> bool:
        """Whether nothing is in flight and no request came for a while, or the limit is reached.

        An incomplete body is waited for during a fifth of the limit: half-sent ones must not hold the rest up.
        """
        if self._began is None:
            return False
        now = time.monotonic()
        if self.remaining() == 0.0:
            self.cut_off = self._in_flight
            return True
        silent = now - max(self._began, self._last_request) >= self._quiet
        arrived = self._arriving == 0 or now - self._began >= self._limit / 5
        return self._in_flight == 0 and silent and arrived

    def enter(self) -> None:
        """Record that a request begins to arrive."""
        self._arriving += 1

    def arrived(self) -> None:
        """Record that a request has arrived completely."""
        self._arriving -= 1
        self._in_flight += 1
        self._last_request = time.monotonic()

    def leave(self, *, complete: bool) -> None:
        """Record that a request is answered, ``complete`` or before it had arrived completely."""
        if complete:
            self._in_flight -= 1
            self._last_request = time.monotonic()
        else:
            self._arriving -= 1
