"""The section ``endpoint.vertex`` of a model spec."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from modelway.fields.reread import with_durations
from modelway.fields.section import Section
from modelway.fields.values import Duration, Text

Route = Literal["invoke", "predict"]


class VertexEndpointSection(Section):
    """Where on Vertex AI versions are served, and on which machines."""

    project: Text | None = Field(default=None, description="Project; default: that of the connection modelway_google")
    region: Text | None = Field(default=None, description="Region, such as europe-west4; needed")
    image_repository: Text | None = Field(
        default=None, description="Repository that images are copied to before they run, by digest; default: none is"
    )
    service_account: Text | None = Field(
        default=None, description="E-mail of the account that servers run as; default: Vertex AI's own, without access"
    )
    machine_type: Text = Field(default="n1-standard-2", description="Machine of each server; it gives CPU and memory")
    accelerator: Text | None = Field(
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
    labels: Mapping[str, str] = Field(default_factory=dict, description="Labels of endpoint and models, for bills")
    kms_key: Text | None = Field(default=None, description="Key of Cloud KMS that encrypts endpoint and models")
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
