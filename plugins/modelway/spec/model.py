"""The model spec: one frozen class per section of ``model.yaml``, named and keyed like the YAML."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    model_validator,
)

from modelway.spec.fields import (
    Backend,
    BaseImage,
    Builder,
    CodeFile,
    Command,
    Duration,
    GateText,
    Host,
    ImagePath,
    Name,
    Repository,
    Size,
    Steps,
    Tags,
    Target,
    Text,
)
from modelway.spec.problems import Refusal

Params = Mapping[str, Any]

MOST_STAGES = 50
NAME_REPEATED = "an earlier stage has the same name"


class Section(BaseModel):
    """What every section shares: frozen, no unknown keys, no guessing of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Resources(Section):
    """What a job may use; a key that is left out sets no limit (for ``gpu``: asks for none)."""

    cpu: float | None = Field(default=None, gt=0, le=1024, description="CPU cores; 0.5 is half of one")
    memory_bytes: Size | None = Field(default=None, alias="memory", description="Memory, such as 2Gi")
    gpu: int = Field(default=0, ge=0, le=64, description="Number of GPUs")


class StageSection(Section):
    """One stage of training; it starts from the last checkpoint of the stage before it."""

    name: Name = Field(description="The stage's name, once per model")
    params: Params = Field(default_factory=dict, description="Given to the model's code, over train.params")
    command: Command | None = Field(default=None, description="Run in place of the function train(job)")
    timeout_seconds: Duration | None = Field(default=None, alias="timeout", description="Default: train.timeout")
    resources: Resources | None = Field(default=None, description="Default: train.resources as a whole")


def repeated(names: Sequence[object]) -> int | None:
    """Return the index of the first name that an earlier one has too."""
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
    params: Params = Field(default_factory=dict, description="Given to the model's code in every stage")
    resources: Resources = Field(default_factory=Resources, description="What each stage may use")
    timeout_seconds: Duration | None = Field(default=None, alias="timeout", description="Longest time of one stage")
    stages: Stages = Field(
        default=(StageSection(name="train"),), description="Run in this order, each from the one before"
    )


class EvaluateSection(Section):
    """How every checkpoint is evaluated."""

    parallel: int = Field(default=4, ge=1, le=1000, description="Checkpoints evaluated at the same time")
    backend: Backend | None = Field(default=None, description="Default: train.backend")
    params: Params = Field(default_factory=dict, description="Given to the model's code, over train.params")
    command: Command | None = Field(default=None, description="Run in place of evaluate(job, checkpoint)")
    timeout_seconds: Duration | None = Field(default=None, alias="timeout", description="Longest time of one job")
    resources: Resources = Field(default_factory=Resources, description="What each job may use")


class SelectSection(Section):
    """Which checkpoint becomes the version."""

    metric: Text = Field(default="loss", description="A metric that evaluate gives")
    mode: Literal["min", "max"] = Field(default="min", description="Whether less or more is better")


class FreezeSection(Section):
    """The form in which the model is served."""

    format: Literal["onnx"] = Field(default="onnx", description="The frozen model's format")


class Tolerance(Section):
    """How far the frozen model's outputs may lie from the checkpoint's: ``absolute + relative * |expected|``."""

    absolute: float = Field(default=1e-4, ge=0, description="Largest absolute difference")
    relative: float = Field(default=1e-3, ge=0, description="Largest difference relative to the expected value")


class VerifySection(Section):
    """What the frozen model must pass before it is registered."""

    tolerance: Tolerance = Field(default_factory=Tolerance, description="Frozen model against checkpoint")
    gates: Mapping[Text, GateText] = Field(default_factory=dict, description='Metric to limit, such as ">= 0.9"')


class ImageSection(Section):
    """The image of a model version."""

    builder: Builder = Field(default="oci", description="How the image is made")
    base: BaseImage = Field(default="scratch", description="The image below the model's layer")
    repository: Repository | None = Field(default=None, description="Where to push; left out: kept on this machine")
    path: ImagePath = Field(default="/models", description="Where the model lies in the image")


class EndpointSection(Section):
    """Where versions are served."""

    target: Target = Field(default="local", description="What runs the predictors")
    host: Host = Field(default="127.0.0.1", description="Address to listen on")
    port: int | None = Field(default=None, ge=1, le=65535, description="Left out: a free one")


class RolloutSection(Section):
    """How traffic moves to a new version."""

    steps: Steps = Field(default=(100,), description="Percent of traffic, rising to 100")
    interval_seconds: Duration = Field(default=10, alias="interval", description="Time between two steps")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A training stage with everything that applies to it."""

    name: str
    index: int  # from 0
    backend: str
    seed: int
    params: Params
    command: tuple[str, ...] | None
    timeout_seconds: int | None
    resources: Resources


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The evaluation of checkpoints with everything that applies to it."""

    parallel: int
    backend: str
    params: Params
    command: tuple[str, ...] | None
    timeout_seconds: int | None
    resources: Resources


class ModelSpec(Section):
    """One model, as its ``model.yaml`` says, with defaults filled in.

    Made by ``modelway.spec.load.load_spec``. ``to_dict()`` gives plain data in the form of the YAML, from which
    ``ModelSpec.model_validate(data, context={"folder": folder})`` makes an equal spec.
    """

    model: Name = Field(description="The model's name, equal to the folder's")
    description: str = Field(default="", max_length=2000, description="One sentence for people")
    owner: Text = Field(default="modelway", description="Who answers for the model")
    tags: Tags = Field(default=(), description="Words to find the model by")
    code: CodeFile = Field(default="", description="The model's Python file; default: <model>.py with '-' as '_'")
    retries: int = Field(default=2, ge=0, le=100, description="Further tries of a task that failed")
    train: TrainSection = Field(default_factory=TrainSection, description="How the model is trained")
    evaluate: EvaluateSection = Field(default_factory=EvaluateSection, description="How checkpoints are evaluated")
    select: SelectSection = Field(default_factory=SelectSection, description="Which checkpoint is taken")
    freeze: FreezeSection = Field(default_factory=FreezeSection, description="The form that is served")
    verify: VerifySection = Field(default_factory=VerifySection, description="What it must pass first")
    image: ImageSection = Field(default_factory=ImageSection, description="The image of a version")
    endpoint: EndpointSection = Field(default_factory=EndpointSection, description="Where versions are served")
    rollout: RolloutSection = Field(default_factory=RolloutSection, description="How traffic moves")

    _folder: Path = PrivateAttr(default=Path())

    @model_validator(mode="before")
    @classmethod
    def _default_code(cls, data: Any, info: ValidationInfo) -> Any:
        if isinstance(data, dict) and "code" not in data and isinstance(data.get("model"), str):
            return {**data, "code": default_code(data["model"])}
        return data

    def model_post_init(self, context: Any) -> None:
        """Keep the folder that the loader gives."""
        if isinstance(context, dict) and "folder" in context:
            self._folder = context["folder"]

    @property
    def folder(self) -> Path:
        """The folder that holds the spec and the model's code."""
        return self._folder

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of ``to_dict()`` as JSON: the same for the same meaning, wherever the folder lies."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the whole spec, defaults included, as plain data in the form of the YAML."""
        return self.model_dump(mode="json", by_alias=True)

    def stages(self) -> tuple[Stage, ...]:
        """Return the training stages in order, each with what it takes over from ``train``."""
        train = self.train
        return tuple(
            Stage(
                name=stage.name,
                index=index,
                backend=train.backend,
                seed=train.seed,
                params={**train.params, **stage.params},
                command=stage.command,
                timeout_seconds=train.timeout_seconds if stage.timeout_seconds is None else stage.timeout_seconds,
                resources=stage.resources or train.resources,
            )
            for index, stage in enumerate(train.stages)
        )

    def evaluation(self) -> Evaluation:
        """Return how checkpoints are evaluated, with what it takes over from ``train``: backend and params."""
        evaluate = self.evaluate
        return Evaluation(
            parallel=evaluate.parallel,
            backend=evaluate.backend or self.train.backend,
            params={**self.train.params, **evaluate.params},
            command=evaluate.command,
            timeout_seconds=evaluate.timeout_seconds,
            resources=evaluate.resources,
        )


def default_code(model: str) -> str:
    """Return the name of a model's Python file where the spec names none."""
    return f"{model.replace('-', '_')}.py"
