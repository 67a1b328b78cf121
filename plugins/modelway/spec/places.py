"""The section ``storage``, where jobs keep their files, and ``retry_rules``: settings for every backend."""

import re
from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from modelway.failures import FailureKind, RetryRule
from modelway.fields.refusal import Refusal, shown
from modelway.fields.section import Section
from modelway.fields.values import ImagePath, Label, Text

_GPU_TYPE = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9][-A-Za-z0-9_.]*$"
_STORE_URI = r"^(s3|gs)://[^/\s]+(/\S*)?$"


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


GpuType = Annotated[str, AfterValidator(_gpu_type), WithJsonSchema({"type": "string", "pattern": _GPU_TYPE})]
StoreUri = Annotated[str, AfterValidator(_store_uri), WithJsonSchema({"type": "string", "pattern": _STORE_URI})]


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
        found = [name for name in ("node", "nfs", "claim", "uri") if getattr(self, name) is not None]
        if len(found) != 1:
            what = f"has {' and '.join(found)}" if found else "does not say where the files are"
            raise Refusal(f"the storage {what}", do="Write exactly one of node, nfs, claim and uri")
        if self.uri and self.worker_path:
            raise Refusal("an object store is on no path", at=("worker_path",), do="Remove worker_path")
        return self


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
