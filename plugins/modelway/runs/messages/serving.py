"""The messages of serving a version: its image, its deployment, its rollout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from modelway.runs.messages.message import Message, omitted


@dataclass(frozen=True, kw_only=True)
class BuiltImage(Message):
    """What BuildImageOperator returns."""

    digest: str
    reference: str
    model: str | None = None
    version: int | None = None
    tag: str | None = None
    size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Deployment(Message):
    """What DeployModelOperator returns."""

    endpoint: str
    target: str
    url: str | None = None
    host: str | None = None
    port: int | None = None
    path: str | None = None
    """for workers from before format 1 only, as are host and port: others read them from the endpoint"""
    version: int | None = None
    weights: Mapping[str, int] = field(default_factory=dict)
    """percent of the traffic by version"""
    version_url: str | None = omitted()
    """where the version alone answers, on a target whose own address reaches no version by its number"""
    authorisation: Mapping[str, str] | None = omitted()
    """what its address demands: ``{kind, audience}`` of a token; none where anybody may call it"""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What was found in one step of a rollout."""

    weight: int
    counts: Mapping[str, Mapping[str, int]]
    """``{requests, errors}`` by version"""
    action: str | None = omitted()
    """promote or rollback"""
    reason: str | None = omitted()
    tests: Mapping[str, Mapping[str, float]] | None = omitted()
    """``{e, limit}`` by test: the evidence against the version, and how much of it rolls it back"""
    since: float | None = omitted()
    """when it began, in seconds since the epoch"""
    slow: Mapping[str, float | Sequence[int]] | None = omitted()
    """of the ``new`` and the ``stable`` version, the answers that took longer than ``above_seconds``, and all"""


@dataclass(frozen=True, kw_only=True)
class FinishedRollout(Message):
    """What PromoteModelOperator returns."""

    endpoint: str
    url: str | None = None
    version: int
    weights: Mapping[str, int] = field(default_factory=dict)
    """percent of the traffic by version"""
    steps: tuple[StepResult, ...] = ()
