"""Large bodies are read in turn: one connection in each turn of the event loop, so that small requests pass."""

import asyncio
from collections import deque
from typing import Protocol


class Reading(Protocol):
    """A connection with more to read."""

    def read_on(self) -> None:
        """Read the next part."""


class Turns:
    """The connections that wait to read on, in order."""

    def __init__(self) -> None:
        """Begin with none."""
        self._waiting: deque[Reading] = deque()

    def wait(self, connection: Reading) -> None:
        """Let a connection read on when those that wait already have read a part."""
        self._waiting.append(connection)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._waiting.popleft().read_on()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
