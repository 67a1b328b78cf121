"""The sections that say where jobs run and keep their files: ``storage``, ``kubernetes``, ``docker``."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from modelway.failures import FailureKind, RetryRule
from modelway.spec.fields import Duration, ImagePath, Size, Text
from modelway.spec.problems import Refusal, shown
from modelway.spec.secrets import SecretValue
from modelway.spec.section import Section

_LABEL = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
_GPU_TYPE = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9][-A-Za-z0-9_.]*$"
_STORE_URI = r"^(s3|gs)://[^/\s]+(/\S*)?$"
_ENVIRONMENT_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"


def _label(value: str) -> str:
    if not re.fullmatch(_LABEL, value):
        do = "Write lower-case letters, digits, '-' and '.' inside"
        raise Refusal(f"{shown(value)} is not a name on Kubernetes", do=do)
    return value


def _environment_name(value: str) -> str:
    if not re.fullmatch(_ENVIRONMENT_NAME, value):
        do = "Write letters, digits and '_', no digit first"
        raise Refusal(f"{shown(value)} cannot name a variable of the environment", do=do)
    return value


def _store_uri(value: str) -> str:
    if not re.fullmatch(_STORE_URI, value):
        do = "Write s3://bucket/prefix or gs://bucket/prefix"
        raise Refusal(f"{shown(value)} is not the URI of an object store", do=do)
    return value.rstrip("/")


def _gpu_type(value: str) -> str:
    if not re.fullmatch(_GPU_TYPE, value):
        do = "Write the vendor's key, such as nvidia.com/gpu; kubernetes.node_selector chooses a model of GPU"
        raise Refusal(f"{shown(value)} is not a key of GPUs", do=do)
    return value


#: a DNS label or subdomain (RFC 1123), as Kubernetes names its objects
Label = Annotated[str, AfterValidator(_label), WithJsonSchema({"type": "string", "pattern": _LABEL})]
GpuType = Annotated[str, AfterValidator(_gpu_type), WithJsonSchema({"type": "string", "pattern": _GPU_TYPE})]
StoreUri = Annotated[str, AfterValidator(_store_uri), WithJsonSchema({"type": "string", "pattern": _STORE_URI})]
EnvironmentName = Annotated[
    str, AfterValidator(_environment_name), WithJsonSchema({"type": "string", "pattern": _ENVIRONMENT_NAME})
]


class NodeStorage(Section):
    """A folder of one named node."""

    name: Label = Field(description="The node, as kubectl get nodes names it; jobs run there")
    path: ImagePath = Field(description="The folder on that node")


class NfsStorage(Section):
    """A folder of an NFS server."""

    server: Text = Field(description="The server's name or address")
    path: ImagePath = Field(description="The folder that the server exports")


class StorageSection(Section):
    """Where jobs keep their folders: code, checkpoints, logs; exactly one of node, nfs, claim and uri."""

    path: ImagePath = Field(default="/modelway", description="Where jobs see it, in training and serving")
    node: NodeStorage | None = Field(default=None, description="A folder of one named node")
    nfs: NfsStorage | None = Field(default=None, description="A folder of an NFS server")
    claim: Label | None = Field(default=None, description="A PersistentVolumeClaim that several pods may write to")
    uri: StoreUri | None = Field(default=None, description="An object store: s3://bucket/prefix or gs://bucket/prefix")
    worker_path: ImagePath | None = Field(
        default=None, description="Where Airflow's workers see it; default: node.path for a node, else path"
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in ("node", "nfs", "claim", "uri") if getattr(self, name) is not None]
        if len(given) != 1:
            what = f"has {' and '.join(given)}" if given else "says not where the files are"
            raise Refusal(f"the storage {what}", do="Write exactly one of node, nfs, claim and uri")
        if self.uri and self.worker_path:
            raise Refusal("an object store is on no path", at=("worker_path",), do="Remove worker_path")
        return self


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
        default=3600, alias="keep", description="Time that an ended job is kept for kubectl to look at"
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
        if not self.queue:
            return self
        from modelway.backends.kubernetes.launchers import WITHOUT_QUEUE

        if self.launcher in WITHOUT_QUEUE:
            what = f"a {self.launcher} cannot wait in a queue: its controller starts the pods at once"
            raise Refusal(what, at=("queue",), do="Remove queue, or choose the launcher job, jobset or trainjob")
        return self

    @model_validator(mode="after")
    def _patched(self) -> Self:
        if not self.patch:
            return self
        from modelway.platforms.kubernetes.patch import DIRECTIVE, unknown_directives

        for path in unknown_directives(self.patch):
            what = f"{shown(path[-1])} is no directive that is understood here"
            do = f"Write {DIRECTIVE}: delete or {DIRECTIVE}: replace, or leave it out"
            raise Refusal(what, at=("patch", *path), do=do)
        return self


class DockerSection(Section):
    """What only Docker knows."""

    network: Text | None = Field(default=None, description="Network of the containers; default: the engine's own")
    env: Mapping[EnvironmentName, SecretValue] = Field(
        default_factory=dict,
        description="Environment of the containers: a text, {connection: id, field: password} or {variable: key}",
    )
    shared_memory_bytes: Size | None = Field(
        default=None, alias="shared_memory", description="Size of /dev/shm, for data loaders with processes"
    )
    grace_seconds: Duration = Field(
        default=30, alias="grace", description="Time that a job has to write a checkpoint when it must leave"
    )
    keep_seconds: Duration = Field(
        default=86_400, alias="keep", description="Time that an ended job is kept on the engine"
    )


def _rules(rules: Mapping[str, str]) -> Mapping[str, str]:
    for kind, rule in rules.items():
        if kind not in list(FailureKind):
            known = [one.value for one in FailureKind]
            raise Refusal(f"{shown(kind)} is no kind of failure", at=(kind,), known=known, given=kind)
        if rule not in list(RetryRule):
            known = [one.value for one in RetryRule]
            raise Refusal(f"{shown(rule)} is no rule", at=(kind,), known=known, given=rule)
        if FailureKind(kind).is_of_memory and rule == RetryRule.RETRY:
            do = "Write more-memory, or fail and raise resources.memory"
            raise Refusal("the same again would run out of memory again", at=(kind,), do=do)
        if not FailureKind(kind).is_of_memory and rule == RetryRule.MORE_MEMORY:
            do = "Write retry or fail"
            raise Refusal("more memory helps only against out_of_memory and node_out_of_memory", at=(kind,), do=do)
    return rules


RetryRules = Annotated[
    Mapping[str, str],
    AfterValidator(_rules),
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": {"enum": [kind.value for kind in FailureKind]},
            "additionalProperties": {"enum": [rule.value for rule in RetryRule]},
        }
    ),
]
