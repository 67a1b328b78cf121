"""The candidates of a sweep, and what became of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelway.runs.messages.checkpoints import Checkpoint
from modelway.runs.messages.message import Message, flat, omitted


@dataclass(frozen=True, kw_only=True)
class Candidate(Message):
    """One of the candidates that DrawCandidatesOperator and ChooseCandidatesOperator return."""

    id: str
    params: Mapping[str, Any] = field(default_factory=dict)
    """those of its own, over those of the stage"""
    checkpoint: Checkpoint | None = omitted()
    """where its next stage starts from"""
    place: int | None = omitted()
    """where it is in the list"""


@dataclass(frozen=True, kw_only=True)
class CandidateResult:
    """What became of a candidate."""

    id: str
    params: Mapping[str, Any] = field(default_factory=dict)
    state: str
    """selected, trained, dropped, stopped or failed"""
    stage: str | None = None
    """the last stage that it was to train"""
    reason: str = ""
    """why it was stopped"""
    checkpoint: str | None = None
    """its best checkpoint's id"""
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    """of that checkpoint"""
    not_finite: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None
    cpu_seconds: float | None = None
    gpu_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Sweep(Message):
    """The XCom ``sweep`` of SelectCandidateOperator."""

    method: str
    selected: str
    """the id of the candidate that became the version"""
    candidates: tuple[CandidateResult, ...] = ()


def candidates_from_xcom(data: Iterable[Any] | None) -> list[Candidate]:
    """Return candidates in order."""
    return [Candidate.from_xcom(each) for each in flat(data)]
