"""What the object store says of an attempt: ``<key>/try-<n>.json`` identifies its job.

A job may write to its bucket, so that nothing in the record leads to another job: what identifies the custom job, its
token, follows from the attempt's place, and is no part of the record.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelway.backends.base import Handle
from modelway.backends.folders import generations
from modelway.backends.folders.stored import SUBMITTED, record_file
from modelway.backends.vertex.jobs import Place

#: nodes of a job, which is how many exit reports are read
MOST_NODES = 10_000
_NAME = re.compile(r"projects/[^/\s]+/locations/[^/\s]+/customJobs/\d+")


@dataclass(frozen=True, kw_only=True)
class AttemptRecord:
    """What ``<key>/try-<n>.json`` says of an attempt."""

    name: str
    project: str
    region: str
    nodes: int
    start_within_seconds: float

    @property
    def place(self) -> Place:
        """Where its job is."""
        return Place(self.project, self.region)

    @classmethod
    def read(cls, attempt: Path) -> "AttemptRecord | None":
        """Return the record; None when it was never written, or not in the form that this side writes."""
        found = generations.read(record_file(attempt)) or {}
        return cls(**found) if _is_record(found) else None

    def write(self, attempt: Path) -> None:
        """Write the record atomically."""
        generations.write(record_file(attempt), asdict(self))


def record_created(attempt: Path, name: str) -> Path:
    """Record that an attempt's job was created, under that name; return the file."""
    generations.write(attempt / SUBMITTED, {"name": name})
    return attempt / SUBMITTED


def created_name(attempt: Path) -> str | None:
    """Return the name of an attempt's job as it was created; whether it is of the attempt, only its token says."""
    name = str((generations.read(attempt / SUBMITTED) or {}).get("name"))
    return name if _NAME.fullmatch(name) else None


def mark_of(place: Place, token: str) -> str:
    """Return what finds an attempt's job where its folder is not seen."""
    return f"{place.project}/{place.region}/{token}"


def read_mark(mark: str) -> tuple[Place, str]:
    """Return the place and the token of a handle's mark."""
    project, region, token = mark.split("/")
    return Place(project, region), token


def handle_of(attempt: Path, record: AttemptRecord, *, place: str, token: str) -> Handle:
    """Return the handle of an attempt.

    :param place: what every process calls the folder of its generation
    """
    return Handle(
        backend="vertex",
        name=record.name,
        place=place,
        attempt=generations.number(attempt),
        mark=mark_of(record.place, token),
    )


def _is_record(found: Mapping[str, Any]) -> bool:
    texts, numbers = ("name", "project", "region"), ("nodes", "start_within_seconds")
    if set(found) != {*texts, *numbers} or not all(isinstance(found[key], str) for key in texts):
        return False
    nodes, seconds = found["nodes"], found["start_within_seconds"]
    return isinstance(nodes, int) and 0 < nodes <= MOST_NODES and isinstance(seconds, (int, float))
