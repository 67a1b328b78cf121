"""Checkpoints of training, and what each of its stages reports."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelway.artifacts.store import Artifact
from modelway.errors import NothingToSelect
from modelway.runs.messages.message import Message, Xcom, flat, omitted


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Message):
    """One of the checkpoints that TrainModelOperator returns."""

    id: str
    uri: str
    digest: str
    size: int
    stage: str | None = None
    step: int | None = None
    candidate: str | None = omitted()
    """the candidate of a sweep that it is of"""
    params: Mapping[str, Any] | None = omitted()
    """the parameters of that candidate"""
    place: int | None = omitted()
    """where that candidate is in the list over which the stage is expanded"""

    @property
    def artifact(self) -> Artifact:
        """The checkpoint in the artifact store."""
        return Artifact(uri=self.uri, digest=self.digest, size=self.size)


def checkpoints_from_xcom(data: Iterable[Any] | None) -> list[Checkpoint]:
    """Return the checkpoints of one or several trainings, each once.

    Of a candidate's the first of a name counts: the others are of a place that a cleared run no longer has.

    :raises NothingToSelect: two of them have one name
    """
    found: dict[str, Checkpoint] = {}
    for each in map(Checkpoint.from_xcom, flat(data)):
        known = found.setdefault(each.id, each)
        if known.digest != each.digest and each.candidate is None:
            raise NothingToSelect(
                f"two checkpoints are called {each.id}: their evaluations cannot be distinguished",
                do="Give each training a stage of its own",
            )
    return list(found.values())


def to_xcom(messages: Iterable[Message]) -> list[Xcom]:
    """Return a list of messages as plain JSON."""
    return [each.to_xcom() for each in messages]


@dataclass(frozen=True, kw_only=True)
class JobCost:
    """The cost of a job, over all of its attempts, and where it ran; None where that is not known."""

    seconds: float | None = None
    cpu_seconds: float | None = None
    gpu: int | None = None
    """GPUs of all of its nodes"""
    peak_memory_bytes: int | None = None
    image_digest: str | None = None
    backend: str | None = None


@dataclass(frozen=True, kw_only=True)
class StageReport(JobCost, Message):
    """The XCom ``report`` of TrainModelOperator."""

    stage: str
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    events: Artifact | None = None
    """what the job reported"""
    skipped: bool = False
    candidate: str | None = omitted()
    """the candidate of a sweep that it is of"""
    stopped: str | None = omitted()
    """why the training ended early"""
    place: int | None = omitted()
    """where that candidate is in the list over which the stage is expanded"""


def reports_from_xcom(data: Iterable[Any] | None) -> list[StageReport]:
    """Return the reports of all stages, skipped ones too, in order."""
    return [StageReport.from_xcom(each) for each in flat(data)]
