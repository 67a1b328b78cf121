"""One writer at a time: a heartbeat file in the job's folder shows other containers that this one works on it.

``try-<n>/pods/<node>.json`` is ``{"id": host name, "process": random text, "at": unix time}``, renewed every five
seconds and removed at the end. A container that was paused for so long that another took over finds the other's
name in its file and exits.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelway.job.left_files import document_below

BEAT_SECONDS = 5.0
STALE_SECONDS = 20.0
POLL_SECONDS = 0.5
LARGEST_BEAT = 4096


class Lease:
    """The claim of one container on its place in the job."""

    def __init__(self, *, attempt: Path, node: int | None, nodes: int) -> None:
        """Prepare a claim in the folder of an attempt.

        :param node: this container's place; None: the first free one after the place 0
        """
        self.folder = attempt / "pods"
        self.node = node
        self.nodes = nodes
        self.lost = threading.Event()
        """set when another container has taken the place"""
        self._name = {"id": socket.gethostname(), "process": uuid.uuid4().hex}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def enter(self, *, leave: Callable[[], bool], say: Callable[[str], None]) -> bool:
        """Wait until no other container works at this place, and claim it; False when requested to stop meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        reported = None
        while not leave():
            other = self._older() or self._claim()
            if other is None:
                self._thread.start()
                return True
            if other != reported:
                say(f"waiting for {other}, which still works on this job")
                reported = other
            time.sleep(POLL_SECONDS)
        return False

    def leave(self) -> None:
        """Release the place."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=BEAT_SECONDS)
        if self.node is not None and self._is_mine(self._file(self.node)):
            self._file(self.node).unlink(missing_ok=True)

    def _file(self, node: int) -> Path:
        return self.folder / f"{node}.json"

    def _older(self) -> str | None:
        """Return a container of another attempt that still works here."""
        for path in sorted(self.folder.parent.parent.glob("try-*/pods/*.json")):
            if path.parent != self.folder and self._is_fresh(path):
                return _holder(path)
        return None

    def _claim(self) -> str | None:
        """Claim the place; return who holds it when it cannot be claimed."""
        places = [self.node] if self.node is not None else list(range(1, self.nodes))
        for node in places:
            path = self._file(node)
            if self._create(path) or (not self._is_fresh(path) and self._take_over(path)):
                self.node = node
                return None
        return _holder(self._file(places[0]))

    def _create(self, path: Path) -> bool:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w") as file:
            file.write(self._text())
        return True

    def _take_over(self, path: Path) -> bool:
        self._write(path)
        # Of two that find the same stale place, the one that wrote last gets it.
        time.sleep(2 * POLL_SECONDS)
        return self._is_mine(path)

    def _beat(self) -> None:
        assert self.node is not None
        path = self._file(self.node)
        while not self._ended.wait(BEAT_SECONDS):
            # A file that cannot be read now, on unreliable storage, is no sign of another container.
            if _read(path).get("process", self._name["process"]) != self._name["process"]:
                self.lost.set()
                return
            try:
                self._write(path)
            except OSError:
                # A full disk must not make others believe that nobody is here.
                with contextlib.suppress(OSError):
                    os.utime(path)

    def _write(self, path: Path) -> None:
        beside = path.with_name(f".{path.name}.{self._name['process']}")
        beside.write_text(self._text())
        beside.replace(path)

    def _text(self) -> str:
        return json.dumps({**self._name, "at": round(time.time(), 3)})

    def _is_mine(self, path: Path) -> bool:
        return _read(path).get("process") == self._name["process"]

    def _is_fresh(self, path: Path) -> bool:
        return is_fresh(path, beside=self.folder)


def is_fresh(path: Path, *, beside: Path) -> bool:
    """Whether a file is as recent as a heartbeat, by the clock of the storage: machines' own clocks may differ.

    :param beside: a folder of the same storage that can be written
    """
    now = beside / f".now.{uuid.uuid4().hex}"
    try:
        now.write_text("")
        # Of a link, its own age counts.
        return now.stat().st_mtime - path.lstat().st_mtime < STALE_SECONDS
    except FileNotFoundError:
        return False
    finally:
        now.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    """Return a heartbeat's content; an empty one for what a job left in its place, such as a FIFO."""
    folder = path.parents[2]
    return document_below(folder, path.relative_to(folder).as_posix(), most=LARGEST_BEAT) or {}


def _holder(path: Path) -> str:
    return str(_read(path).get("id", "another container"))
