"""The lineage's record of a run and of the version that it made, from the messages of its tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from modelway.job.contract import recorded_datasets
from modelway.lineage.records.version import (
    CandidateRecord,
    DatasetRecord,
    EvaluationRecord,
    FailureRecord,
    FileRecord,
    MetricPoint,
    RunRecord,
    VersionRecord,
)
from modelway.runs.facts import RunFacts
from modelway.runs.messages.candidates import CandidateResult, Sweep
from modelway.runs.messages.checkpoints import StageReport
from modelway.runs.messages.code import RunPlan
from modelway.runs.messages.evaluation import ConsideredCheckpoint, Selection
from modelway.runs.messages.version import FrozenModel, VerifiedModel
from modelway.runs.reported import StoredEvents
from modelway.runs.reported_records import architecture_record
from modelway.runs.sweep import failure_cause


def start_record(run: RunFacts, plan: RunPlan) -> RunRecord:
    """Return the record of a run that starts: who runs which code on which data, when and why."""
    return RunRecord(
        **vars(run),
        code_digest=plan.code.digest,
        **plan.code.commit.to_dict(),
        **_planned(plan),
        datasets=tuple(DatasetRecord(stage="", **dataset.to_dict()) for dataset in plan.datasets),
    )


def run_record(
    run: RunFacts,
    *,
    plan: RunPlan,
    training: Sequence[StageReport],
    spec: Mapping[str, Any],
    events: StoredEvents,
) -> RunRecord:
    """Return the record of a run that made a version: its start, and its cost.

    :param training: the stages that were not skipped
    """
    known = [(stage.seconds, stage.gpu or 0) for stage in training if stage.seconds is not None]
    return RunRecord(
        **vars(run),
        code_digest=plan.code.digest,
        code_uri=plan.code.uri,
        code_size=plan.code.size,
        **plan.code.commit.to_dict(),
        spec=spec,
        seed=training[0].seed if training else None,
        **_planned(plan),
        seconds=sum(seconds for seconds, _ in known) if known else None,
        gpu_seconds=sum(seconds * gpu for seconds, gpu in known) if known else None,
        datasets=tuple(dataset for stage in training for dataset in _datasets(events, stage)),
    )


def with_candidates(run: RunRecord, sweep: Sweep, *, failures: Sequence[FailureRecord] = ()) -> RunRecord:
    """Return the record of a run with the candidates that it trained; its cost is that of all of them.

    :param failures: those of the run, oldest first, among them why a candidate failed
    """
    found = tuple(
        CandidateRecord(
            name=each.id,
            params=each.params,
            state=each.state,
            stage=each.stage,
            reason=failure_cause(failures, candidate=each.id, stage=each.stage)
            if each.state == "failed"
            else each.reason,
            checkpoint=each.checkpoint,
            metrics=_metrics(each),
            seconds=each.seconds,
            cpu_seconds=each.cpu_seconds,
            gpu_seconds=each.gpu_seconds,
        )
        for each in sweep.candidates
    )
    seconds = [each.seconds for each in found if each.seconds is not None]
    gpu_seconds = [each.gpu_seconds for each in found if each.gpu_seconds is not None]
    return replace(
        run,
        candidates=found,
        seconds=sum(seconds) if seconds else None,
        gpu_seconds=sum(gpu_seconds) if gpu_seconds else None,
    )


def _metrics(found: CandidateResult | ConsideredCheckpoint) -> dict[str, float | None]:
    """Return metrics with those that are not finite, which a message has as text."""
    return {**found.metrics, **{name: float(text) for name, text in found.not_finite.items()}}


def _planned(plan: RunPlan) -> dict[str, Any]:
    return {
        "inputs_digest": plan.inputs,
        "interval_start": plan.interval.start if plan.interval else None,
        "interval_end": plan.interval.end if plan.interval else None,
        "partition": plan.partition,
        "reason": plan.reason,
    }


def version_record(
    *,
    run: RunRecord,
    plan: RunPlan,
    training: Sequence[StageReport],
    selected: Selection,
    frozen: FrozenModel,
    events: StoredEvents,
    alias: str | None,
    verified: VerifiedModel | None = None,
) -> VersionRecord:
    """Return the whole record of a version; the metrics of training are read from the stages' stored events."""
    return VersionRecord(
        model=plan.code.model,
        description=str(run.spec.get("description", "")),
        run=run,
        archive_uri=frozen.uri,
        archive_digest=frozen.digest,
        archive_size=frozen.size,
        model_digest=frozen.model_digest,
        checkpoint=selected.checkpoint.id,
        checkpoint_digest=selected.checkpoint.digest,
        checkpoint_uri=selected.checkpoint.uri,
        alias=alias,
        verification=verified.report if verified else None,
        base=plan.base.version if plan.base else None,
        architecture=architecture_record(events.json(frozen.description)),
        metrics=selected.metrics,
        evaluations=[
            EvaluationRecord(
                checkpoint=each.checkpoint,
                metrics=_metrics(each),
                note=each.left_out or "",
                digest=each.digest,
                stage=each.stage,
                step=each.step,
                seconds=each.seconds,
                startup_seconds=each.startup_seconds,
            )
            for each in selected.evaluations
        ],
        params={stage.stage: stage.params for stage in training},
        points=[point for stage in training for point in _points(events, stage)],
        files=[
            FileRecord(path=file.path, digest=f"sha256:{file.sha256}", size=file.size, role=file.role)
            for file in frozen.files
        ],
    )


def _datasets(events: StoredEvents, stage: StageReport) -> list[DatasetRecord]:
    """Return the data sets that a stage got or reported as read."""
    return [DatasetRecord(stage=stage.stage, **each) for each in recorded_datasets(events.of(stage.events))]


def _points(events: StoredEvents, stage: StageReport) -> list[MetricPoint]:
    """Return the metrics that a stage logged; of one logged again after a resume, the last value."""
    logged = [event for event in events.of(stage.events) if event["kind"] == "metric"]
    last = {(event["name"], event["step"]): float(event["value"]) for event in logged}
    return [MetricPoint(stage=stage.stage, name=name, step=step, value=value) for (name, step), value in last.items()]
