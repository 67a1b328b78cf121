"""What the monitor remembers of the version that serves between two checks, and what its servers counted since."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.artifacts.archive import unpack_archive
from modelway.artifacts.store import Artifact, ArtifactStore
from modelway.errors import ModelwayError
from modelway.lineage.records.monitoring import MonitorState, Prediction
from modelway.monitor.decide import Alarm
from modelway.monitor.reference import Reference, Tally

if TYPE_CHECKING:
    from modelway.lineage.store import Lineage

#: servers that do not answer whose counts are remembered, so that one that does again is not counted twice
_SERVERS = 64
REFERENCE = "outputs/sketches.json"


@dataclass(kw_only=True)
class Memory:
    """What is remembered of the version that serves."""

    version: int
    #: when it began to serve, as far as the monitor saw it
    since: float
    #: when it was checked last
    at: float
    reference: Reference | None
    #: by what distinguishes a server: rows seen, the last prediction's number, and the tallies that it had
    servers: dict[str, dict[str, Any]] = field(default_factory=dict)
    alarms: dict[str, Alarm] = field(default_factory=dict)
    rows: int = 0
    #: how far the labels of a data set are read, which are the model's: see ``modelway.runs.monitor_labels``
    labels: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        reference = self.reference.to_dict() if self.reference else None
        alarms = {rule: alarm.to_dict() for rule, alarm in self.alarms.items()}
        return {**vars(self), "reference": reference, "alarms": alarms}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Memory":
        """Read what :meth:`to_dict` returned; what a state has besides is none of it."""
        data = {each.name: data[each.name] for each in fields(cls) if each.name in data}
        reference = Reference.from_dict(data["reference"]) if data["reference"] else None
        alarms = {rule: Alarm.from_dict(alarm) for rule, alarm in data["alarms"].items()}
        return cls(**{**data, "reference": reference, "alarms": alarms})


def remembered(
    before: MonitorState, version: int, now: datetime, store: "Lineage", artifacts: ArtifactStore, *, model: str
) -> Memory:
    """Return what is remembered of the version that serves; anew where another one served at the last check."""
    if before.state.get("version") == version:
        return Memory.from_dict(before.state)
    at = now.timestamp()
    known = store.version(model, version).summary
    archive = Artifact(uri=known.archive_uri, digest=known.archive_digest, size=known.archive_size)
    labels = before.state.get("labels", {})
    return Memory(version=version, since=at, at=at, reference=read_reference(artifacts, archive), labels=labels)


def read_reference(artifacts: ArtifactStore, archive: Artifact) -> Reference | None:
    """Return what freezing counted; None where the archive has no real rows, or is gone."""
    try:
        with tempfile.TemporaryDirectory() as scratch, artifacts.open(archive) as file:
            unpack_archive(archive=file, to=Path(scratch), only=(REFERENCE,))
            path = Path(scratch) / REFERENCE
            return Reference.of(json.loads(path.read_text())) if path.is_file() else None
    except ModelwayError:
        return None


def count_new(
    memory: Memory, documents: Sequence[Mapping[str, Any]], *, is_first: bool
) -> tuple[dict[str, Tally], int, tuple[Prediction, ...]]:
    """Return what servers counted since the last check, and note what they have counted; a new server begins at 0.

    :param is_first: nothing counts, as it is not known when that was
    """
    tallies: dict[str, Tally] = {}
    rows, predictions = 0, []
    for document in documents:
        known = memory.servers.pop(str(document["since"]), {"seen": 0, "last": 0, "tallies": {}})
        now = memory.reference.count(document) if memory.reference else {}
        for key, tally in now.items():
            before = known["tallies"].get(key)
            new = tally.plus(Tally.from_list(before), -1) if before else tally
            tallies[key] = tallies[key].plus(new) if key in tallies else new
        seen = int(document.get("rows_seen", 0))
        rows += max(0, seen - known["seen"])
        recent = [each for each in document.get("predictions") or () if each[0] > known["last"]]
        predictions += [Prediction(request_id=str(each[2]), value=float(each[3])) for each in recent]
        memory.servers[str(document["since"])] = {
            "seen": seen,
            "last": max((each[0] for each in recent), default=known["last"]),
            "tallies": {key: tally.to_list() for key, tally in now.items()},
        }
    # Those that answered are at the end.
    retained = _SERVERS + len({str(document["since"]) for document in documents})
    memory.servers = dict(list(memory.servers.items())[-retained:])
    return ({}, 0, ()) if is_first else (tallies, rows, tuple(predictions))
