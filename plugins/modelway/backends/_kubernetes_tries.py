"""What a try's folder on the storage says: who it is, which pods ran, how its nodes ended."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelway.backends import _generations as generations
from modelway.backends.base import Handle

Object = Mapping[str, Any]

SUBMITTED = "submitted"


@dataclass(frozen=True, kw_only=True)
class TryRecord:
    """What ``request.json`` says of a try."""

    name: str
    namespace: str
    nodes: int
    launcher: str
    start_within_seconds: float
    token: str
    """tells its objects from those of the same name that another Airflow made"""

    @classmethod
    def read(cls, attempt: Path) -> "TryRecord | None":
        """Return what was written, or None when the try never got so far."""
        found = generations.read(attempt / "request.json")
        return cls(**found) if found else None

    def write(self, attempt: Path) -> None:
        """Write it down, whole or not at all."""
        generations.write(attempt / "request.json", asdict(self))


def handle_of(attempt: Path) -> Handle:
    """Return what finds a try again."""
    record = TryRecord.read(attempt)
    name = record.name if record else attempt.name
    return Handle(backend="kubernetes", name=name, place=str(attempt.parent), attempt=generations.number(attempt))


def folder_of(handle: Handle) -> Path:
    """Return a try's folder."""
    return Path(handle.place) / f"try-{handle.attempt}"


def exits_of(attempt: Path, *, nodes: int) -> list[Object]:
    """Return how the nodes' agents ended, as far as they wrote it."""
    found = (generations.read(attempt / f"exit-{node}.json") for node in range(nodes))
    return [each for each in found if each]


def pods_that_are_gone(attempt: Path, pods: list[Object]) -> frozenset[str]:
    """Return the pods that ran and are not there any more; remember those that run."""
    path = attempt / "seen.json"
    before = generations.read(path) or {}
    known = set(before.get("pods", ()))
    running = {pod["metadata"]["name"] for pod in pods if (pod.get("status") or {}).get("phase") == "Running"}
    if new := running - known:
        generations.write(path, {**before, "pods": sorted(known | new)})
    return frozenset(known - {pod["metadata"]["name"] for pod in pods})


def seconds_since_gone(attempt: Path, gone: frozenset[str]) -> float:
    """Return how long it is known that these pods are gone; the first call begins to count."""
    path = attempt / "seen.json"
    before = generations.read(path) or {}
    if before.get("gone") != sorted(gone):
        generations.write(path, {**before, "gone": sorted(gone), "gone_at": time.time()})
        return 0.0
    return time.time() - float(before["gone_at"])


def forget_heartbeats(attempt: Path) -> None:
    """Remove what agents that are known to have ended left, so that the next try need not wait until it is stale."""
    for beat in (attempt / "pods").glob("*.json"):
        beat.unlink(missing_ok=True)
