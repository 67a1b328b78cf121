"""The section ``endpoint.vertex`` of a model spec."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from modelway.fields.reread import with_durations
from modelway.fields.section import Section
from modelway.fields.values import Duration, Text
from modelway.platforms.google.forms import Accelerator, Account, Key, Labels, Project, Region, check_region_of

Route = Literal["invoke", "predict"]


class VertexEndpointSection(Section):
    """Where on Vertex AI versions are served, and on which machines."""

    project: Project | None = Field(default=None, description="Project; default: the connection's")
    region: Region | None = Field(default=None, description="Region, such as europe-west4; needed")
    image_repository: Text | None = Field(
        default=None, description="Repository that images are copied to before they run, by digest; default: none is"
    )
    service_account: Account | None = Field(
        default=None, description="E-mail of the account that servers run as; default: Vertex AI's own, without access"
    )
    machine_type: Text = Field(default="n1-standard-2", description="Machine of each server; it gives CPU and memory")
    accelerator: Accelerator | None = Field(
        default=None, description="Type of the GPUs, such as NVIDIA_L4, where resources.gpu says how many"
    )
    spot: bool = Field(default=False, description="Whether machines are cheaper ones that may be taken away")
    pool: Text | None = Field(
        default=None, description="Deployment resource pool whose machines versions share; default: own machines"
    )
    route: Route = Field(
        default="invoke",
        description="How requests come to the servers: under …/invoke/ by the Open Inference Protocol, or by rawPredict"
        " and predict, which reach no version without traffic",
    )
    labels: Labels = Field(default_factory=dict, description="Labels of endpoint and models, for bills")
    kms_key: Key | None = Field(default=None, description="Key of Cloud KMS that encrypts endpoint and models")
    answer_within_seconds: Duration = Field(
        default=600, alias="answer_within", description="Time for the answer to a request, at most 1h"
    )
    ready_within_seconds: Duration = Field(
        default=3600, alias="ready_within", description="Time that a new version has to become ready, at most 2h"
    )

    @model_validator(mode="before")
    @classmethod
    def _read_before(cls, data: Any) -> Any:
        return with_durations(data, "ready_within", "answer_within")

    @model_validator(mode="after")
    def _in_region(self) -> Self:
        check_region_of(region=self.region, key=self.kms_key)
        return self
