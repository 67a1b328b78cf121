"""The section ``endpoint.cloud_run`` of a model spec."""

from typing import Any, Literal

from pydantic import Field, model_validator

from modelway.fields.reread import with_durations
from modelway.fields.section import Section
from modelway.fields.values import Duration, Text
from modelway.platforms.google.forms import Account, InstanceAccelerator, Key, Labels, Project, Region

Ingress = Literal["all", "internal", "internal_and_load_balancer"]


class CloudRunSection(Section):
    """Where on Cloud Run versions are served, who may call them, and what an instance is like."""

    project: Project | None = Field(default=None, description="Project; default: the connection's")
    region: Region | None = Field(default=None, description="Region, such as europe-west1; needed")
    image_repository: Text | None = Field(
        default=None, description="Repository that images are copied to before they run, by digest; default: none is"
    )
    service_account: Account | None = Field(
        default=None, description="E-mail of the account that instances run as; default: the project's own for Compute"
    )
    ingress: Ingress = Field(default="all", description="Networks that requests may come from")
    public: bool = Field(
        default=False, description="Whether anybody may call it; false: who has the role Cloud Run Invoker, by ID token"
    )
    min_instances: int = Field(
        default=0, ge=0, le=1000, description="Instances of a version with traffic, at least, without autoscaling"
    )
    max_instances: int = Field(
        default=100, ge=1, le=1000, description="Instances of a version, at most, without autoscaling"
    )
    concurrency: int | None = Field(
        default=None, ge=1, le=1000, description="Requests at a time that an instance gets; default: 80, below 1 CPU 1"
    )
    cpu_always: bool = Field(default=False, description="Whether instances have CPU (and cost) between requests, too")
    accelerator: InstanceAccelerator = Field(
        default="nvidia-l4", description="Type of the GPU, where resources.gpu is 1"
    )
    zonal_redundancy: bool = Field(default=False, description="Whether GPUs are reserved in a second zone, too")
    network: Text | None = Field(default=None, description="VPC network that instances send to; default: none")
    subnet: Text | None = Field(default=None, description="Subnet of that network")
    kms_key: Key | None = Field(default=None, description="Key of Cloud KMS that the image is encrypted with")
    labels: Labels = Field(default_factory=dict, description="Labels of service and revisions, for bills")
    answer_within_seconds: Duration = Field(
        default=300, alias="answer_within", description="Time for the answer to a request, at most 1h"
    )
    ready_within_seconds: Duration = Field(
        default=600, alias="ready_within", description="Time that a new version has to become ready"
    )

    @model_validator(mode="before")
    @classmethod
    def _read_before(cls, data: Any) -> Any:
        return with_durations(data, "ready_within", "answer_within")
