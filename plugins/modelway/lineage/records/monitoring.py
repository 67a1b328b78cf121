"""What the lineage has of the monitor: the state of an endpoint, what a check counted, requests, labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

#: the outcome of a request whose run made no version
FAILED = "failed"
#: the key of a state under which checks that got no answer are noted
UNANSWERED = "unanswered"


@dataclass(frozen=True, kw_only=True)
class MonitorState:
    """What the monitor remembers of an endpoint between two checks."""

    endpoint: str
    model: str
    revision: int = 0
    state: Mapping[str, Any] = field(default_factory=dict)
    updated_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Unanswered:
    """Since when checks of an endpoint found that it does not answer, or only some of its versions do."""

    since: datetime
    reason: str
    in_part: bool = False


@dataclass(frozen=True, kw_only=True)
class LastCheck:
    """What the last check of an endpoint found, in short."""

    endpoint: str
    model: str
    #: the version that served; None: no check has found one yet
    version: int | None
    #: when the endpoint answered a check last
    at: datetime
    #: that the version has answered since the monitor saw it first
    rows: int
    #: the alarms that are raised, by rule, with since when
    alarms: Mapping[str, datetime]
    #: of them, those that led to a request to retrain
    requested: frozenset[str]
    #: None: it answered
    unanswered: Unanswered | None


@dataclass(frozen=True, kw_only=True)
class MonitorSlice:
    """What one check counted of a version, and what each rule said then."""

    endpoint: str
    version: int
    begin: datetime
    end: datetime
    rows: int
    tallies: Mapping[str, Any]
    numbers: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a version answered to a request with an id."""

    request_id: str
    value: float


@dataclass(frozen=True, kw_only=True)
class RetrainRequest:
    """A retraining that a rule requested."""

    model: str
    endpoint: str
    version: int
    at: datetime
    rule: str
    reason: str
    rebuild: bool
    numbers: Mapping[str, Any]
    id: int = 0
    sent_at: datetime | None = None
    run_id: str | None = None
    #: ``version 7``, ``failed``, or None while its run is not over
    outcome: str | None = None


@dataclass(frozen=True, kw_only=True)
class Check:
    """What a check writes, in one transaction."""

    before: MonitorState
    #: when it was
    at: datetime
    #: None: nothing was counted
    counted: MonitorSlice | None = None
    predictions: tuple[Prediction, ...] = ()
    request: RetrainRequest | None = None
    #: counts, predictions and labels of before are removed
    oldest: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class AddedLabels:
    """What became of labels."""

    new: int = 0
    #: that were there already
    same: int = 0
    #: that were there with another value, which they no longer have
    changed: int = 0
    #: of all, those whose request is not known, or not yet: the monitor reads predictions when it checks
    unknown: int = 0


def unanswered_of(state: Mapping[str, Any]) -> Unanswered | None:
    """Return what a state has noted of checks that got no answer; None: the last one got one."""
    found = state.get(UNANSWERED)
    if not isinstance(found, Mapping):
        return None
    since, reason = datetime.fromtimestamp(found["since"], UTC), str(found["reason"])
    return Unanswered(since=since, reason=reason, in_part=bool(found["in_part"]))


def noted(found: Unanswered, *, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return a note for a state: what was there before says since when."""
    earlier = unanswered_of(before)
    since = found.since if earlier is None else earlier.since
    return {UNANSWERED: {"since": since.timestamp(), "reason": found.reason, "in_part": found.in_part}}
