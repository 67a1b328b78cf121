"""modelway through the public methods of its lineage store."""

from datetime import UTC, datetime
from typing import Any

from modelway.lineage.records.version import FileRecord, MetricPoint, RunRecord, VersionRecord
from modelway.lineage.store import Lineage
from workload import ALIAS, MODEL, Run, digest


def record_of(run: Run) -> VersionRecord:
    """Return a run as modelway's operators hand it over."""
    return VersionRecord(
        model=MODEL,
        run=RunRecord(dag_id=MODEL, run_id=run.name, started_at=datetime.now(UTC)),
        archive_uri=f"file:///artifacts/{run.name}",
        archive_digest=digest(f"archive of {run.name}"),
        archive_size=1000,
        model_digest=digest(f"model of {run.name}"),
        checkpoint="last",
        checkpoint_digest=digest(f"checkpoint of {run.name}"),
        params={"train": run.params},
        points=[
            MetricPoint(stage="train", name=name, step=step, value=value)
            for name, points in run.series.items()
            for step, value in points
        ],
        files=[FileRecord(path=path, digest=found, size=size) for path, (found, size) in run.files.items()],
        alias=ALIAS,
    )


class Ours:
    """A store; each method is one question or one fact."""

    name = "modelway"

    def __init__(self, store: Lineage) -> None:
        self.store = store

    def prepare(self, run: Run) -> VersionRecord:
        """Return what ``register`` takes; not measured."""
        return record_of(run)

    def register(self, record: VersionRecord) -> int:
        """Write a run and its version."""
        return self.store.register(record)

    def latest(self, _: Any) -> int:
        """Which version is the newest."""
        return self.store.find(MODEL, "latest")

    def by_alias(self, _: Any) -> int:
        """Which version an alias means."""
        return self.store.find(MODEL, ALIAS)

    def models(self, _: Any) -> Any:
        """What the page lists of every model."""
        return self.store.models()

    def full_record(self, number: int) -> Any:
        """Everything about a version, with the whole history of its metrics."""
        return self.store.version(MODEL, number)

    def compare(self, pair: tuple[int, int]) -> Any:
        """In what two versions differ."""
        left, right = (self.store.version(MODEL, number) for number in pair)
        return {
            name
            for name in left.params["train"]
            if left.params["train"][name] != right.params.get("train", {}).get(name)
        }

    def who_has(self, wanted: str) -> Any:
        """Which versions have a file of this content."""
        return self.store.graph.find_by_digest(wanted)
