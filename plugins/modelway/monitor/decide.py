"""When a finding becomes a request to retrain: once for an event, confirmed, and not too often."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from modelway.monitor.compare import RULES, Finding, by_rule
from modelway.monitor.rules import DAY, Rules

#: checks in a row that must be over a rule's limit
CONFIRM = 2
_WEEK = 7 * DAY


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """The state of a rule between checks."""

    #: checks in a row that were over the limit
    streak: int = 0
    #: since when the alarm is raised; None: it is not
    raised_at: float | None = None
    #: the request that it led to; None: none yet
    request: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` returned."""
        return cls(**data)


@dataclass(frozen=True, kw_only=True)
class Past:
    """A request of before."""

    id: int
    at: float
    #: no run has answered it yet
    in_flight: bool
    #: its run made no version
    failed: bool


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The alarms after a check, and what to request."""

    alarms: Mapping[str, Alarm]
    #: why to retrain; None: nothing is requested
    finding: Finding | None = None
    #: why an alarm leads to no request now; empty where none waits
    waits: str = ""


def decide(
    rules: Rules,
    findings: Sequence[Finding],
    *,
    alarms: Mapping[str, Alarm],
    past: Sequence[Past],
    now: float,
    is_busy: bool = False,
) -> Decision:
    """Return the alarms after a check, and the finding to request a retraining for, if any.

    An alarm is raised by two checks in a row, ends when its finding is clear, and leads to one request; to another one
    only where the run of that one failed. What is undecided changes nothing.

    :param past: the requests for the model
    :param is_busy: a run of the model is not over, whoever started it
    """
    found, after = by_rule(findings), {}
    failed = {each.id for each in past if each.failed}
    for rule in RULES:
        alarm = alarms.get(rule, Alarm())
        if alarm.request in failed:
            alarm = replace(alarm, request=None)
        after[rule] = _next(alarm, found.get(rule), now)
    waiting = [found[rule] for rule in RULES if _wants(after[rule]) and rule in found and found[rule].is_over]
    if not waiting:
        return Decision(alarms=after)
    if waits := "a run of the model is not over" if is_busy else _limit(rules, past, now):
        return Decision(alarms=after, waits=waits)
    return Decision(alarms=after, finding=waiting[0])


def requested(decision: Decision, request: int) -> Mapping[str, Alarm]:
    """Return the alarms once a request is recorded: it is for all that are raised."""
    return {
        rule: replace(alarm, request=request) if _wants(alarm) else alarm for rule, alarm in decision.alarms.items()
    }


def _next(alarm: Alarm, finding: Finding | None, now: float) -> Alarm:
    if finding is None:
        return Alarm()
    if finding.is_undecided:
        return alarm
    if finding.is_over:
        streak = alarm.streak + 1
        raised = alarm.raised_at if alarm.raised_at is not None or streak < CONFIRM else now
        return replace(alarm, streak=streak, raised_at=raised)
    return Alarm() if finding.is_clear else replace(alarm, streak=0)


def _wants(alarm: Alarm) -> bool:
    return alarm.raised_at is not None and alarm.request is None


def _limit(rules: Rules, past: Sequence[Past], now: float) -> str:
    """Return what forbids a request now; empty where nothing does."""
    if any(each.in_flight for each in past):
        return "a retraining is in flight"
    last = max((each.at for each in past), default=None)
    if last is not None and now - last < rules.cool_down_seconds:
        return f"it cools down for {(rules.cool_down_seconds - (now - last)) / 3600:.1f} more hours"
    # One that failed is requested again after the cool-down, and so costs no budget.
    if sum(now - each.at < _WEEK for each in past if not each.failed) >= rules.budget_per_week:
        return f"the budget of {rules.budget_per_week} a week is spent"
    return ""
