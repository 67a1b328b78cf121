"""The section ``kubernetes`` of a model spec."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from modelway.backends.kubernetes.launchers import WITHOUT_QUEUE
from modelway.fields.refusal import Refusal, shown
from modelway.fields.section import Section
from modelway.fields.values import Duration, EnvironmentName, ImagePath, Label, Size, Text
from modelway.platforms.kubernetes.patch import DIRECTIVE, unknown_directives


class SecretKey(Section):
    """One key of a Secret, or of a ConfigMap."""

    secret: Label | None = Field(default=None, description="The Secret's name")
    config_map: Label | None = Field(default=None, description="The ConfigMap's name")
    key: Text | None = Field(default=None, description="The key in it")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.secret is None) == (self.config_map is None):
            raise Refusal("needs secret or config_map", do="Write one of them")
        return self


EnvironmentValue = Annotated[
    Annotated[str, Tag("[text]")] | Annotated[SecretKey, Tag("[section]")],
    Discriminator(lambda value: "[section]" if isinstance(value, dict | SecretKey) else "[text]"),
]


class VolumeSection(Section):
    """One more volume of the pod."""

    path: ImagePath = Field(description="Where the job sees it")
    source: Mapping[str, Any] = Field(
        description="What it is, as Kubernetes writes it: {persistentVolumeClaim: {claimName: data}}"
    )
    read_only: bool = Field(default=False, description="Whether the job may only read it")


Launcher = Literal["job", "trainjob", "jobset", "pytorchjob", "tfjob"]


class KubernetesSection(Section):
    """What only Kubernetes knows."""

    namespace: Label = Field(default="default", description="Namespace of the jobs")
    launcher: Launcher = Field(
        default="job", description="What starts the pods: Kubernetes' Job, or a controller that must be installed"
    )
    queue: Label | None = Field(default=None, description="Kueue's LocalQueue")
    service_account: Label | None = Field(default=None, description="The pods' service account")
    image_pull_secrets: Annotated[tuple[Label, ...], Field(strict=False)] = Field(
        default=(), description="Secrets that hold the image registry's login"
    )
    push_secret: Label | None = Field(
        default=None,
        description="Secret (kubernetes.io/dockerconfigjson) with the login that images are pushed with; "
        "the image job alone sees it",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="When nodes pull the image"
    )
    node_selector: Mapping[str, str] = Field(default_factory=dict, description="Labels that the node must have")
    tolerations: Annotated[tuple[Mapping[str, Any], ...], Field(strict=False)] = Field(
        default=(), description="Taints that the job bears, as Kubernetes writes them"
    )
    affinity: Mapping[str, Any] = Field(default_factory=dict, description="As Kubernetes writes it")
    priority_class: Label | None = Field(default=None, description="Priority class of the pods")
    runtime_class: Label | None = Field(default=None, description="Runtime class of the pods")
    run_as: int | None = Field(
        default=None, ge=1, lt=2**31, description="User id of the job; default: the worker's, 1000 where that is root"
    )
    env: Mapping[EnvironmentName, EnvironmentValue] = Field(
        default_factory=dict, description="Environment: a text, or {secret: name, key: key}"
    )
    files: Mapping[ImagePath, SecretKey] = Field(
        default_factory=dict, description="Folders of files from a Secret or ConfigMap: {/etc/x: {secret: name}}"
    )
    volumes: Annotated[tuple[VolumeSection, ...], Field(strict=False)] = Field(
        default=(), description="More volumes of the pods"
    )
    shared_memory_bytes: Size | None = Field(
        default=None, alias="shared_memory", description="Size of /dev/shm, for data loaders with processes"
    )
    start_within_seconds: Duration = Field(
        default=3600, alias="start_within", description="A job that no node takes in this time failed"
    )
    grace_seconds: Duration = Field(
        default=30, alias="grace", description="Time that a job has to write a checkpoint when it must leave"
    )
    keep_seconds: Duration = Field(
        default=3600, alias="keep", description="Time that an ended job is kept for inspection with kubectl"
    )
    patch: Mapping[str, Any] = Field(
        default_factory=dict, description="Merged into the manifest (strategic merge), for what has no key here"
    )

    @model_validator(mode="after")
    def _keys(self) -> Self:
        for name, value in self.env.items():
            if isinstance(value, SecretKey) and value.key is None:
                raise Refusal("a variable has the value of one key", at=("env", name), do="Add key: the key's name")
        return self

    @model_validator(mode="after")
    def _queued(self) -> Self:
        if self.queue and self.launcher in WITHOUT_QUEUE:
            what = f"a {self.launcher} cannot wait in a queue: its controller starts the pods at once"
            raise Refusal(what, at=("queue",), do="Remove queue, or choose the launcher job, jobset or trainjob")
        return self

    @model_validator(mode="after")
    def _patched(self) -> Self:
        for path in unknown_directives(self.patch):
            what = f"{shown(path[-1])} is no directive that is understood here"
            do = f"Write {DIRECTIVE}: delete or {DIRECTIVE}: replace, or leave it out"
            raise Refusal(what, at=("patch", *path), do=do)
        return self
