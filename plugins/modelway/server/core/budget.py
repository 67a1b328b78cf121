"""Bytes that all requests in flight may hold together."""

from modelway.server.core.refusal import Refusal

#: bytes of every request that do not count, so that large bodies never shut out small ones
FREE = 64 << 10


class Budget:
    """A limit for the sum of the requests' shares; used on the event loop only."""

    def __init__(self, limit: int) -> None:
        """Set the ``limit`` in bytes."""
        self.limit = limit
        self.used = 0

    def share(self) -> "Share":
        """Return the share of one request, empty at first; it must be closed."""
        return Share(self)


class Share:
    """The memory that one request holds."""

    def __init__(self, budget: Budget) -> None:
        """Start with no memory."""
        self._budget = budget
        self._size = 0
        self._closed = False

    def need(self, size: int) -> None:
        """Hold ``size`` bytes in total from now on.

        :raises Refusal: 429 when the others leave too little; not 503, since the version works and only this moment
            is busy: a rollout counts 5xx against the version
        """
        if self._closed:
            # the client is gone while it is worked for
            return
        more = max(0, size - FREE) - self._size
        if more > 0 and self._budget.used + more > self._budget.limit:
            raise Refusal(
                429,
                f"the requests in flight hold {self._budget.used} of at most {self._budget.limit} bytes, "
                "try again in a moment",
            )
        self._budget.used += more
        self._size += more

    def close(self) -> None:
        """Release everything; a second call changes nothing."""
        self._budget.used -= self._size
        self._size = 0
        self._closed = True
