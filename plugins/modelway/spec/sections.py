"""The sections of ``model.yaml``: one frozen class each, named and keyed like the YAML."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from modelway.fields.allowed import check_notifier
from modelway.fields.refusal import Refusal, shown
from modelway.fields.section import Section
from modelway.fields.values import Duration, ImagePath, Size, Text
from modelway.spec.fields import (
    AnyGateText,
    Backend,
    BaseImage,
    Builder,
    Command,
    GateText,
    Name,
    Repository,
    Target,
)
from modelway.spec.gates import VersionGate
from modelway.spec.places import GpuType
from modelway.spec.references import Alias, Argument, Asset, Digest, ImportPath, Metric, Tag, VersionReference
from modelway.spec.registry import platform_of, with_sections_of
from modelway.spec.rollout import AnalysisSection, MinimumRequests, Steps
from modelway.spec.run_params import Choices, Number, ParamName, Scalar, check_param
from modelway.spec.serving import ServingSection, StickySection
from modelway.spec.times import Cron, Day, Timezone

Params = Mapping[str, Any]
S = TypeVar("S", bound=Section)

MOST_STAGES = 50
NAME_REPEATED = "an earlier stage has the same name"


class Resources(Section):
    """Resources of a job; without a key there is no limit (for ``gpu``: no GPU)."""

    cpu: float | None = Field(default=None, gt=0, le=1024, description="CPU cores; 0.5 is half of one")
    memory_bytes: Size | None = Field(default=None, alias="memory", description="Memory, such as 2Gi")
    disk_bytes: Size | None = Field(default=None, alias="disk", description="Scratch space on the node, such as 20Gi")
    gpu: int = Field(default=0, ge=0, le=64, description="Number of GPUs of each node")
    gpu_type: GpuType = Field(
        default="nvidia.com/gpu", description="The vendor's key of a GPU on Kubernetes, such as amd.com/gpu"
    )


class StageSection(Section):
    """One stage of training; it starts from the last checkpoint of the stage before it."""

    name: Name = Field(description="The stage's name, once per model")
    params: Params = Field(default_factory=dict, description="Given to the model's code, over train.params")
    command: Command | None = Field(default=None, description="Run in place of the function train(job)")
    timeout_seconds: Duration | None = Field(default=None, alias="timeout", description="Default: train.timeout")
    resources: Resources | None = Field(default=None, description="Default: train.resources as a whole")
    nodes: int | None = Field(default=None, ge=1, le=1024, description="Default: train.nodes")
    processes_per_node: int | None = Field(default=None, ge=1, le=64, description="Default: train.processes_per_node")


def repeated(names: Sequence[object]) -> int | None:
    """Return the index of the first name that repeats an earlier one."""
    return next((index for index, name in enumerate(names) if name in names[:index]), None)


def _stages(stages: tuple[StageSection, ...]) -> tuple[StageSection, ...]:
    if not stages:
        raise Refusal("must not be empty")
    if len(stages) > MOST_STAGES:
        raise Refusal(f"has more than {MOST_STAGES} stages")
    index = repeated([stage.name for stage in stages])
    if index is not None:
        raise Refusal(NAME_REPEATED, at=(index, "name"))
    return stages


Stages = Annotated[tuple[StageSection, ...], Field(strict=False), AfterValidator(_stages)]


class TrainSection(Section):
    """How the model is trained."""

    backend: Backend = Field(default="local", description="Where the jobs run")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of every random generator")
    base: VersionReference | None = Field(
        default=None, description="The version, or alias, that the first stage starts from"
    )
    params: Params = Field(default_factory=dict, description="Given to the model's code in every stage")
    resources: Resources = Field(default_factory=Resources, description="What each stage may use")
    timeout_seconds: Duration | None = Field(default=None, alias="timeout", description="Longest time of one stage")
    image: Text | None = Field(
        default=None, max_length=500, description="Image of the jobs' containers; default: MODELWAY_JOB_IMAGE"
    )
    nodes: int = Field(default=1, ge=1, le=1024, description="Machines that train one stage together (torchrun)")
    processes_per_node: int = Field(default=1, ge=1, le=64, description="Processes of each node, one per GPU as a rule")
    stages: Stages = Field(
        default=(StageSection(name="train"),), description="Run in this order, each from the one before"
    )


def _per_job(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1024):
        return value
    raise Refusal(f"{shown(value)} is not a number of checkpoints", do="Write auto, or a whole number from 1 to 1024")


PerJob = Annotated[
    int | Literal["auto"],
    BeforeValidator(_per_job),
    WithJsonSchema({"anyOf": [{"enum": ["auto"]}, {"type": "integer", "minimum": 1, "maximum": 1024}]}),
]


class EvaluateSection(Section):
    """How every checkpoint is evaluated."""

    parallel: int = Field(default=4, ge=1, le=1000, description="Evaluation jobs at the same time")
    per_job: PerJob = Field(default="auto", description="Checkpoints that one job evaluates, see evaluation.md")
    backend: Backend | None = Field(default=None, description="Default: train.backend")
    params: Params = Field(default_factory=dict, description="Given to the model's code, over train.params")
    command: Command | None = Field(default=None, description="Run in place of evaluate(job, checkpoint)")
    timeout_seconds: Duration | None = Field(
        default=None,
        alias="timeout",
        description="Longest time of one checkpoint; a job has as much for each of its own",
    )
    resources: Resources = Field(default_factory=Resources, description="What each job may use")
    image: Text | None = Field(default=None, max_length=500, description="Default: train.image")


class KeepSection(Section):
    """What stays of a run besides its version, once that is registered; ``modelway gc`` follows the same rule.

    The selected checkpoint, and so what ``reuse`` and ``train.base`` need, always stays, and a run that is not over
    keeps everything, so that it can be resumed.
    """

    checkpoints: int = Field(
        default=0, ge=0, le=100_000, description="How many of the newest checkpoints that were not selected stay"
    )
    time_seconds: Duration | None = Field(
        default=None, alias="time", description="How long all of them stay in any case, and the folders of the jobs"
    )
    size_bytes: Size | None = Field(
        default=None, alias="size", description="How large those that stay may be together, the newest first"
    )


class SelectSection(Section):
    """Which checkpoint becomes the version."""

    metric: Metric = Field(default="loss", description="A metric that evaluate returns")
    mode: Literal["min", "max"] = Field(default="min", description="Whether less or more is better")
    constraints: Mapping[Metric, GateText] = Field(
        default_factory=dict,
        description='Metric to limit, such as ">= 0.9": what a checkpoint must reach to be selected',
    )


class FreezeSection(Section):
    """The form in which the model is served."""

    format: Literal["onnx", "torch_export", "files"] = Field(
        default="onnx", description="The frozen model's format, see freezing.md"
    )
    command: Command | None = Field(default=None, description="Run in place of export(job, checkpoint)")


class Tolerance(Section):
    """How far the frozen model's outputs may differ from the checkpoint's: ``absolute + relative * |expected|``."""

    absolute: float = Field(default=1e-4, ge=0, description="Largest absolute difference")
    relative: float = Field(default=1e-3, ge=0, description="Largest difference relative to the expected value")


class VerifySection(Section):
    """What the frozen model must pass before it is registered."""

    tolerance: Tolerance = Field(default_factory=Tolerance, description="Frozen model against checkpoint")
    gates: Mapping[Metric, AnyGateText] = Field(
        default_factory=dict,
        description='Metric to limit, such as ">= 0.9", or ">= champion - 0.005" to compare with another version',
    )

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions that gates compare with, each once."""
        compared = (gate.version for gate in self.gates.values() if isinstance(gate, VersionGate))
        return tuple(dict.fromkeys(compared))


@with_sections_of("builders")
class ImageSection(Section):
    """The image of a model version; each builder may have a section of its own."""

    builder: Builder = Field(default="oci", description="How the image is made")
    base: BaseImage = Field(
        default="scratch", description="The image below the model's layers by its digest, scratch, or server"
    )
    repository: Repository | None = Field(
        default=None, description="Where to push; default: stored on this machine only"
    )
    path: ImagePath = Field(default="/models", description="The model's folder in the image")
    tag: Tag = Field(default="v{version}", description="The image's tag; {version} stands for the version's number")
    backend: Backend | None = Field(
        default=None, description="Where the job runs that pushes it; local: in the task; default: evaluate.backend"
    )
    resources: Resources = Field(default_factory=Resources, description="What that job may use")

    def platform(self) -> dict[str, Any]:
        """Return the settings of the builder only: the section with its name, as plain data."""
        return platform_of(self, self.builder)


@with_sections_of("endpoints")
class EnvironmentSection(ServingSection):
    """How versions are served in one environment; what is left out is as in the endpoint's own section."""

    target: Target = Field(default="local", description="What runs the predictors")

    def platform(self) -> dict[str, Any]:
        """Return the settings of the target only: the section with its name, as plain data."""
        return platform_of(self, self.target)


class EndpointSection(EnvironmentSection):
    """Where versions are served; each target may have a section of its own."""

    environments: Mapping[Name, EnvironmentSection] = Field(
        default_factory=dict,
        max_length=10,
        description="Endpoints by name, such as dev and prod, each with the keys above that differ; runs deploy to the "
        "first, modelway release to the others",
    )

    @model_validator(mode="after")
    def _inherit(self) -> Self:
        """Fill in what the environments leave out; done again, it changes nothing."""
        own = {name: getattr(self, name) for name in EnvironmentSection.model_fields}
        base = EnvironmentSection.model_construct(**own)
        self.__dict__["environments"] = {name: _over(base, each) for name, each in self.environments.items()}
        return self


def _over(base: S, above: S) -> S:
    """Return a section with the values that are set above it."""
    news = {name: getattr(above, name) for name in above.model_fields_set}
    for name, value in news.items():
        # its keys exclude each other
        if isinstance(value, StickySection):
            continue
        if isinstance(value, Section) and isinstance(below := getattr(base, name), type(value)):
            news[name] = _over(below, value)
    return base.model_copy(update=news)


class AcceptanceSection(Section):
    """Tests of the model's own against a version behind its endpoint, before it gets traffic; one job."""

    backend: Backend | None = Field(default=None, description="Default: train.backend")
    params: Params = Field(default_factory=dict, description="Given to the model's code, over train.params")
    command: Command | None = Field(default=None, description="Run in place of accept(job, served)")
    timeout_seconds: Duration | None = Field(default=None, alias="timeout", description="Longest time of the job")
    resources: Resources = Field(default_factory=Resources, description="What the job may use")
    image: Text | None = Field(default=None, max_length=500, description="Default: train.image")


class RolloutSection(Section):
    """How traffic moves to a new version."""

    steps: Steps = Field(default=(100,), description="Percent of traffic, rising to 100, or {weight, hold, requests}")
    interval_seconds: Duration = Field(default=10, alias="interval", description="Least time that a step takes")
    minimum_requests: MinimumRequests = Field(
        default=100, description="Least requests to the version in a step below 100 %; 0: none are needed"
    )
    analysis: AnalysisSection = Field(default_factory=AnalysisSection, description="How the version is judged")
    alias: Alias = Field(default="champion", description="Moves to the version at 100 %")
    acceptance: AcceptanceSection | None = Field(
        default=None, description="Tests of the model's own before the version gets traffic; {} for accept(job, served)"
    )
    mode: Literal["canary", "ab"] = Field(
        default="canary",
        description="ab: the split of the first of two steps stays as it is, then a version is chosen",
    )
    approval: bool = Field(
        default=False, description="Whether a person approves in Airflow before the version gets 100 %"
    )
    when_busy: Literal["wait", "replace", "refuse"] = Field(
        default="wait", description="What a run does while another one rolls a version out at the same endpoint"
    )
    when_worse: Literal["refuse", "register"] | None = Field(
        default=None,
        description="Whether a version that misses a gate which compares with another one is registered, without a "
        "rollout; default: refuse, and register where monitor has rules",
    )
    allow_signature_change: bool = Field(
        default=False, description="Whether inputs and outputs may differ from those of the version that serves"
    )


def _long_param(value: Any) -> Any:
    """Read ``epochs: 4`` as ``epochs: {default: 4}``."""
    return value if isinstance(value, dict | ParamSection) else {"default": value}


class ParamSection(Section):
    """A parameter of a run: a field of the trigger form, with the type of its default, and bounds."""

    default: Scalar = Field(description="Value in a run that sets none; also determines the type")
    minimum: Number | None = Field(default=None, description="Least value of a number")
    maximum: Number | None = Field(default=None, description="Greatest value of a number")
    choices: Choices | None = Field(default=None, description="The values to choose from")
    description: str = Field(default="", max_length=500, description="Shown in the form")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_param(self.default, minimum=self.minimum, maximum=self.maximum, choices=self.choices)
        return self


RunParams = Mapping[ParamName, Annotated[ParamSection, BeforeValidator(_long_param)]]


def _long_dataset(value: Any) -> Any:
    """Read ``images: URI`` as ``images: {uri: URI}``."""
    return value if isinstance(value, dict | DatasetSection) else {"uri": value}


class DatasetSection(Section):
    """A data set that training reads; its digest goes into the record, and a pinned one is checked before training."""

    uri: Text = Field(
        description="Path or URI; may contain {{ data_interval_start }}, {{ data_interval_end }}, {{ partition }} "
        "and {{ params.<name> }}"
    )
    digest: Digest | None = Field(default=None, description="sha256:<hex> that its content must have")
    version: Text | None = Field(
        default=None, description="Its owners' name for this state of the data; may contain templates"
    )


Datasets = Mapping[Name, Annotated[DatasetSection, BeforeValidator(_long_dataset)]]


def _long_schedule(value: Any) -> Any:
    """Read ``schedule: "@daily"`` as ``schedule: {cron: "@daily"}``."""
    return value if isinstance(value, dict | ScheduleSection) else {"cron": value}


class ScheduleSection(Section):
    """When the model is trained automatically; each scheduled run has its own data interval."""

    cron: Cron | None = Field(default=None, description='Cron expression, such as "0 3 * * *", or @daily')
    timezone: Timezone = Field(default="UTC", description="Time zone of the cron expression, such as Europe/Berlin")
    start: Day | None = Field(default=None, description="First day, such as 2026-01-31; runs before it are backfills")
    catchup: bool = Field(default=False, description="Run every interval since start that has no run yet")
    assets: Annotated[tuple[Asset, ...], Field(strict=False, max_length=100)] = Field(
        default=(), description="URIs of assets; an event of one starts a run, too"
    )
    backfill: bool | None = Field(default=None, description="Whether past intervals may be run; default: with a cron")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.cron is None and not self.assets:
            raise Refusal("a schedule needs cron or assets", do="Write one of them, or leave schedule out")
        if self.backfill and self.cron is None:
            raise Refusal("without a cron there are no intervals to backfill", at=("backfill",), do="Add schedule.cron")
        if self.catchup and (self.cron is None or self.start is None):
            missing = "cron" if self.cron is None else "start"
            what = f"without {missing} it is not known what to catch up"
            raise Refusal(what, at=("catchup",), do=f"Add schedule.{missing}")
        index = repeated(self.assets)
        if index is not None:
            raise Refusal("the asset is in the list already", at=("assets", index))
        return self


Schedule = Annotated[ScheduleSection, BeforeValidator(_long_schedule)]


class RegisterSection(Section):
    """How the version is recorded."""

    alias: Alias = Field(default="candidate", description="Moves to the version when it is registered")


class NotifierSection(Section):
    """One notifier of Airflow: a class by its import path, and its arguments."""

    notifier: Annotated[ImportPath, AfterValidator(check_notifier)] = Field(
        description="Import path, such as airflow.providers.smtp.notifications.smtp.SmtpNotifier; "
        "the deployment lists the allowed ones in MODELWAY_NOTIFIERS"
    )
    args: Mapping[Argument, Any] = Field(
        default_factory=dict, description="Its keyword arguments; texts may contain Airflow templates"
    )


Notifiers = Annotated[tuple[NotifierSection, ...], Field(strict=False, max_length=20)]


class NotificationsSection(Section):
    """Which notifiers are called, and when."""

    on_failure: Notifiers = Field(default=(), description="When a run failed")
    on_success: Notifiers = Field(default=(), description="When a run succeeded")
    on_deadline: Notifiers = Field(default=(), description="When a run is not done within the deadline")
    on_retraining: Notifiers = Field(default=(), description="When a rule of monitor requests a retraining")
