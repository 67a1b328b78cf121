"""The section ``vertex`` of a model spec."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from modelway.fields.refusal import Refusal, shown
from modelway.fields.section import Section
from modelway.fields.values import Duration, EnvironmentName, Text

_REGION = r"^[a-z]+-[a-z]+\d+$"
_PROJECT = r"^([a-z0-9.-]+:)?[a-z][-a-z0-9]{4,28}[a-z0-9]$"
_NETWORK = r"^projects/\d+/global/networks/[a-z]([-a-z0-9]{0,61}[a-z0-9])?$"
_KEY = r"^projects/[^/\s]+/locations/[^/\s]+/keyRings/[^/\s]+/cryptoKeys/[^/\s]+$"
_RESERVATION = r"^projects/[^/\s]+/zones/[^/\s]+/reservations/[^/\s]+$"
_ACCOUNT = r"^[^@\s]+@[^@\s]+\.[a-z]+$"
_LABEL = r"^[a-z][a-z0-9_-]{0,62}$"
_LABEL_VALUE = r"^[a-z0-9_-]{0,63}$"
#: the prefix of the labels by which jobs are found again
OWN_LABELS = "modelway"
MOST_VARIABLES = 80
MOST_LABELS = 40


def _check(pattern: str, form: str, value: str) -> str:
    if not re.fullmatch(pattern, value):
        raise Refusal(f"{shown(value)} has another form", do=f"Write {form}")
    return value


def _schema(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern})


Region = Annotated[str, AfterValidator(partial(_check, _REGION, "a region such as us-central1")), _schema(_REGION)]
Project = Annotated[
    str, AfterValidator(partial(_check, _PROJECT, "the project's id, such as my-project")), _schema(_PROJECT)
]
Network = Annotated[
    str, AfterValidator(partial(_check, _NETWORK, "projects/NUMBER/global/networks/NAME")), _schema(_NETWORK)
]
Key = Annotated[
    str, AfterValidator(partial(_check, _KEY, "projects/P/locations/R/keyRings/K/cryptoKeys/C")), _schema(_KEY)
]
Reservation = Annotated[
    str,
    AfterValidator(partial(_check, _RESERVATION, "projects/P/zones/Z/reservations/NAME")),
    _schema(_RESERVATION),
]
Account = Annotated[str, AfterValidator(partial(_check, _ACCOUNT, "its e-mail address")), _schema(_ACCOUNT)]


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        what = "a job on Vertex AI has no secret variables: whoever may see the job could read their values"
        do = "Let the job's code read it from Secret Manager, as vertex.service_account"
        raise Refusal(what, do=do)
    return value


def _labels(value: Mapping[str, str]) -> Mapping[str, str]:
    for key, text in value.items():
        if not re.fullmatch(_LABEL, key) or not re.fullmatch(_LABEL_VALUE, text):
            raise Refusal("has characters that a label cannot have", at=(key,), do="Use a-z, 0-9, _ and -, at most 63")
        if key.startswith(OWN_LABELS):
            raise Refusal(f"labels that begin with {OWN_LABELS} are modelway's own", at=(key,), do="Rename it")
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
    accelerator: Text | None = Field(default=None, description="Model of the GPUs, such as NVIDIA_L4")
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
    labels: Annotated[Mapping[str, str], Field(max_length=MOST_LABELS), AfterValidator(_labels)] = Field(
        default_factory=dict, description="More labels of the jobs, such as a cost centre"
    )
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
