"""Checkpoints of a job: files that are durable before they are recorded, checked before they are used again."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from modelway.job.durable import syncing
from modelway.job.events import append_event, read_events
from modelway.job.file_marks import known_digest
from modelway.job.left_files import NotBelow, is_below, name_below, names_below, open_below, remove_below

#: the fields that an event must have for its checkpoint to be found again
_REQUIRED = {"id": str, "step": int, "path": str, "sha256": str, "size": int}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint file that was written whole: its digest is checked before it is used again.

    It can be used wherever a path can: ``open(checkpoint)``, ``torch.load(checkpoint)``, ``checkpoint.read_bytes()``.
    """

    id: str
    step: int | None
    """None where it is unknown, as for a file from elsewhere"""
    path: Path
    digest: str
    size: int
    at: float = 0.0
    """when it was written, in seconds since 1970; 0 where that is not known"""
    stage: str | None = None
    """the stage that wrote it"""
    folder: Path | None = None
    """the job's folder, no link that leads out of it is followed"""

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, part: str) -> Path:
        return self.path / part

    def __getattr__(self, name: str) -> Any:
        # Not the private ones: copy and pickle access them before there is a path.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.path, name)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Checkpoint):
            return vars(self) == vars(other)
        return self.path == other

    def __hash__(self) -> int:
        return hash(self.path)


@dataclass(frozen=True)
class Retention:
    """Which checkpoints are retained: the last ones, and one of each stretch of time."""

    last: int
    every_seconds: float | None = None

    def superfluous(self, written: Iterable[Checkpoint]) -> list[Checkpoint]:
        """Return those that are not retained.

        :param written: in the order of their writing: steps of a run that was restarted are lower than before
        """
        *older, _ = ordered = list(written)
        last = ordered[-self.last :]
        retained_at = float("-inf")
        found = []
        for each in older:
            if self.every_seconds is not None and each.at - retained_at >= self.every_seconds:
                retained_at = each.at
            elif each not in last:
                found.append(each)
        return found


def seconds_of(text: str | float) -> float:
    """Return a length of time such as ``30m`` in seconds; a number is seconds already.

    :raises ValueError: the text is not a length of time
    """
    if isinstance(text, (int, float)):
        return float(text)
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    if found is None:
        raise ValueError(f"'{text}' is not a length of time; write it like 90s, 30m, 2h or 1d")
    return float(found[1]) * _SECONDS[found[2]]


def recorded_checkpoints(folder: Path) -> list[Checkpoint]:
    """Return the checkpoints that a job recorded, by step; one written again counts once, as last written."""
    return sorted(written_checkpoints(folder), key=lambda checkpoint: checkpoint.step or 0)


def written_checkpoints(folder: Path) -> list[Checkpoint]:
    """Return the checkpoints that a job recorded, in the order of their writing; without those removed since."""
    return checkpoints_in(read_events(folder), folder)


def checkpoints_in(events: Iterable[Mapping[str, Any]], folder: Path) -> list[Checkpoint]:
    """Return the checkpoints that events record, in the order in which they were written."""
    last: dict[str, Checkpoint] = {}
    for event in events:
        if event["kind"] == "checkpoint" and _REQUIRED.items() <= _types(event).items():
            last.pop(event["id"], None)
            last[event["id"]] = Checkpoint(
                id=event["id"],
                step=event["step"],
                path=folder / event["path"],
                digest=event["sha256"],
                size=event["size"],
                at=event.get("at", 0.0),
                folder=folder,
            )
        elif event["kind"] == "checkpoint_removed":
            last.pop(event.get("id", ""), None)
    return list(last.values())


def _types(event: Mapping[str, Any]) -> dict[str, type]:
    return {name: type(value) for name, value in event.items()}


def remove_superfluous(folder: Path, retention: Retention) -> None:
    """Remove the checkpoints that are not retained; each removal is recorded first, so that no recorded one is gone."""
    written = written_checkpoints(folder)
    for each in retention.superfluous(written) if written else ():
        append_event(folder, "checkpoint_removed", id=each.id, path=each.path.relative_to(folder).as_posix())
    named = {each.path for each in written_checkpoints(folder)}
    # Also those of an earlier attempt that was killed between the event and the removal.
    for event in read_events(folder):
        if event["kind"] == "checkpoint_removed" and (place := event.get("path")) and folder / place not in named:
            remove_below(folder, place)


def record_unreported_checkpoints(folder: Path, stage: str) -> None:
    """Record the files under ``output/checkpoints`` that a command wrote without reporting them."""
    known = {checkpoint.path for checkpoint in recorded_checkpoints(folder)}
    names = [name for name in names_below(folder, "output/checkpoints") if not name.startswith(".")]
    files = [f"output/checkpoints/{name}" for name in names if is_below(folder, f"output/checkpoints/{name}")]
    for number, place in enumerate(files, start=1):
        path = folder / place
        if path in known:
            continue
        # The digits of a suffix such as .h5 or .pt2 are not a step.
        digits = re.findall(r"\d+", re.sub(r"\.[A-Za-z]\w*$", "", path.name))
        digest, size = sync_and_digest(path)
        step = int(digits[-1]) if digits else number
        append_event(folder, "checkpoint", id=f"{stage}-{path.name}", step=step, path=place, sha256=digest, size=size)


def open_recorded(checkpoint: Checkpoint) -> BinaryIO:
    """Open the file of a checkpoint.

    :raises NotBelow: it leads out of the job's folder
    """
    if checkpoint.folder is None:
        return checkpoint.path.open("rb")
    return open_below(checkpoint.folder, name_below(checkpoint.folder, checkpoint.path))


def damage(checkpoint: Checkpoint) -> str | None:
    """Return what is wrong with a checkpoint's file, or ``None`` when it is the recorded one."""
    try:
        with open_recorded(checkpoint) as file:
            size = os.fstat(file.fileno()).st_size
            if size != checkpoint.size:
                return f"the file has {size} bytes instead of {checkpoint.size}"
            found = known_digest(file)
    except NotBelow as error:
        return f"{error.strerror}"
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return "the file is gone"
    return None if found == checkpoint.digest else f"the bytes are {found} instead of {checkpoint.digest}"


def sync_and_digest(path: Path) -> tuple[str, int]:
    """Make a file durable and return its digest (``sha256:<hex>``), which is recorded with it, and size in bytes."""
    with path.open("rb") as file, syncing(file):
        return known_digest(file), os.fstat(file.fileno()).st_size


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
