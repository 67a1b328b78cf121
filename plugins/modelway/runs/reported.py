"""What the jobs of a run reported of themselves, as records: stages, environments, charts, importances, architecture.

XCom carries where a job's events lie; here they are read.
"""

import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelway.artifacts.store import Artifact, ArtifactStore
from modelway.backends.base import JobStatus
from modelway.job.agent.usage import usage_in
from modelway.job.environment import with_image
from modelway.job.events import EVENTS, LeftOut, read_events
from modelway.job.freezing.outputs import DATATYPES
from modelway.lineage.records.version import (
    ArchitectureRecord,
    EnvironmentRecord,
    FigureRecord,
    ImportanceRecord,
    StageRecord,
)

Events = Sequence[Mapping[str, Any]]
Report = Mapping[str, Any]


#: of a run, all its stages together: a page shows them all
MOST_FIGURES = 500


def store_events(
    store: ArtifactStore, folder: Path, *, model: str, warn: Callable[[str], None], notes: Sequence[str] = ()
) -> Artifact | None:
    """Store what a job reported; None when it reported nothing.

    What is over a limit is left out, with a note in what is stored and a line for the task's log.

    :param notes: what else is to be noted of the job
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


def cost_of(folder: Path, *, status: JobStatus, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a job took, over all of its tries, and by which digest its image is known: a little for XCom."""
    cpu, earlier = usage_in(folder)
    return {
        "seconds": None if status.seconds is None else round(status.seconds + earlier, 3),
        "cpu_seconds": cpu,
        "gpu": gpus(options),
        "peak_memory_bytes": status.peak_memory_bytes,
        "image_digest": status.image_digest,
    }


def gpus(options: Mapping[str, Any]) -> int:
    """Return the GPUs of a job on all of its nodes."""
    return int(options.get("gpu") or 0) * int(options.get("nodes") or 1)


class StoredEvents:
    """The events of a run's jobs as they lie in the artifact store; each file is fetched once."""

    def __init__(self, store: ArtifactStore) -> None:
        """Read from ``store``."""
        self._store = store
        self._read: dict[str, Events] = {}

    def of(self, reported: Report | None) -> Events:
        """Return the events whose artifact a report names, none where it names none."""
        given = (reported or {}).get("events")
        if not given:
            return []
        artifact = Artifact.from_dict(given)
        if artifact.digest not in self._read:
            with tempfile.TemporaryDirectory() as scratch:
                self._store.fetch(artifact, to=Path(scratch) / "events.jsonl")
                self._read[artifact.digest] = read_events(Path(scratch))
        return self._read[artifact.digest]

    def json(self, given: Mapping[str, Any] | None) -> Any:
        """Return what a stored JSON document says; None where there is none."""
        if not given:
            return None
        with tempfile.TemporaryDirectory() as scratch:
            path = self._store.fetch(Artifact.from_dict(given), to=Path(scratch) / "document")
            return json.loads(path.read_text())


def stage_records(
    *, training: Sequence[Report], selected: Report, archive: Report, events: Callable[[Report | None], Events]
) -> tuple[StageRecord, ...]:
    """Return the stages of training, skipped ones too, and after them evaluating and freezing where they told a cost.

    A stage of training that is called like one of those two keeps the name to itself.
    """
    found = [_stage(stage["stage"], stage, events) for stage in training]
    names = {stage.name for stage in found}
    for name, report in (("evaluate", selected.get("cost")), ("freeze", archive.get("cost"))):
        if report and name not in names:
            found.append(_stage(name, report, events))
    return tuple(found)


def _stage(name: str, report: Report, events: Callable[[Report | None], Events]) -> StageRecord:
    seconds, count = report.get("seconds"), report.get("gpu")
    return StageRecord(
        name=name,
        backend=report.get("backend"),
        seed=report.get("seed"),
        skipped=bool(report.get("skipped")),
        seconds=seconds,
        cpu_seconds=report.get("cpu_seconds"),
        gpu_seconds=None if seconds is None or count is None else seconds * count,
        peak_memory_bytes=report.get("peak_memory_bytes"),
        environment=_environment(events(report), image=report.get("image_digest")),
    )


def _environment(events: Events, *, image: str | None) -> EnvironmentRecord | None:
    """Return what the last try ran in."""
    told = [event for event in events if event["kind"] == "environment" and isinstance(event.get("packages"), Mapping)]
    if not told:
        return None
    texts = {key: str(told[-1].get(key) or "") for key in ("python", "platform")}
    known = {**texts, "packages": told[-1]["packages"], "image": told[-1].get("image")}
    return EnvironmentRecord(**with_image(known, image))


def figure_records(
    *,
    training: Sequence[Report],
    selected: Report,
    events: Callable[[Report | None], Events],
    warn: Callable[[str], None],
) -> tuple[FigureRecord, ...]:
    """Return the charts that training drew, and those of the chosen checkpoint's evaluation.

    Of two with the same name of one stage or evaluation the later counts: a try that goes on draws it again.

    :param warn: gets a line where there are more than are kept
    """
    found: dict[tuple[str | None, str | None, str], FigureRecord] = {}
    chosen, stage = selected["checkpoint"]["id"], selected["checkpoint"].get("stage")
    drawn = [(one["stage"], None, event) for one in training for event in _of(events(one), "figure")]
    drawn += [(stage, chosen, event) for event in _of(evaluation_events(selected, events), "figure")]
    for of_stage, checkpoint, event in drawn:
        if isinstance(data := event.get("data"), Mapping):
            name = str(event.get("name"))
            figure = FigureRecord(
                name=name, kind=str(event.get("chart")), data=data, stage=of_stage, checkpoint=checkpoint
            )
            found[of_stage, checkpoint, name] = figure
    figures = tuple(found.values())
    if len(figures) > MOST_FIGURES:
        first = figures[MOST_FIGURES]
        warn(
            f"the run drew {len(figures):,} charts, {MOST_FIGURES} of a run are kept: {first.name!r} of "
            f"{first.checkpoint or first.stage} and those after it are left out"
        )
    return figures[:MOST_FIGURES]


def importance_records(
    *, training: Sequence[Report], selected: Report, events: Callable[[Report | None], Events]
) -> tuple[ImportanceRecord, ...]:
    """Return how much each feature matters to the chosen checkpoint: by its evaluation, else by its own training."""
    chosen = selected["checkpoint"]["id"]
    own = [stage for stage in training if stage["stage"] == selected["checkpoint"].get("stage")]
    told = _of(evaluation_events(selected, events), "importance")
    told = told or [event for stage in own for event in _of(events(stage), "importance")]
    found = {}
    for event in told:
        for one in event.get("values") or ():
            found[one["feature"]] = ImportanceRecord(
                checkpoint=chosen,
                feature=one["feature"],
                importance=_number(one.get("importance")),
                deviation=_number(one.get("deviation")),
                metric=str(event.get("metric") or ""),
            )
    return tuple(found.values())


def evaluation_events(selected: Report, events: Callable[[Report | None], Events]) -> Events:
    """Return what was reported while the chosen checkpoint was evaluated."""
    report = selected.get("report")
    return [event for event in events(report) if event.get("input") == report["input"]] if report else []


def architecture_record(document: Mapping[str, Any] | None) -> ArchitectureRecord | None:
    """Return what a version has learned, by the archive's ``outputs/model.yml``."""
    if document is None:
        return None
    tensors = [
        {
            **{key: value for key, value in tensor.items() if key not in ("dtype", "file")},
            "datatype": DATATYPES.get(tensor["dtype"], tensor["dtype"]),
        }
        for tensor in document["tensors"]
    ]
    return ArchitectureRecord(parameters=document["parameters"], layers=document["layers"], tensors=tensors)


def _of(events: Events, kind: str) -> list[Mapping[str, Any]]:
    return [event for event in events if event["kind"] == kind]


def _number(value: Any) -> float | None:
    """Return a number; NaN is none, since not every database keeps it."""
    number = math.nan if value is None else float(value)
    return None if math.isnan(number) else number
