"""What a job prints: copied to standard output and, in whole lines, to its log file; or written to the file alone."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import deque
from pathlib import Path

#: a line longer than this, such as a progress bar's, is written in pieces
_PIECE = 1 << 16
_LAST_LINES = 200


class Tee:
    """Reads a pipe until its end in a thread of its own."""

    def __init__(self, *, log: Path) -> None:
        """Copy what is written to ``writer`` to standard output and append it to ``log``."""
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._source, self.writer = os.pipe()
        self._log = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        self._lock = threading.Lock()
        self._half = b""
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        """Print a line of our own between the job's."""
        self._whole(text.encode() + b"\n")

    def finish(self, *, within_seconds: float) -> None:
        """Wait for the end of the pipe and write the rest of a last line."""
        self._thread.join(timeout=within_seconds)
        with self._lock:
            left, self._half = self._half, b""
        if left:
            self._whole(left + b"\n")
        with contextlib.suppress(OSError):
            os.fsync(self._log)

    def _copy(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._source, _PIECE):
                with self._lock:
                    self._half += data
                    end = self._half.rfind(b"\n") + 1 or (len(self._half) if len(self._half) >= _PIECE else 0)
                    whole, self._half = self._half[:end], self._half[end:]
                if whole:
                    self._whole(whole)

    def _whole(self, data: bytes) -> None:
        self.last_lines.extend(data.decode(errors="replace").splitlines())
        # The log on the storage is what is read afterwards: standard output may be gone with its reader.
        for target in (self._log, sys.__stdout__.fileno() if sys.__stdout__ else None):
            with contextlib.suppress(OSError):
                _write_all(target, data)


class PlainLog:
    """The log file as the job's own output: a job that fills the disk sees it, and one whose agent died continues."""

    def __init__(self, *, log: Path) -> None:
        """Let ``writer`` append to ``log``."""
        self._path = log
        self.writer = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        self._own = os.dup(self.writer)

    @property
    def last_lines(self) -> list[str]:
        """The last lines of the log."""
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _PIECE))
            return file.read().decode(errors="replace").splitlines()[-_LAST_LINES:]
        return []

    def say(self, text: str) -> None:
        """Print a line of our own between the job's."""
        with contextlib.suppress(OSError):
            _write_all(self._own, text.encode() + b"\n")

    def finish(self, *, within_seconds: float) -> None:
        """Sync the log to the disk."""
        with contextlib.suppress(OSError):
            os.fsync(self._own)


def _write_all(target: int | None, data: bytes) -> None:
    while data and target is not None:
        data = data[os.write(target, data) :]
