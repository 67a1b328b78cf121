"""What the jobs of a run reported and cost, stored; XCom says where."""

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelway.artifacts.store import Artifact, ArtifactStore
from modelway.backends.base import JobStatus
from modelway.job.agent.usage import usage_in
from modelway.job.early_end import recorded_end
from modelway.job.events import EVENTS, LeftOut, read_events
from modelway.runs.messages.checkpoints import JobCost

Events = Sequence[Mapping[str, Any]]


def store_events(
    store: ArtifactStore, folder: Path, *, model: str, warn: Callable[[str], None], notes: Sequence[str] = ()
) -> Artifact | None:
    """Store what a job reported; None when it reported nothing.

    Events over a limit are left out, with a note among the stored events and a line for the task's log.

    :param notes: what else to record about the job
    """
    left_out = LeftOut()
    events = read_events(folder, left_out=left_out)
    for note in left_out.notes():
        warn(f"events.jsonl: {note}")
    for note in (*left_out.notes(), *notes):
        events.append({"kind": "note", "at": round(time.time(), 3), "text": note})
    if not events:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / EVENTS
        with path.open("w") as file:
            file.writelines(json.dumps(event) + "\n" for event in events)
        return store.put(path, model=model)


def stopped_early(folder: Path) -> str | None:
    """Return why a training ended early, None when it did not."""
    return recorded_end(read_events(folder))


def cost_of(folder: Path, *, status: JobStatus, options: Mapping[str, Any], backend: str) -> JobCost:
    """Return the cost of a job, over all of its attempts, and the digest of its image."""
    cpu, earlier = usage_in(folder)
    return JobCost(
        seconds=None if status.seconds is None else round(status.seconds + earlier, 3),
        cpu_seconds=cpu,
        gpu=gpus(options),
        peak_memory_bytes=status.peak_memory_bytes,
        image_digest=status.image_digest,
        backend=backend,
    )


def gpus(options: Mapping[str, Any]) -> int:
    """Return the number of GPUs of a job on all of its nodes."""
    return int(options.get("gpu") or 0) * int(options.get("nodes") or 1)


class StoredEvents:
    """The events of a run's jobs in the artifact store; each file is fetched once."""

    def __init__(self, store: ArtifactStore) -> None:
        """Read from ``store``."""
        self._store = store
        self._read: dict[str, Events] = {}

    def of(self, artifact: Artifact | None) -> Events:
        """Return the events of a job, empty where it reported none."""
        if artifact is None:
            return []
        if artifact.digest not in self._read:
            with tempfile.TemporaryDirectory() as scratch:
                self._store.fetch(artifact, to=Path(scratch) / "events.jsonl")
                self._read[artifact.digest] = read_events(Path(scratch))
        return self._read[artifact.digest]

    def json(self, artifact: Artifact | None) -> Any:
        """Return the content of a stored JSON document; None where there is none."""
        if artifact is None:
            return None
        with tempfile.TemporaryDirectory() as scratch:
            path = self._store.fetch(artifact, to=Path(scratch) / "document")
            return json.loads(path.read_text())
