"""The notice that a job must stop, from any of its machines to the code on each of them.

``try-<n>/notice`` is shared: a new text for each time that one of the machines is to stop.
``try-<n>/notice-<node>`` appears when this machine's code is to end, and is what ``MODELWAY_NOTICE`` names.

A Job that is suspended and resumed continues as the same attempt: the notice that its earlier pods got is out of date,
and pods that start now ignore it.
"""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path

from modelway.job.left_files import is_below, read_below, remove_below, write_below

SHARED = "notice"
_LONGEST = 100


class Notice:
    """What one machine knows of the notice."""

    def __init__(self, *, attempt: Path, node: int) -> None:
        """Start on a machine: a notice that is there already is ignored."""
        self._folder, self._shared = attempt.parent, f"{attempt.name}/{SHARED}"
        self.path = attempt / f"{SHARED}-{node}"
        """appears when the code on this machine is to end"""
        self.delivered = False
        """whether the notice was passed to the code on this machine, as far as there was space for it"""
        self._own = f"{attempt.name}/{self.path.name}"
        self._before = self._text()
        with contextlib.suppress(OSError):
            remove_below(self._folder, self._own)

    def send(self) -> None:
        """Notify the code on all machines; another call repeats what a full disk prevented."""
        if self.delivered and is_below(self._folder, self._own):
            return
        # This machine's code is to end whether or not the others can be notified.
        with contextlib.suppress(OSError):
            write_below(self._folder, self._shared, uuid.uuid4().hex.encode())
        self._deliver()

    def check(self) -> None:
        """Notify the code on this machine if another machine got a notice since this one started."""
        if not self.delivered and self._text() not in (self._before, None):
            self._deliver()

    def _deliver(self) -> None:
        self.delivered = True
        with contextlib.suppress(OSError):
            write_below(self._folder, self._own, b"")

    def _text(self) -> bytes | None:
        with contextlib.suppress(OSError):
            return read_below(self._folder, self._shared, most=_LONGEST)
        return None
