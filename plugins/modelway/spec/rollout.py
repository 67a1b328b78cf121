"""The steps of a rollout and how a new version is judged, as the section ``rollout`` has them."""

from typing import Annotated

from pydantic import AfterValidator, Discriminator, Field, Tag

from modelway.fields.refusal import Refusal, shown
from modelway.fields.section import Section
from modelway.fields.values import Duration


class StepSection(Section):
    """One step of a rollout, in place of its weight alone."""

    weight: int = Field(description="Percent of traffic")
    hold_seconds: Duration | None = Field(
        default=None, alias="hold", description="Least time that the step takes; default: rollout.interval"
    )
    requests: int | None = Field(
        default=None,
        ge=0,
        le=10**9,
        description="Least requests to the version in this step; default: rollout.minimum_requests, 0 at 100 %",
    )


def _weights(steps: tuple[int | StepSection, ...]) -> tuple[int | StepSection, ...]:
    weights = [step if isinstance(step, int) else step.weight for step in steps]
    rising = all(0 < weight <= 100 for weight in weights) and weights == sorted(set(weights))
    if not weights or weights[-1] != 100 or not rising:
        do = "Write them in rising order, from 1" if weights and weights[-1] == 100 else "End with 100"
        raise Refusal(f"weights must rise to 100, got {shown(weights)}", do=do)
    return steps


_Step = Annotated[
    Annotated[int, Tag("[text]")] | Annotated[StepSection, Tag("[section]")],
    Discriminator(lambda value: "[section]" if isinstance(value, dict | StepSection) else "[text]"),
]
# YAML yields lists: a frozen spec has tuples, whose members stay strict.
Steps = Annotated[tuple[_Step, ...], Field(strict=False), AfterValidator(_weights)]
MinimumRequests = Annotated[int, Field(ge=0, le=10**9)]


class AnalysisSection(Section):
    """How a new version is compared with the one that serves while both get requests, see endpoints.md."""

    enabled: bool = Field(default=True, description="false: only maximum_error_rate is checked")
    false_rollbacks: float = Field(
        default=0.05, gt=0, le=0.5, description="Of the versions that are no worse, at most this share is rolled back"
    )
    error_tolerance: float = Field(
        default=1.1, ge=1, le=100, description="Accepted odds of a failed request, as a multiple of the other version's"
    )
    latency: bool = Field(default=True, description="Whether the times of the answers are compared")
    latency_tolerance: float = Field(
        default=1.5, ge=1, le=100, description="Accepted odds of a slow answer, as a multiple of the other version's"
    )
    maximum_error_rate: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="Share of failed requests that is never accepted, above the other version's",
    )
    split_tolerance: float = Field(
        default=1.5, ge=1, le=100, description="By how many times the odds of a version may differ from the weights"
    )
    patience_seconds: Duration = Field(
        default=3600,
        alias="patience",
        description="How long a step may take beyond its time, for requests or a result, before the rollout is aborted",
    )
