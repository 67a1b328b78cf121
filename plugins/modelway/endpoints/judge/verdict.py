"""The verdict on a step of a rollout: promote, hold or rollback, with the reason and the numbers."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from modelway.endpoints.judge.evidence import Evidence
from modelway.endpoints.judge.observation import Observation
from modelway.endpoints.judge.settings import Analysis, Step
from modelway.fields.units import format_duration

#: a step is over only when no test has more: "substantial" evidence on Jeffreys's scale, which Vovk and Wang use for
#: e-values ("E-values: calibration, combination and applications", 2021)
DOUBT = math.sqrt(10)
#: tests of which one above its limit ends the rollout, the clearest reason first
_TESTS = ("failing", "errors", "latency", "invalid", "labels", "different")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is to be done with a step."""

    action: Literal["promote", "hold", "rollback"]
    #: one phrase for the log and the record
    reason: str
    #: the counts of the step and of the rollout, and ``{e, limit}`` of each test
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def decide(evidence: Evidence, analysis: Analysis, *, step: Step, seconds: float) -> Verdict:
    """Return the verdict on a step.

    *rollback*: a test's e-value is above its limit (at any time, also at once), or the step did not end within its time
    and the patience. *promote*: its time is over, the new version got its requests, the split is as the weights say,
    and no e-value is above :data:`DOUBT`. Else *hold*. What the evidence says counts from the rollout's begin, so that
    all steps together roll a good version back with a probability of ``false_rollbacks`` at most.

    :param step: the step that is being judged
    :param seconds: how long it has lasted
    """
    numbers = _numbers(evidence, analysis)
    if reason := next(_failed(evidence, analysis), None):
        return Verdict(action="rollback", reason=reason, numbers=numbers)
    if seconds < step.hold_seconds:
        return Verdict(action="hold", reason=f"the step lasts {_time(step.hold_seconds)}", numbers=numbers)
    if (reason := next(_open(evidence, analysis, step), None)) is None:
        return Verdict(action="promote", reason="nothing speaks against it", numbers=numbers)
    if seconds < step.hold_seconds + analysis.patience_seconds:
        return Verdict(action="hold", reason=reason, numbers=numbers)
    reason = f"no result within {_time(seconds)} at {step.weight} %: {reason}"
    return Verdict(action="rollback", reason=reason, numbers=numbers)


def _failed(evidence: Evidence, analysis: Analysis) -> Iterator[str]:
    """Yield what is wrong with the new version."""
    for test in _TESTS:
        if evidence.log_e(test) >= math.log(analysis.limit(test)):
            e, limit = _shown(evidence.log_e(test)), analysis.limit(test)
            yield f"{_difference(test, evidence)} (e-value {e:,.4g}, the limit is {limit:,.4g})"


def _open(evidence: Evidence, analysis: Analysis, step: Step) -> Iterator[str]:
    """Yield why a step whose time is over is not."""
    if analysis.enabled and evidence.log_e("split") >= math.log(analysis.limit("split")):
        ours, theirs = evidence.canary_total, evidence.stable_total
        sent, all_sent = ours.requests - ours.named, ours.requests - ours.named + theirs.requests - theirs.named
        yield (
            f"the split is broken: the new version got {sent:,} of {all_sent:,} requests, which the weights do not "
            "explain; a few users who send most of the requests, and stay with their version, do, or a gateway beside"
        )
    if (count := evidence.canary_step.requests) < step.requests:
        yield f"{count:,} of at least {step.requests:,} requests reached the new version"
    doubtful = [test for test in _TESTS if evidence.log_e(test) > math.log(DOUBT)]
    if doubtful:
        test = max(doubtful, key=evidence.log_e)
        yield f"in doubt, e-value {_shown(evidence.log_e(test)):.3g}: {_difference(test, evidence)}"


def _difference(test: str, evidence: Evidence) -> str:
    """Return what a test compares, with its counts."""
    ours, theirs = evidence.canary_total, evidence.stable_total
    if test == "failing":
        return f"{ours.errors:,} of {ours.requests:,} requests to the new version failed"
    if test == "different":
        return f"{ours.different:,} of {ours.compared:,} mirrored requests were answered differently"
    if test == "latency":
        return _slower(evidence)
    bad, of, what = {
        "errors": ("errors", "requests", "requests to the new version failed"),
        "invalid": ("invalid", "requests", "answers of the new version are invalid"),
        "labels": ("wrong", "labelled", "answers of the new version turned out wrong"),
    }[test]
    ours_bad, ours_all, theirs_bad, theirs_all = (getattr(arm, name) for arm in (ours, theirs) for name in (bad, of))
    return f"{ours_bad:,} of {ours_all:,} {what}, and {theirs_bad:,} of {theirs_all:,} of the stable one"


def _slower(evidence: Evidence) -> str:
    if (bound := evidence.slowest()) is None:
        return "its answers are slower"
    (ours, all_ours), (theirs, all_theirs) = bound.canary, bound.stable
    milliseconds = f"{bound.seconds * 1000:g} ms"
    return (
        f"{ours:,} of {all_ours:,} answers of the new version took more than {milliseconds}, "
        f"and {theirs:,} of {all_theirs:,} of the stable one"
    )


def _numbers(evidence: Evidence, analysis: Analysis) -> dict[str, Any]:
    ours, theirs = evidence.canary_total, evidence.stable_total
    tests = {
        test: {"e": _shown(evidence.log_e(test)), "limit": round(analysis.limit(test), 3)}
        for test in (*_TESTS, "split")
        if evidence.log_e(test) != 0.0
    }
    found: dict[str, Any] = {
        "new": _counts(ours),
        "stable": _counts(theirs),
        "tests": tests,
    }
    if (bound := evidence.slowest()) is not None:
        slow = {"new": [*bound.canary], "stable": [*bound.stable]}
        found["slow"] = {"above_seconds": bound.seconds, **slow}
    return found


def _counts(found: Observation) -> dict[str, int]:
    counts = {"requests": found.requests, "errors": found.errors}
    return counts | ({"invalid": found.invalid} if found.invalid else {})


def _shown(log_e: float) -> float:
    """Return an e-value with a few digits; it is never infinite."""
    return float(f"{math.exp(min(log_e, 300.0)):.4g}")


def _time(seconds: float) -> str:
    return format_duration(int(seconds))
