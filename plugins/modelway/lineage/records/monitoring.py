"""What the lineage has of the monitor: the state of an endpoint, what a check counted, requests, labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

#: the outcome of a request whose run made no version
FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class MonitorState:
    """What the monitor remembers of an endpoint between two checks."""

    endpoint: str
    model: str
    revision: int = 0
    state: Mapping[str, Any] = field(default_factory=dict)
    updated_at: datetime | None = None


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
