"""The notice that a job must leave, from any of its machines to the code on each of them.

``try-<n>/notice`` is shared: a text of its own for each time that one of the machines is to leave.
``try-<n>/notice-<node>`` appears when this machine's code is to end, and is what ``MODELWAY_NOTICE`` names.

A Job that is suspended and resumed goes on as the same try: the notice that its pods were given then is of before, and
pods that begin now do not obey it.
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
        """Begin on a machine: whatever notice is there is of before."""
        self._folder, self._shared = attempt.parent, f"{attempt.name}/{SHARED}"
        self.path = attempt / f"{SHARED}-{node}"
        """appears when the code on this machine is to end"""
        self.told = False
        """whether the code on this machine was told, as far as there was space for it"""
        self._own = f"{attempt.name}/{self.path.name}"
        self._before = self._text()
        with contextlib.suppress(OSError):
            remove_below(self._folder, self._own)

    def give(self) -> None:
        """Tell the code on all machines; called again, it tries again what a full disk refused."""
        if self.told and is_below(self._folder, self._own):
            return
        # Whether or not the others can be told: this machine's code is to end.
        with contextlib.suppress(OSError):
            write_below(self._folder, self._shared, uuid.uuid4().hex.encode())
        self._tell()

    def look(self) -> None:
        """Tell the code on this machine what another one was told since this one began."""
        if not self.told and self._text() not in (self._before, None):
            self._tell()

    def _tell(self) -> None:
        self.told = True
        with contextlib.suppress(OSError):
            write_below(self._folder, self._own, b"")

    def _text(self) -> bytes | None:
        with contextlib.suppress(OSError):
            return read_below(self._folder, self._shared, most=_LONGEST)
        return None
