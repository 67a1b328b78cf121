"""Records of what the jobs of a run reported: stages, environments, charts, importances, architecture."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modelway.artifacts.store import Artifact
from modelway.job.environment import with_image
from modelway.job.freezing.outputs import DATATYPES
from modelway.lineage.records.version import (
    ArchitectureRecord,
    EnvironmentRecord,
    FigureRecord,
    ImportanceRecord,
    StageRecord,
)
from modelway.runs.messages.checkpoints import JobCost, StageReport
from modelway.runs.messages.evaluation import Selection
from modelway.runs.messages.version import FrozenModel
from modelway.runs.reported import Events

#: reads the events of a job
ReadEvents = Callable[[Artifact | None], Events]

#: charts of a run, all its stages together: a page shows them all
MOST_FIGURES = 500


def stage_records(
    *, training: Sequence[StageReport], selected: Selection, frozen: FrozenModel, events: ReadEvents
) -> tuple[StageRecord, ...]:
    """Return the stages of training, skipped ones too, then evaluating and freezing where their cost is known.

    A stage of training with the name of one of those two takes precedence.
    """
    found = [
        _stage(stage.stage, stage, seed=stage.seed, skipped=stage.skipped, events=events(stage.events))
        for stage in training
    ]
    names = {stage.name for stage in found}
    if selected.cost and "evaluate" not in names:
        found.append(_stage("evaluate", selected.cost, seed=None, events=()))
    if (cost := frozen.cost) and "freeze" not in names:
        found.append(_stage("freeze", cost, seed=cost.seed, events=events(cost.events)))
    return tuple(found)


def _stage(name: str, cost: JobCost, *, seed: int | None, skipped: bool = False, events: Events) -> StageRecord:
    return StageRecord(
        name=name,
        backend=cost.backend,
        seed=seed,
        skipped=skipped,
        seconds=cost.seconds,
        cpu_seconds=cost.cpu_seconds,
        gpu_seconds=None if cost.seconds is None or cost.gpu is None else cost.seconds * cost.gpu,
        peak_memory_bytes=cost.peak_memory_bytes,
        environment=_environment(events, image=cost.image_digest),
    )


def _environment(events: Events, *, image: str | None) -> EnvironmentRecord | None:
    """Return the environment of the last attempt."""
    found = [event for event in _of(events, "environment") if isinstance(event.get("packages"), Mapping)]
    if not found:
        return None
    texts = {key: str(found[-1].get(key) or "") for key in ("python", "platform")}
    known = {**texts, "packages": found[-1]["packages"], "image": found[-1].get("image")}
    return EnvironmentRecord(**with_image(known, image))


def figure_records(
    *,
    training: Sequence[StageReport],
    selected: Selection,
    events: ReadEvents,
    warn: Callable[[str], None],
) -> tuple[FigureRecord, ...]:
    """Return the charts of training, and those of the selected checkpoint's evaluation.

    Of two with the same name in one stage or evaluation the later counts: a resumed attempt draws it again.

    :param warn: called with a message where there are more charts than are stored
    """
    found: dict[tuple[str | None, str | None, str], FigureRecord] = {}
    chosen, stage = selected.checkpoint.id, selected.checkpoint.stage
    drawn: list[tuple[str | None, str | None, Mapping[str, Any]]] = []
    drawn += [(one.stage, None, event) for one in training for event in _of(events(one.events), "figure")]
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
            f"the run drew {len(figures):,} charts, {MOST_FIGURES} of a run are stored: {first.name!r} of "
            f"{first.checkpoint or first.stage} and those after it are left out"
        )
    return figures[:MOST_FIGURES]


def importance_records(
    *, training: Sequence[StageReport], selected: Selection, events: ReadEvents
) -> tuple[ImportanceRecord, ...]:
    """Return the importance of each feature to the selected checkpoint: by its evaluation, else by its training."""
    chosen = selected.checkpoint.id
    own = [stage for stage in training if stage.stage == selected.checkpoint.stage]
    reported = _of(evaluation_events(selected, events), "importance")
    reported = reported or [event for stage in own for event in _of(events(stage.events), "importance")]
    found = {}
    for event in reported:
        for one in event.get("values") or ():
            found[one["feature"]] = ImportanceRecord(
                checkpoint=chosen,
                feature=one["feature"],
                importance=_number(one.get("importance")),
                deviation=_number(one.get("deviation")),
                metric=str(event.get("metric") or ""),
            )
    return tuple(found.values())


def evaluation_events(selected: Selection, events: ReadEvents) -> Events:
    """Return the events of the selected checkpoint's evaluation."""
    report = selected.report
    return [event for event in events(report.events) if event.get("input") == report.input] if report else []


def architecture_record(document: Mapping[str, Any] | None) -> ArchitectureRecord | None:
    """Return the architecture of a version, by the archive's ``outputs/model.yml``."""
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
    """Return a number; None for NaN, since not every database stores it."""
    number = math.nan if value is None else float(value)
    return None if math.isnan(number) else number
