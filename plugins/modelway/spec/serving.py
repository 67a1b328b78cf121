"""The keys of ``endpoint`` that say how versions are served: servers, users, and predictors that were added by hand."""

import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from modelway.endpoints.base import MAX_PREDICTORS, pipeline_version
from modelway.endpoints.checking import TOKEN_PATTERN
from modelway.fields.refusal import Refusal, shown
from modelway.fields.section import Section
from modelway.fields.values import ImagePath, Size
from modelway.spec.fields import Name
from modelway.spec.places import GpuType
from modelway.spec.references import VersionReference

#: a rollout has two of an endpoint's predictors
MAX_BY_HAND = MAX_PREDICTORS - 2
NAME_REPEATED = "an earlier predictor has the same name"


def _token(value: str) -> str:
    if not re.fullmatch(TOKEN_PATTERN, value):
        raise Refusal(f"{shown(value)} is not a name", do="Use letters, digits, '-' and '_', at most 64 characters")
    return value


def _by_hand(value: str) -> str:
    if pipeline_version(value) is not None:
        do = "Choose another name: v and a number are what the pipeline deploys"
        raise Refusal(f"{shown(value)} cannot name a predictor made by hand", do=do)
    return value


Token = Annotated[str, AfterValidator(_token), WithJsonSchema({"type": "string", "pattern": TOKEN_PATTERN})]
Replicas = Annotated[int, Field(ge=1, le=1000)]


class ServerResources(Section):
    """What one server may use; without a key there is no limit (for ``gpu``: no GPU)."""

    cpu: float | None = Field(default=None, gt=0, le=1024, description="CPU cores; 0.5 is half of one")
    memory_bytes: Size | None = Field(default=None, alias="memory", description="Memory, such as 2Gi")
    gpu: int = Field(default=0, ge=0, le=64, description="Number of GPUs")
    gpu_type: GpuType = Field(
        default="nvidia.com/gpu", description="The vendor's key of a GPU on Kubernetes, such as amd.com/gpu"
    )


class BatchingSection(Section):
    """How a server gathers requests into one call of the model."""

    rows: int = Field(default=8, ge=1, le=65536, description="Rows of one call, at most; 1: none are gathered")


class AutoscalingSection(Section):
    """A number of servers that follows the load."""

    minimum: Replicas = Field(default=1, description="Least number of servers")
    maximum: Replicas = Field(description="Greatest number of servers")
    cpu_percent: int = Field(default=80, ge=1, le=100, description="Busy CPU above which there are more servers")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.minimum > self.maximum:
            raise Refusal(f"the minimum {self.minimum} is above the maximum {self.maximum}", at=("minimum",))
        return self


class StickySection(Section):
    """By what a user is recognised, who then stays with a version while another one grows; one of the two keys."""

    header: Token | None = Field(default=None, description="Header of the request; default: x-user")
    cookie: Token | None = Field(default=None, description="Cookie that the gateway sets in the first answer")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.header is None) == (self.cookie is None):
            raise Refusal("needs exactly one of header and cookie")
        return self


class MirrorSection(Section):
    """Copies of requests, sent to the version that is rolled out; its answers to them are discarded."""

    percent: int = Field(default=100, ge=1, le=100, description="Share of the requests that are copied")


class PredictorSection(Section):
    """A predictor that was added by hand, beside what the pipeline deploys."""

    name: Annotated[Name, AfterValidator(_by_hand)] = Field(description="The predictor's name, once per endpoint")
    model: Name | None = Field(default=None, description="The model whose version it is; default: this one")
    version: VersionReference = Field(description="A version, or an alias, which is resolved at each deployment")
    weight: int = Field(ge=0, le=1_000_000, description="Share of the requests, in proportion to endpoint.weight")
    path: ImagePath | None = Field(default=None, description="The model's folder in its image; default: image.path")
    replicas: Replicas | None = Field(default=None, description="Default: endpoint.replicas")
    resources: ServerResources | None = Field(default=None, description="Default: endpoint.resources as a whole")
    batching: BatchingSection | None = Field(default=None, description="Default: endpoint.batching")
    autoscaling: AutoscalingSection | None = Field(default=None, description="Default: endpoint.autoscaling")


def _predictors(value: tuple[PredictorSection, ...]) -> tuple[PredictorSection, ...]:
    names = [predictor.name for predictor in value]
    repeated = next((index for index, name in enumerate(names) if name in names[:index]), None)
    if repeated is not None:
        raise Refusal(NAME_REPEATED, at=(repeated, "name"))
    return value


Predictors = Annotated[
    tuple[PredictorSection, ...], Field(strict=False, max_length=MAX_BY_HAND), AfterValidator(_predictors)
]


class ServingSection(Section):
    """How versions are served, whatever the target."""

    weight: int = Field(
        default=100, ge=1, le=1_000_000, description="Share of the versions that the pipeline deploys, all together"
    )
    replicas: Replicas = Field(default=1, description="Servers of each version that the pipeline deploys")
    resources: ServerResources = Field(default_factory=ServerResources, description="What each server may use")
    batching: BatchingSection = Field(default_factory=BatchingSection, description="Requests in one call of the model")
    autoscaling: AutoscalingSection | None = Field(default=None, description="Default: the number stays replicas")
    sticky: StickySection | None = Field(default=None, description="Default: {header: x-user}")
    mirror: MirrorSection | None = Field(default=None, description="Default: no request is copied")
    predictors: Predictors = Field(default=(), description="Added by hand, beside what the pipeline deploys")

    def serving(self) -> dict[str, Any]:
        """Return what is set of these keys, as in the YAML."""
        keys = {*ServingSection.model_fields}
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True, include=keys)
