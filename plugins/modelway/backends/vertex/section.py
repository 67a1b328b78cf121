"""The section ``vertex`` of a model spec."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from modelway.fields.refusal import Refusal
from modelway.fields.section import Section
from modelway.fields.values import Duration, EnvironmentName, Text
from modelway.platforms.google.forms import (
    Accelerator,
    Account,
    Key,
    Labels,
    Network,
    Project,
    Region,
    Reservation,
    check_region_of,
)

MOST_VARIABLES = 80


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        what = "a job on Vertex AI has no secret variables: whoever may see the job could read their values"
        do = "Let the job's code read it from Secret Manager, as vertex.service_account"
        raise Refusal(what, do=do)
    return value


class VertexSection(Section):
    """What only Vertex AI knows."""

    project: Project | None = Field(default=None, description="The project's id; default: the connection's")
    region: Region | None = Field(default=None, description="Region of the jobs, such as us-central1")
    service_account: Account | None = Field(
        default=None, description="E-mail of the jobs' service account; default: Vertex AI's own agent"
    )
    machine_type: Text | None = Field(
        default=None, description="Such as n2-standard-8; default: the smallest that has what resources requests"
    )
    accelerator: Accelerator | None = Field(
        default=None, description="Model of the GPUs of jobs that request some, such as NVIDIA_L4"
    )
    disk_type: Literal["pd-ssd", "pd-standard", "hyperdisk-balanced"] | None = Field(
        default=None, description="Kind of the boot disk; its size is resources.disk; default: pd-ssd"
    )
    network: Network | None = Field(default=None, description="VPC network to peer with, by the project's number")
    strategy: Literal["STANDARD", "SPOT", "FLEX_START"] = Field(
        default="STANDARD",
        description="SPOT: cheaper machines that may be taken away; FLEX_START: waits for scarce GPUs",
    )
    max_wait_seconds: Duration | None = Field(
        default=None, alias="max_wait", description="Time that FLEX_START waits for machines; default: start_within"
    )
    reservation: Reservation | None = Field(
        default=None, description="A reservation of Compute Engine whose machines are used"
    )
    persistent_resource: Text | None = Field(
        default=None, description="Id of a persistent resource that the jobs run on, in place of machines of their own"
    )
    labels: Labels = Field(default_factory=dict, description="More labels of the jobs, such as a cost centre")
    kms_key: Key | None = Field(default=None, description="Key of Cloud KMS for the machines' disks")
    env: Annotated[
        Mapping[EnvironmentName, Annotated[str, BeforeValidator(_plain)]], Field(max_length=MOST_VARIABLES)
    ] = Field(default_factory=dict, description="Environment: texts that everyone who may see the job may read")
    start_within_seconds: Duration = Field(
        default=3600, alias="start_within", description="A job that no machine takes in this time failed"
    )
    grace_seconds: Duration = Field(
        default=30, alias="grace", description="Time that a job has to write a checkpoint when it must leave"
    )

    @model_validator(mode="after")
    def _waits(self) -> Self:
        if self.max_wait_seconds is not None and self.strategy != "FLEX_START":
            what = f"a job of the strategy {self.strategy} does not wait for machines on Vertex AI"
            raise Refusal(what, at=("max_wait",), do="Set start_within, or strategy: FLEX_START")
        return self

    @model_validator(mode="after")
    def _reserved(self) -> Self:
        if self.reservation and self.strategy != "STANDARD":
            what = f"machines of a reservation are not {self.strategy}"
            raise Refusal(what, at=("reservation",), do="Remove reservation, or set strategy: STANDARD")
        return self

    @model_validator(mode="after")
    def _pooled(self) -> Self:
        if self.persistent_resource and not self.machine_type:
            what = "jobs on a persistent resource have the machines of one of its pools"
            do = "Set machine_type to that of the pool, and disk_type as well where it is not pd-ssd"
            raise Refusal(what, at=("persistent_resource",), do=do)
        return self

    @model_validator(mode="after")
    def _in_region(self) -> Self:
        check_region_of(region=self.region, key=self.kms_key, reservation=self.reservation)
        return self
