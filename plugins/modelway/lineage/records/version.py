"""The records that go into the lineage and come out of it: frozen dataclasses, standard library only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

RolloutState = str
#: the states of a rollout: it runs, every step was done, or traffic went back to the stable version
ROLLOUT_STATES: tuple[RolloutState, ...] = ("running", "done", "aborted")


@dataclass(frozen=True, kw_only=True)
class DatasetRecord:
    """A data set that a stage of a run was configured with or read; ``digest`` is None where its content is unknown."""

    stage: str
    name: str
    uri: str
    digest: str | None = None
    version: str | None = None
    rows: int | None = None
    schema: Mapping[str, str] | None = None
    """The type of each column, by the column's name."""
    statistics: Mapping[str, Mapping[str, Any]] | None = None
    """What the values of each column are like, by the column's name: ``modelway.job.figures.statistics``."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentRecord:
    """What a stage ran in; two with the same digest are the same."""

    digest: str
    python: str
    platform: str
    packages: Mapping[str, str]
    """The version of each installed package, by its name."""
    image: str | None = None
    """The container's image; where its digest is known, ``reference@sha256:…``."""


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """A stage of a run and its cost; None: not known."""

    name: str
    backend: str | None = None
    seed: int | None = None
    skipped: bool = False
    seconds: float | None = None
    cpu_seconds: float | None = None
    gpu_seconds: float | None = None
    """Seconds times GPUs."""
    peak_memory_bytes: int | None = None
    environment: EnvironmentRecord | None = None


@dataclass(frozen=True, kw_only=True)
class FigureRecord:
    """A chart: ``data`` is what its ``kind`` draws, see ``modelway.job.figures.charts``."""

    name: str
    kind: str
    data: Mapping[str, Any]
    stage: str | None = None
    checkpoint: str | None = None
    """The checkpoint whose evaluation drew it."""


@dataclass(frozen=True, kw_only=True)
class ImportanceRecord:
    """By how much a metric of a checkpoint gets worse when the values of one feature are shuffled."""

    checkpoint: str
    feature: str
    importance: float | None
    deviation: float | None = None
    """The standard deviation over the repetitions."""
    metric: str = ""


@dataclass(frozen=True, kw_only=True)
class ArchitectureRecord:
    """What a version has learned: ``{name, type}`` of its layers, ``{name, shape, datatype, count, norm, …}`` of its
    tensors, and how many parameters it has.
    """

    parameters: int
    layers: Sequence[Mapping[str, Any]]
    tensors: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class CandidateRecord:
    """One of the trainings of a sweep, and what became of it."""

    name: str
    params: Mapping[str, Any]
    """Those of its own."""
    state: str
    """selected, trained, dropped (another one was better after a stage), stopped (it ended early) or failed."""
    stage: str | None = None
    """The last stage that it was to train."""
    reason: str = ""
    """Why it was stopped, or failed."""
    checkpoint: str | None = None
    """The best of its checkpoints."""
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    """Of that checkpoint; NaN and infinity are recorded."""
    seconds: float | None = None
    cpu_seconds: float | None = None
    gpu_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One DAG run that trained a model. Times are aware; ``seed`` and the code's origin may be unknown."""

    dag_id: str
    run_id: str
    actor: str = "airflow"
    run_type: str = "manual"
    started_at: datetime | None = None
    code_digest: str | None = None
    code_uri: str | None = None
    """Where the code package is; written as an asset, not read back."""
    code_size: int | None = None
    commit: str | None = None
    branch: str | None = None
    dirty: bool | None = None
    """Whether the working tree differed from ``commit``; None: unknown."""
    diff_digest: str | None = None
    """Of what differed."""
    repository: str | None = None
    """Where the commit can be fetched from; without credentials."""
    spec: Mapping[str, Any] = field(default_factory=dict)
    """The model spec that the run used."""
    seed: int | None = None
    inputs_digest: str | None = None
    """The same for two runs with the same code, data, parameters, seed and base; None: unknown."""
    interval_start: datetime | None = None
    interval_end: datetime | None = None
    partition: str | None = None
    run_after: datetime | None = None
    """When the run was to begin; unlike ``started_at`` the same when it is cleared."""
    reason: str | None = None
    """Why the run was started, as the person who started it wrote."""
    seconds: float | None = None
    """How long its training jobs ran, all stages together."""
    gpu_seconds: float | None = None
    datasets: tuple[DatasetRecord, ...] = ()
    stages: tuple[StageRecord, ...] = ()
    """In the order in which they ran."""
    figures: tuple[FigureRecord, ...] = ()
    importances: tuple[ImportanceRecord, ...] = ()
    candidates: tuple[CandidateRecord, ...] = ()
    """Of a sweep, in the order in which they were drawn; ``seconds`` are those of all of them."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord:
    """What the evaluation of one checkpoint found; NaN and infinity are recorded, None means no value."""

    checkpoint: str
    metrics: Mapping[str, float | None]
    digest: str | None = None
    stage: str | None = None
    step: int | None = None
    note: str = ""
    """Why there are no metrics, for an evaluation that failed."""
    seconds: float | None = None
    """How long it took, without the start of its job."""
    startup_seconds: float | None = None
    """How long its job took besides evaluating."""


@dataclass(frozen=True, kw_only=True)
class MetricPoint:
    """One value that training logged."""

    stage: str
    name: str
    step: int
    value: float


@dataclass(frozen=True, kw_only=True)
class MetricSeries:
    """All values of one metric of one stage, by rising step."""

    stage: str
    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """A file of a version: its path within the version, its digest (``sha256:<hex>``), bytes, and what it is for."""

    path: str
    digest: str
    size: int
    role: str = ""


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """An image made of a version."""

    builder: str
    digest: str
    reference: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class VersionRecord:
    """Everything that registering a version writes; params by stage, digests ``sha256:<hex>``, sizes in bytes."""

    model: str
    run: RunRecord
    archive_uri: str
    archive_digest: str
    archive_size: int
    model_digest: str
    checkpoint: str
    checkpoint_digest: str
    description: str = ""
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    """The chosen checkpoint's evaluation metrics."""
    evaluations: Sequence[EvaluationRecord] = ()
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    points: Sequence[MetricPoint] = ()
    files: Sequence[FileRecord] = ()
    checkpoint_uri: str | None = None
    architecture: ArchitectureRecord | None = None
    base: int | None = None
    """The number of the version that training began from."""
    alias: str | None = None
    """Points at the version as soon as it exists."""
    verification: Mapping[str, Any] | None = None
    """On what the frozen model was compared with its checkpoint: what VerifyModelOperator returned."""


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """A model as far as somebody may read it: its newest version's number, how many there are, and its aliases."""

    name: str
    description: str
    created_at: datetime
    latest: int
    count: int
    dags: tuple[str, ...]
    """The ids of the DAGs whose runs made the versions."""
    aliases: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class VersionSummary:
    """One row of a list of versions. ``weights`` are the current percentages by endpoint, zero included."""

    model: str
    number: int
    description: str
    created_at: datetime
    created_by: str
    dag_id: str
    run_id: str
    archive_uri: str
    archive_digest: str
    archive_size: int
    model_digest: str
    checkpoint: str
    checkpoint_digest: str
    checkpoint_uri: str | None
    metrics: Mapping[str, float | None]
    aliases: tuple[str, ...]
    image: ImageRecord | None
    weights: Mapping[str, int]
    verification: Mapping[str, Any] | None = None
    """On what the frozen model was compared with its checkpoint; None: not known."""


@dataclass(frozen=True, kw_only=True)
class AliasChange:
    """An alias was pointed at a version; ``version`` is None when it was removed."""

    alias: str
    version: int | None
    at: datetime
    actor: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class WeightChange:
    """A version's share of an endpoint's traffic became ``weight`` per cent."""

    endpoint: str
    model: str
    version: int
    weight: int
    at: datetime
    actor: str
    run_id: str | None


@dataclass(frozen=True, kw_only=True)
class Event:
    """A line of the append-only log."""

    at: datetime
    actor: str
    kind: str
    model: str | None
    version: int | None
    run_id: str | None
    detail: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class VersionNote:
    """What people wrote about a version after it was registered; each change is an event that stays."""

    description: str
    tags: tuple[str, ...]
    at: datetime
    actor: str


@dataclass(frozen=True, kw_only=True)
class VersionDetail:
    """The whole record of a version; histories and events are newest first."""

    summary: VersionSummary
    run: RunRecord
    params: Mapping[str, Mapping[str, Any]]
    evaluations: tuple[EvaluationRecord, ...]
    series: tuple[MetricSeries, ...]
    files: tuple[FileRecord, ...]
    images: tuple[ImageRecord, ...]
    architecture: ArchitectureRecord | None
    base: int | None
    """The number of the version that training began from."""
    alias_history: tuple[AliasChange, ...]
    weight_history: tuple[WeightChange, ...]
    events: tuple[Event, ...]
    rollouts: "tuple[RolloutRecord, ...]" = ()
    """The rollouts that brought it to traffic, or did not; newest first."""
    note: VersionNote | None = None
    """Its description and tags as somebody wrote them last; None: as registered."""

    @property
    def description(self) -> str:
        """The description as it is now."""
        return self.summary.description if self.note is None else self.note.description


@dataclass(frozen=True, kw_only=True)
class FailureRecord:
    """One failed attempt of a task."""

    model: str
    dag_id: str
    run_id: str
    key: str
    """What failed within the run: the task's id and, for a mapped task, what it worked on."""
    attempt: int
    """The number of the attempt (Airflow's try number)."""
    cause: str
    at: datetime
    kind: str | None = None
    """Of ``modelway.failures.FailureKind``; None: no job failed, but the task itself."""
    stage: str | None = None
    job: str | None = None
    """The job's name on its backend."""
    advice: str = ""
    rule: str = "fail"
    last_lines: tuple[str, ...] = ()
    tried_again: bool = False
    """Whether the task had an attempt left and was retried."""
    resolved_by: int | None = None
    """The later attempt that succeeded."""


@dataclass(frozen=True, kw_only=True)
class RunAccount:
    """What the lineage knows of how a run went; failures are oldest first."""

    model: str
    dag_id: str
    run_id: str
    version: int | None
    """The version that it made or reused."""
    failures: tuple[FailureRecord, ...]
    evaluations: tuple[EvaluationRecord, ...]
    """Those with a record, such as of a failure."""


@dataclass(frozen=True, kw_only=True)
class TrainingCost:
    """The mean cost of training over the runs with a record: ``gpu_seconds`` are seconds times GPUs."""

    runs: int
    seconds: float
    gpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class RolloutRecord:
    """How far a run has rolled a version out: ``step`` is the index of the last step done, -1 before the first.

    ``run_id`` is the run's key: ``<DAG id>/<run id>``.
    """

    endpoint: str
    run_id: str
    model: str
    version: int
    state: RolloutState
    step: int = -1
    detail: Mapping[str, Any] = field(default_factory=dict)
    updated_at: datetime | None = field(default=None, compare=False)
    """When it was written last; set by reading it."""
