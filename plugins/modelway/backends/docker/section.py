"""The section ``docker`` of a model spec."""

from collections.abc import Mapping

from pydantic import Field

from modelway.fields.secrets import SecretValue
from modelway.fields.section import Section
from modelway.fields.values import Duration, EnvironmentName, Size, Text


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
