"""The whole model spec: its sections, and the settings of each job with defaults filled in."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, model_validator

from modelway.fields.section import Section
from modelway.fields.values import Duration, Text
from modelway.ports import known
from modelway.spec.environments import Serving, serving_in
from modelway.spec.fields import CodeFile, Name, Tags
from modelway.spec.monitoring import MonitorSection
from modelway.spec.places import RetryRules, StorageSection
from modelway.spec.references import Pool
from modelway.spec.registry import drop_unused, platform_of, with_sections_of
from modelway.spec.search import SearchSection
from modelway.spec.sections import (
    Datasets,
    EndpointSection,
    EvaluateSection,
    FreezeSection,
    ImageSection,
    KeepSection,
    NotificationsSection,
    Params,
    RegisterSection,
    Resources,
    RolloutSection,
    RunParams,
    Schedule,
    SelectSection,
    TrainSection,
    VerifySection,
)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A training stage with all of its settings."""

    name: str
    index: int  # from 0
    backend: str
    seed: int
    params: Params
    command: tuple[str, ...] | None
    timeout_seconds: int | None
    resources: Resources
    image: str | None
    nodes: int
    processes_per_node: int


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The evaluation of checkpoints with all of its settings."""

    parallel: int
    per_job: int | Literal["auto"]
    backend: str
    params: Params
    command: tuple[str, ...] | None
    timeout_seconds: int | None
    resources: Resources
    image: str | None
    nodes: int = 1
    processes_per_node: int = 1


@with_sections_of("backends")
class ModelSpec(Section):
    """One model, as in its ``model.yaml``, with defaults filled in, and a section for each backend that has one.

    Loaded by ``modelway.spec.load.load_spec``. ``to_dict()`` returns plain data in the form of the YAML, from which
    ``ModelSpec.model_validate(data, context={"folder": folder})`` creates an equal spec.
    """

    model: Name = Field(description="The model's name, equal to the folder's")
    description: str = Field(default="", max_length=2000, description="One sentence for people")
    # The width of Airflow's narrowest column for it.
    owner: Text = Field(default="modelway", max_length=500, description="Who answers for the model")
    tags: Tags = Field(default=(), description="Words to find the model by")
    code: CodeFile = Field(default="", description="The model's Python file; default: <model>.py with '-' as '_'")
    params: RunParams = Field(default_factory=dict, description="Parameters of a run, shown in the trigger form")
    datasets: Datasets = Field(default_factory=dict, description="Data that training reads, by name")
    schedule: Schedule | None = Field(
        default=None, description="When to train; default: only when a user triggers a run"
    )
    reuse: Literal["never", "same-inputs"] = Field(
        default="never", description="Whether a run reuses the version that the same inputs produced before"
    )
    retries: int = Field(default=2, ge=0, le=100, description="Further attempts of a failed task")
    retry_delay_seconds: Duration = Field(default=10, alias="retry_delay", description="Time before a further attempt")
    retry_rules: RetryRules = Field(
        default_factory=dict, description="Kind of failure to retry, more-memory or fail: {image_pull: retry}"
    )
    deadline_seconds: Duration | None = Field(
        default=None,
        alias="deadline",
        description="Longest time of a run; after it notifications.on_deadline is called",
    )
    pool: Pool | None = Field(default=None, description="Airflow pool of the jobs' tasks; default: Airflow's default")
    max_active_runs: int = Field(default=1, ge=1, le=100, description="Runs of the model at the same time")
    storage: StorageSection | None = Field(
        default=None, description="Where jobs of containers keep their folders; the backend kubernetes needs it"
    )
    train: TrainSection = Field(default_factory=TrainSection, description="How the model is trained")
    search: SearchSection | None = Field(
        default=None, description="Several candidates, of which the best becomes the version; default: one training"
    )
    evaluate: EvaluateSection = Field(default_factory=EvaluateSection, description="How checkpoints are evaluated")
    select: SelectSection = Field(default_factory=SelectSection, description="Which checkpoint is selected")
    keep: KeepSection = Field(default_factory=KeepSection, description="What stays of a run besides its version")
    register_: RegisterSection = Field(
        default_factory=RegisterSection, alias="register", description="How the version is recorded"
    )
    freeze: FreezeSection = Field(default_factory=FreezeSection, description="The form that is served")
    verify: VerifySection = Field(default_factory=VerifySection, description="What it must pass first")
    image: ImageSection = Field(default_factory=ImageSection, description="The image of a version")
    endpoint: EndpointSection = Field(default_factory=EndpointSection, description="Where versions are served")
    rollout: RolloutSection = Field(default_factory=RolloutSection, description="How traffic moves")
    monitor: MonitorSection = Field(default_factory=MonitorSection, description="What starts a retraining")
    notifications: NotificationsSection = Field(
        default_factory=NotificationsSection, description="Which notifiers are called"
    )

    @property
    def registers_worse(self) -> bool:
        """Whether a version that misses a gate which compares with another one is registered, and not rolled out."""
        return (self.rollout.when_worse or ("register" if self.monitor.has_rules else "refuse")) == "register"

    _folder: Path = PrivateAttr(default=Path())
    _environment: str | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _default_code(cls, data: Any, info: ValidationInfo) -> Any:
        if isinstance(data, dict) and "code" not in data and isinstance(data.get("model"), str):
            return {**data, "code": default_code(data["model"])}
        return data

    def model_post_init(self, context: Any) -> None:
        """Store the folder and the environment from the loader."""
        if isinstance(context, dict) and "folder" in context:
            self._folder = context["folder"]
            self._environment = context.get("environment")

    @property
    def folder(self) -> Path:
        """The folder that holds the spec and the model's code."""
        return self._folder

    @property
    def environment(self) -> str | None:
        """The environment whose values these are; None where none was requested, or the model does not have it."""
        return self._environment

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of ``to_dict()`` as JSON: equal for specs of equal meaning, in any folder."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the whole spec, defaults included, as plain data in the form of the YAML.

        Empty sections of backends, builders and targets that the spec does not use are left out.
        """
        data = self.model_dump(mode="json", by_alias=True)
        used = {self.train.backend, self.evaluation().backend, self.imaging().backend}
        if acceptance := self.acceptance():
            used.add(acceptance.backend)
        drop_unused(data, port="backends", used=used)
        drop_unused(data["image"], port="builders", used={self.image.builder})
        drop_unused(data["endpoint"], port="endpoints", used={self.endpoint.target})
        for name, environment in self.endpoint.environments.items():
            drop_unused(data["endpoint"]["environments"][name], port="endpoints", used={environment.target})
        if not self.endpoint.environments:
            del data["endpoint"]["environments"]
        return data

    def platform(self, backend: str) -> dict[str, Any]:
        """Return the settings of that backend only: the section with its name, as plain data."""
        return platform_of(self, backend) if backend in known("backends") else {}

    def serving(self, environment: str | None = None, *, last: bool = False) -> Serving:
        """Return how the model is served in one environment of its endpoint, by default in the first, or the last.

        :raises InvalidSpec: the endpoint has no such environment
        """
        return serving_in(self.model, self.endpoint, environment, last=last)

    def stages(self) -> tuple[Stage, ...]:
        """Return the training stages in order, each with what it inherits from ``train``."""
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
                image=train.image,
                nodes=stage.nodes or train.nodes,
                processes_per_node=stage.processes_per_node or train.processes_per_node,
            )
            for index, stage in enumerate(train.stages)
        )

    def evaluation(self) -> Evaluation:
        """Return how checkpoints are evaluated, with what it inherits from ``train``: backend and params."""
        evaluate = self.evaluate
        return Evaluation(
            parallel=evaluate.parallel,
            per_job=evaluate.per_job,
            backend=evaluate.backend or self.train.backend,
            params={**self.train.params, **evaluate.params},
            command=evaluate.command,
            timeout_seconds=evaluate.timeout_seconds,
            resources=evaluate.resources,
            image=evaluate.image or self.train.image,
        )

    def imaging(self) -> Evaluation:
        """Return how the job that pushes the image runs: as an evaluation without code, on resources of its own."""
        evaluation = self.evaluation()
        backend = self.image.backend or evaluation.backend
        return replace(evaluation, backend=backend, resources=self.image.resources, command=None, timeout_seconds=None)

    def acceptance(self) -> Evaluation | None:
        """Return how a version is accepted, with what it inherits from ``train``; None where it is not tested."""
        if (section := self.rollout.acceptance) is None:
            return None
        return Evaluation(
            parallel=1,
            per_job=1,
            backend=section.backend or self.train.backend,
            params={**self.train.params, **section.params},
            command=section.command,
            timeout_seconds=section.timeout_seconds,
            resources=section.resources,
            image=section.image or self.train.image,
        )


def default_code(model: str) -> str:
    """Return the default name of a model's Python file."""
    return f"{model.replace('-', '_')}.py"
