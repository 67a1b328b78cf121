"""A job's folder on an object store: the container works in a folder of its own and copies to and from the store.

Below the job's URI are the objects that the worker and the containers share, under the names of the contract's folder:

- ``prepared.tar``: ``job.json``, ``code/``, ``inputs/`` and ``runner/``, written by the worker before the first attempt
- ``events.jsonl``, ``progress.json``, ``error.json``, ``output/…``: as in the folder; each checkpoint is there before
  the event that records it
- ``try-<n>/log-<node>/<offset>``: the log in pieces, since an object cannot be appended to
- ``try-<n>/usage-<node>-<id>.json``: what the container's processes used
- ``try-<n>/exit-<node>.json``: written last, so that a reader that finds it finds everything else
- ``try-<n>/pods/<node>.json``: a heartbeat; a container waits until another's stops changing

What leads out of the folder, such as a link to a file of the image, is not copied; a note among the events says so.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import random
import re
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from modelway.job.checkpoints import checkpoints_in, damage, recorded_checkpoints
from modelway.job.events import append_event, parse_events
from modelway.job.left_files import NotBelow, all_below, names_below, open_below

SYNC_SECONDS = 3.0
BEAT_SECONDS = 5.0
STALE_SECONDS = 20.0
#: pauses before the heartbeat is created again, where the store did not answer
CREATE_PAUSES = (1.0, 5.0, 15.0)
EVENTS = "events.jsonl"
#: what is copied as it is whenever it has changed
SMALL = ("progress.json", "error.json")
#: how many names of what is not copied are noted
MOST_NOTES = 100


class Remote:
    """The copy of one job's folder on an object store, as one container maintains it."""

    def __init__(self, *, uri: str, folder: Path, attempt: int, node: int) -> None:
        """Note where the copy is, without accessing it."""
        import fsspec

        self._fs, place = fsspec.core.url_to_fs(uri, **({"auto_mkdir": True} if uri.startswith("file:") else {}))
        self._place = str(place).rstrip("/")
        self._folder, self._node = folder, node
        self._try = f"try-{attempt}"
        self._me = {"id": socket.gethostname(), "process": uuid.uuid4().hex}
        self._sent: dict[str, tuple[int, int]] = {}
        self._left_out: set[str] = set()
        self._log_offset = 0
        self._log_before = 0
        self._beaten = float("-inf")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._copy_until_ended, daemon=True)

    def enter(self, *, leave: Callable[[], bool], say: Callable[[str], None]) -> bool:
        """Wait until no other container works on the job; False when requested to stop meanwhile."""
        while not leave():
            others = self._others()
            if not others and self._enter():
                return True
            say("waiting for another container, which may still work on this job")
            deadline = time.monotonic() + STALE_SECONDS
            while time.monotonic() < deadline and not leave():
                time.sleep(min(0.2, STALE_SECONDS / 10))
            if leave():
                return False
            # One that is alive has renewed its heartbeat meanwhile: keep waiting for it.
            for path in [path for path, text in self._others().items() if others.get(path) == text]:
                with contextlib.suppress(FileNotFoundError):
                    self._fs.rm_file(path)
        return False

    def _enter(self) -> bool:
        """Begin the heartbeat; False where another container began one at the same time, and this one has to wait."""
        if "file" in self._fs.protocol:
            self._fs.makedirs(self._heart.rpartition("/")[0], exist_ok=True)
        if not self._create_heart():
            return False
        self._beaten = time.monotonic()
        if not self._others():
            return True
        # One of another attempt: neither works until one of them sees nobody else.
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._heart)
        time.sleep(random.uniform(0, 1))
        return False

    def _create_heart(self) -> bool:
        """Create the heartbeat; False where another container has it.

        :raises OSError: the store refuses it, or does not answer for a while
        """
        # Of two that create it the store refuses one; clients of before 2025 cannot say so to it.
        creates = "mode" in inspect.signature(getattr(self._fs, "_pipe_file", self._fs.pipe_file)).parameters
        pauses = iter(CREATE_PAUSES)
        while True:
            try:
                self._fs.pipe_file(self._heart, self._pulse(), **({"mode": "create"} if creates else {}))
                return True
            except FileExistsError:
                # It may be this one's own: it was written, and the answer lost.
                return self._is_mine()
            except (OSError, NotImplementedError) as error:
                if creates and _lacks_conditions(error):
                    creates = False
                elif isinstance(error, PermissionError) or (pause := next(pauses, None)) is None:
                    raise
                else:
                    # Written without the condition, it could replace the heartbeat of another container.
                    time.sleep(pause)

    def _is_mine(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return self._me["process"].encode() in self._fs.cat_file(self._heart)
        return False

    def restore(self) -> None:
        """Fetch what an earlier attempt reported, and the newest of its checkpoints that is whole."""
        self._continue_log()
        events = self._folder / EVENTS
        if not events.exists() and self._fs.exists(f"{self._place}/{EVENTS}"):
            self._fs.get_file(f"{self._place}/{EVENTS}", str(events))
        recorded = recorded_checkpoints(self._folder)
        for checkpoint in recorded:
            # Those that are not fetched are on the store all the same: only such ones are recorded.
            self._sent[checkpoint.path.relative_to(self._folder).as_posix()] = (0, 0)
        for checkpoint in reversed(recorded):
            name = checkpoint.path.relative_to(self._folder).as_posix()
            checkpoint.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                self._fs.get_file(f"{self._place}/{name}", str(checkpoint.path))
                self._note_sent(name)
            if damage(checkpoint) is None:
                return

    def _continue_log(self) -> None:
        """Let the log follow what an earlier container of this attempt sent, where its platform started it again."""
        log, local = f"{self._place}/{self._try}/log-{self._node}", self._folder / self._try / f"log-{self._node}.txt"
        sent = sorted(self._fs.glob(f"{log}/*"))
        if not sent:
            return
        end = int(sent[-1].rpartition("/")[2]) + self._fs.size(sent[-1])
        # The folder of a container that starts again is empty, or has what was sent.
        self._log_offset = min(local.stat().st_size, end) if local.exists() else 0
        self._log_before = end - self._log_offset

    def start(self) -> None:
        """Start copying what the job reports, every few seconds."""
        self._thread.start()

    def finish(self) -> None:
        """Copy everything that the job made, and last of all its exit report."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._node == 0:
            for name in all_below(self._folder, "output"):
                if not name.endswith(".part"):
                    self._send(name)
        self.copy()
        if self._node == 0:
            # With the notes of the previous round.
            self._copy_events()
        self._send(f"{self._try}/exit-{self._node}.json")
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._heart)

    def copy(self) -> None:
        """Copy what is new: checkpoints before the events that record them, then the log."""
        if self._node == 0:
            self._copy_events()
            for name in SMALL:
                self._send(name)
        for name in names_below(self._folder, self._try):
            if name.startswith("usage-") and name.endswith(".json"):
                self._send(f"{self._try}/{name}")
        with contextlib.suppress(FileNotFoundError), self._opened(f"{self._try}/log-{self._node}.txt") as file:
            file.seek(self._log_offset)
            if data := file.read():
                offset = self._log_before + self._log_offset
                self._fs.pipe_file(f"{self._place}/{self._try}/log-{self._node}/{offset:012d}", data)
                self._log_offset += len(data)

    def _copy_events(self) -> None:
        try:
            with self._opened(EVENTS) as file:
                stamp = _stamp(file)
                if stamp == self._sent.get(EVENTS):
                    return
                data = file.read()
        except FileNotFoundError:
            return
        recorded = checkpoints_in(parse_events(data), self._folder)
        named = {each.path.relative_to(self._folder).as_posix() for each in recorded}
        # A checkpoint was removed since it was recorded: the next round reads that event too.
        if not all([self._send(name) for name in sorted(named)]):
            return
        self._fs.pipe_file(f"{self._place}/{EVENTS}", data)
        self._sent[EVENTS] = stamp
        for name in [name for name in self._sent if name.startswith("output/checkpoints/") and name not in named]:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(f"{self._place}/{name}")
            del self._sent[name]

    def _send(self, name: str) -> bool:
        """Copy a file unless the store has it unchanged; return whether it is there, or never will be."""
        try:
            with self._opened(name) as file:
                stamp = _stamp(file)
                if self._sent.get(name) != stamp:
                    # The file that was opened, even if another has its name by now.
                    self._fs.put_file(f"/dev/fd/{file.fileno()}", f"{self._place}/{name}")
                    self._sent[name] = stamp
        except FileNotFoundError:
            return name in self._sent or name in self._left_out
        return True

    def _note_sent(self, name: str) -> None:
        with self._opened(name) as file:
            self._sent[name] = _stamp(file)

    def _opened(self, name: str) -> BinaryIO:
        """Open a file of the job's folder.

        :raises FileNotFoundError: there is none, or it leads out of the folder, which is noted once
        """
        try:
            return open_below(self._folder, name)
        except (NotBelow, NotADirectoryError) as error:
            self._note(name, error.strerror or str(error))
            raise FileNotFoundError(name) from None

    def _note(self, name: str, reason: str) -> None:
        if name in self._left_out:
            return
        self._left_out.add(name)
        if len(self._left_out) > MOST_NOTES:
            return
        text = f"{name[:200]} is not copied to the object store: {reason}"
        print(text, file=sys.stderr, flush=True)
        with contextlib.suppress(OSError, ValueError):
            append_event(self._folder, "note", text=text)

    @property
    def _heart(self) -> str:
        return f"{self._place}/{self._try}/pods/{self._node}.json"

    def _beat(self) -> None:
        if time.monotonic() - self._beaten >= BEAT_SECONDS:
            self._fs.pipe_file(self._heart, self._pulse())
            self._beaten = time.monotonic()

    def _pulse(self) -> bytes:
        return json.dumps({**self._me, "at": round(time.time(), 3)}).encode()

    def _others(self) -> dict[str, bytes]:
        """Return the heartbeats of containers to wait for: those of this one's place, and those of other attempts."""
        found: dict[str, bytes] = {}
        self._fs.invalidate_cache()
        for path in self._fs.glob(f"{self._place}/try-*/pods/*.json"):
            same_try = f"/{self._try}/" in path
            with contextlib.suppress(FileNotFoundError):
                text = self._fs.cat_file(path)
                if self._me["process"].encode() not in text and (not same_try or path.endswith(f"/{self._node}.json")):
                    found[path] = text
        return found

    def _copy_until_ended(self) -> None:
        while not self._ended.wait(SYNC_SECONDS):
            try:
                self._beat()
                self.copy()
            except Exception as error:
                # The next round tries again; an error in the last one is raised.
                print(f"the object store cannot be written now: {error}", file=sys.stderr, flush=True)


def _lacks_conditions(error: Exception) -> bool:
    """Whether a store, such as some that speak S3, says that it cannot create only what is not there."""
    # Its message alone may not have the code, which is in the cause.
    text = f"{error} {error.__cause__}"
    return isinstance(error, NotImplementedError) or bool(re.search(r"not.?implemented|unsupported header", text, re.I))


def _stamp(file: BinaryIO) -> tuple[int, int]:
    """Return what changes whenever a file's content does."""
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns
