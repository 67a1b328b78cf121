"""Evaluations of checkpoints, and the selection among them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelway.artifacts.store import Artifact
from modelway.runs.messages.checkpoints import Checkpoint, JobCost
from modelway.runs.messages.message import Message, flat, omitted


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """Where the charts and importances of an evaluation are."""

    events: Artifact
    """what its job reported"""
    input: str
    """the checkpoint's name among the inputs of that job"""


@dataclass(frozen=True, kw_only=True)
class Evaluation(Message):
    """What EvaluateCheckpointOperator returns for a checkpoint."""

    checkpoint: str
    """the checkpoint's id"""
    metrics: Mapping[str, float | None]
    """None stands for NaN and the infinities"""
    not_finite: Mapping[str, str] = field(default_factory=dict)
    """``nan``, ``inf`` or ``-inf`` by metric"""
    seconds: float | None = None
    startup_seconds: float | None = None
    """the time of its job besides evaluating"""
    cost: JobCost | None = omitted()
    """an equal part of its job's cost"""
    report: EvaluationReport | None = omitted()
    rows: Mapping[str, Artifact] | None = omitted()
    """the inputs that the evaluation recorded (``rows``) and what it answered (``scores``)"""
    row_metrics: Artifact | None = omitted()
    """each row's part in the metrics, see ``modelway.job.row_metrics``"""


@dataclass(frozen=True, kw_only=True)
class FailedEvaluation(Message):
    """What EvaluateCheckpointOperator returns for a checkpoint without metrics."""

    checkpoint: str
    error: str


def evaluations_from_xcom(data: Iterable[Any] | None) -> list[Evaluation | FailedEvaluation]:
    """Return the evaluations of all jobs, in order."""
    return [(FailedEvaluation if "error" in each else Evaluation).from_xcom(each) for each in flat(data)]


@dataclass(frozen=True, kw_only=True)
class ConsideredCheckpoint:
    """One checkpoint as a selection saw it."""

    checkpoint: str
    stage: str | None = None
    step: int | None = None
    digest: str | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    not_finite: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None
    startup_seconds: float | None = None
    left_out: str | None = omitted()
    """why it cannot be selected"""


@dataclass(frozen=True, kw_only=True)
class Selection(Message):
    """What SelectCheckpointOperator returns."""

    checkpoint: Checkpoint
    metrics: Mapping[str, float | None]
    metric: str | None = None
    """the metric that decided"""
    rule: str = ""
    evaluations: tuple[ConsideredCheckpoint, ...] = ()
    cost: JobCost | None = omitted()
    """of all evaluations together"""
    report: EvaluationReport | None = omitted()
    """of the selected checkpoint's evaluation"""
    rows: Mapping[str, Artifact] | None = omitted()
    """of the selected checkpoint's evaluation"""
    row_metrics: Artifact | None = omitted()
    """of the selected checkpoint's evaluation"""


@dataclass(frozen=True, kw_only=True)
class EvaluatedVersion(Message):
    """What EvaluateVersionOperator returns: how another version does on the data of this run."""

    reference: str
    """how a gate names it: an alias, ``v3`` or ``latest``"""
    version: int | None = None
    """None where there is none to compare with"""
    reason: str = ""
    """why there is none"""
    evaluation: Evaluation | None = None


def evaluated_versions_from_xcom(data: Iterable[Any] | None) -> list[EvaluatedVersion]:
    """Return the evaluations of other versions, in order."""
    return [EvaluatedVersion.from_xcom(each) for each in flat(data)]
