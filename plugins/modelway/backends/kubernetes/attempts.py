"""What the storage says of an attempt: its identity, which pods ran, how its nodes ended.

Its identity is kept beside the generations, in ``<key>/try-<n>.json``: a pod mounts its own generation alone, so that
a job cannot name another job's objects there.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from modelway.backends.base import Handle
from modelway.backends.folders import generations
from modelway.backends.folders.stored import record_file
from modelway.backends.kubernetes.launchers import KINDS
from modelway.backends.kubernetes.pods import image_digest
from modelway.platforms.kubernetes.labels import GROUP

Object = Mapping[str, Any]

#: nodes of a job, which is how many exit reports are read
MOST_NODES = 10_000


@dataclass(frozen=True, kw_only=True)
class AttemptRecord:
    """What ``<key>/try-<n>.json`` says of an attempt."""

    name: str
    namespace: str
    nodes: int
    launcher: str
    start_within_seconds: float
    token: str
    """distinguishes its objects from those of the same name that another Airflow made"""

    @property
    def selector(self) -> str:
        """What selects its objects, and no other Airflow's of the same name."""
        return f"{GROUP}/try={self.name},{GROUP}/token={self.token}"

    @property
    def mark(self) -> str:
        """What finds its objects where its folder is not seen."""
        return f"{self.namespace}/{self.launcher}/{self.token}"

    @classmethod
    def of_mark(cls, name: str, mark: str) -> "AttemptRecord":
        """Return a record with what a mark contains."""
        namespace, launcher, token = mark.split("/")
        return cls(name=name, namespace=namespace, nodes=1, launcher=launcher, start_within_seconds=0, token=token)

    @classmethod
    def read(cls, attempt: Path) -> "AttemptRecord | None":
        """Return the record; None when it was never written, or not in the form that this side writes."""
        found = generations.read(record_file(attempt)) or {}
        return cls(**found) if _is_record(found) else None

    def write(self, attempt: Path) -> None:
        """Write the record atomically."""
        generations.write(record_file(attempt), asdict(self))

    def is_of(self, handle: Handle) -> bool:
        """Whether the record matches a handle; a handle without a mark matches any."""
        return not handle.mark or (self.name, self.mark) == (handle.name, handle.mark)

    def of_handle(self, handle: Handle) -> "AttemptRecord":
        """Return the record with the objects' identity from the handle's mark, where there is one."""
        if not handle.mark:
            return self
        marked = AttemptRecord.of_mark(handle.name, handle.mark)
        return replace(self, name=marked.name, namespace=marked.namespace, launcher=marked.launcher, token=marked.token)


def _is_record(found: Mapping[str, Any]) -> bool:
    texts, numbers = ("name", "namespace", "launcher", "token"), ("nodes", "start_within_seconds")
    if set(found) != {*texts, *numbers} or not all(isinstance(found[key], str) for key in texts):
        return False
    nodes, seconds = found["nodes"], found["start_within_seconds"]
    if not isinstance(nodes, int) or not 0 < nodes <= MOST_NODES or not isinstance(seconds, (int, float)):
        return False
    return found["launcher"] in ("job", *KINDS)


def handle_of(attempt: Path, *, place: str | None = None) -> Handle:
    """Return the handle of an attempt.

    :param place: what every process calls the folder of its generation, where that is no path
    """
    record = AttemptRecord.read(attempt)
    return Handle(
        backend="kubernetes",
        name=record.name if record else attempt.name,
        place=place or str(attempt.parent),
        attempt=generations.number(attempt),
        mark=record.mark if record else "",
    )


def pods_that_are_gone(attempt: Path, pods: list[Object], *, suspended: bool) -> frozenset[str]:
    """Return the pods that ran and are not there any more; remember those that run, and what image they have.

    :param suspended: the Job is suspended: that its pods leave is no news, and they are remembered no more
    """
    path = attempt / "seen.json"
    before = generations.read(path) or {}
    known = set(before.get("pods", ()))
    if suspended:
        if known:
            generations.write(path, {**before, "pods": []})
        return frozenset()
    running = {pod["metadata"]["name"] for pod in pods if (pod.get("status") or {}).get("phase") == "Running"}
    image = image_digest(pods) or before.get("image")
    if (new := running - known) or image != before.get("image"):
        generations.write(path, {**before, "pods": sorted(known | new), "image": image})
    return frozenset(known - {pod["metadata"]["name"] for pod in pods})


def image_seen(attempt: Path) -> str | None:
    """Return the digest of the image that an attempt's pods had, None where no pod was seen with one."""
    return (generations.read(attempt / "seen.json") or {}).get("image")


def seconds_since_gone(attempt: Path, gone: frozenset[str]) -> float:
    """Return how long it is known that these pods are gone; the first call begins to count."""
    path = attempt / "seen.json"
    before = generations.read(path) or {}
    if before.get("gone") != sorted(gone):
        generations.write(path, {**before, "gone": sorted(gone), "gone_at": time.time()})
        return 0.0
    return time.time() - float(before["gone_at"])
