"""What is known of a rollout: the counts read last, their sums, and the evidence of each test."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from modelway.endpoints.judge.e_process import Logs, log_mean, more_evidence, no_evidence
from modelway.endpoints.judge.observation import Observation
from modelway.endpoints.judge.settings import Analysis

#: answers of the stable version that must have a time before the bounds of "slow" are chosen
_TIMED = 100
#: a bucket's bound is of use when this share of the stable version's answers, and no more than the rest, is slower
_LEAST_SHARE = 0.02
#: first answers of a new version whose times are left out: it fills its caches
WARM_UP = 100
#: a version with more than this share of the requests may be slower by that alone
_FAIR_SHARE = 0.5
#: the tests of the split: whether the new version got more requests than its weight says, or fewer
_SPLIT = ("more", "fewer")


@dataclass(frozen=True, kw_only=True)
class SlowBound:
    """A bucket's bound above which an answer is slow."""

    seconds: float
    #: whether slow answers are counted, else fast ones: the kind that the stable version has less of
    counts_slow: bool
    #: since the bound was chosen: slow answers and all, of the new version and of the stable one
    canary: tuple[int, int] = (0, 0)
    stable: tuple[int, int] = (0, 0)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that the judge knows of one rollout; plain JSON by :meth:`to_dict`."""

    #: the counts as they were read last
    stable: Observation | None = None
    canary: Observation = field(default_factory=Observation)
    #: their sums since the rollout began
    stable_total: Observation = field(default_factory=Observation)
    canary_total: Observation = field(default_factory=Observation)
    #: their sums since the step began
    stable_step: Observation = field(default_factory=Observation)
    canary_step: Observation = field(default_factory=Observation)
    #: the logarithms of the products of each test, see ``e_process``
    tests: Mapping[str, Logs] = field(default_factory=dict)
    slow: tuple[SlowBound, ...] = ()

    def log_e(self, test: str) -> float:
        """Return the logarithm of a test's e-value; 0 where it has no data."""
        if test == "split":
            return log_mean([log for each in _SPLIT for log in self.tests.get(each, ())])
        if test == "latency":
            return log_mean([log for bound in self.slow for log in self.tests.get(_latency(bound), no_evidence())])
        return log_mean(self.tests.get(test, ()))

    def slowest(self) -> SlowBound | None:
        """Return the bound with most evidence."""
        known = [bound for bound in self.slow if _latency(bound) in self.tests]
        return max(known, key=lambda bound: log_mean(self.tests[_latency(bound)]), default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        sums = ("canary", "stable_total", "canary_total", "stable_step", "canary_step")
        return {
            **{name: getattr(self, name).to_dict() for name in sums},
            "stable": None if self.stable is None else self.stable.to_dict(),
            "tests": {name: [round(log, 6) for log in logs] for name, logs in self.tests.items()},
            "slow": [[bound.seconds, bound.counts_slow, [*bound.canary], [*bound.stable]] for bound in self.slow],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` returned."""
        sums = ("canary", "stable_total", "canary_total", "stable_step", "canary_step")
        return cls(
            **{name: Observation.from_dict(data[name]) for name in sums},
            stable=None if data["stable"] is None else Observation.from_dict(data["stable"]),
            tests={name: tuple(logs) for name, logs in data["tests"].items()},
            slow=tuple(
                SlowBound(seconds=seconds, counts_slow=slow, canary=tuple(canary), stable=tuple(stable))
                for seconds, slow, canary, stable in data["slow"]
            ),
        )


def begin(*, stable: Observation | None, canary: Observation, after: Evidence | None = None) -> Evidence:
    """Return the evidence at the begin of a step: the counts from which it counts.

    What was counted since the last look of the step before is left out: some of it was of the weights before.

    :param stable: None where no other version serves
    :param after: what is known from the steps before: all of it stays, but the counts of the step are 0
    """
    found = replace(after or Evidence(), stable=stable, canary=canary)
    return _with_bounds(replace(found, stable_step=Observation(), canary_step=Observation()))


def update(
    evidence: Evidence,
    *,
    stable: Observation | None,
    canary: Observation,
    expected_share: float,
    analysis: Analysis,
    gets_copies: bool = False,
) -> Evidence:
    """Return the evidence after one more look at the counts.

    The split must have been the same since the look before, so a look belongs before each change of the weights.

    :param stable: the counts of the stable version; None where there is none
    :param canary: the counts of the new version
    :param expected_share: the new version's share of the requests by the weights, 0 to 1
    :param gets_copies: whether it gets copies of other requests besides, so that its counts do not show the split
    """
    tests = dict(evidence.tests)
    ours, theirs = _interval(evidence, stable=stable, canary=canary)
    for test, hits, others, odds in _events(evidence, ours, theirs, expected_share, analysis):
        if gets_copies and test in _SPLIT:
            continue
        tests[test] = more_evidence(tests.get(test, no_evidence()), hits=hits, others=others, odds=odds)
    slow = evidence.slow
    if _is_fair(evidence, ours, theirs, expected_share, analysis):
        slow = tuple(_with_answers(bound, ours, theirs) for bound in evidence.slow)
        for bound in slow:
            name = _latency(bound)
            tests[name] = _slow_evidence(tests.get(name, no_evidence()), bound, ours, theirs, analysis)
    found = replace(
        evidence,
        stable=evidence.stable if stable is None else stable,
        canary=canary,
        stable_total=evidence.stable_total + theirs,
        canary_total=evidence.canary_total + ours,
        stable_step=evidence.stable_step + theirs,
        canary_step=evidence.canary_step + ours,
        tests=tests,
        slow=slow,
    )
    return _with_bounds(found)


def _interval(
    evidence: Evidence, *, stable: Observation | None, canary: Observation
) -> tuple[Observation, Observation]:
    """Return what both versions' counters counted since the last look.

    Where those of one restarted, nobody knows what of them is new: the interval is left out, for both.
    """
    if stable is None or evidence.stable is None:
        return canary.since_then(evidence.canary), Observation()
    if stable.restarted_after(evidence.stable) or canary.restarted_after(evidence.canary):
        return Observation(since=canary.since), Observation(since=stable.since)
    return canary.since_then(evidence.canary), stable.since_then(evidence.stable)


def _events(
    evidence: Evidence, ours: Observation, theirs: Observation, expected_share: float, analysis: Analysis
) -> Iterator[tuple[str, int, int, float]]:
    """Yield test, hits, other events and the odds of its bound for an interval."""
    bound = _accepted_rate(evidence, analysis)
    yield "failing", ours.errors, ours.requests - ours.errors, bound / (1 - bound)
    if not analysis.enabled:
        return
    tolerance = analysis.error_tolerance
    for test, bad, of in (("errors", "errors", "requests"), ("invalid", "invalid", "requests"), _LABELS):
        odds = _ratio(getattr(ours, of), getattr(theirs, of))
        yield test, getattr(ours, bad), getattr(theirs, bad), tolerance * odds
    if (most := analysis.maximum_difference) is not None and most < 1:
        yield "different", ours.different, ours.compared - ours.different, most / (1 - most)
    if 0 < expected_share < 1:
        sent, others = ours.requests - ours.named, theirs.requests - theirs.named
        odds, tolerance = expected_share / (1 - expected_share), analysis.split_tolerance
        yield "more", sent, others, tolerance * odds
        yield "fewer", others, sent, tolerance / odds


_LABELS = ("labels", "wrong", "labelled")


def _accepted_rate(evidence: Evidence, analysis: Analysis) -> float:
    """Return the share of failed requests that is accepted at most: by what is known before the interval.

    Above the stable version's share (of all that its counters know, by Laplace's rule of succession), so that a
    version that fails as often as the one before is not rolled back for it.
    """
    known = evidence.stable_total
    if evidence.stable is not None and evidence.stable.requests > known.requests:
        known = evidence.stable
    own = (known.errors + 1) / (known.requests + 2) if known.requests else 0.0
    return min(analysis.maximum_error_rate + own, 0.99)


def _ratio(ours: int, theirs: int) -> float:
    return ours / theirs if theirs else 0.0


def _is_fair(
    evidence: Evidence, ours: Observation, theirs: Observation, expected_share: float, analysis: Analysis
) -> bool:
    """Return whether the times of this interval say something about the versions."""
    warm = evidence.canary_total.requests >= WARM_UP
    compared = analysis.enabled and analysis.latency_tolerance is not None
    return compared and warm and expected_share <= _FAIR_SHARE and ours.timed > 0 and theirs.timed > 0


def _with_answers(bound: SlowBound, ours: Observation, theirs: Observation) -> SlowBound:
    slow, count = bound.canary
    slow_before, count_before = bound.stable
    return replace(
        bound,
        canary=(slow + ours.slower_than(bound.seconds), count + ours.timed),
        stable=(slow_before + theirs.slower_than(bound.seconds), count_before + theirs.timed),
    )


def _slow_evidence(
    logs: Sequence[float], bound: SlowBound, ours: Observation, theirs: Observation, analysis: Analysis
) -> Logs:
    """Count the rarer of slow and fast answers, for which the binomial bound loses least."""
    tolerance = analysis.latency_tolerance or 1.0
    slow = (ours.slower_than(bound.seconds), theirs.slower_than(bound.seconds))
    if bound.counts_slow:
        return more_evidence(logs, hits=slow[0], others=slow[1], odds=tolerance * _ratio(ours.timed, theirs.timed))
    fast = (ours.timed - slow[0], theirs.timed - slow[1])
    # A slower version has less of the fast answers: a hit is one of the stable version.
    return more_evidence(logs, hits=fast[1], others=fast[0], odds=tolerance * _ratio(theirs.timed, ours.timed))


def _with_bounds(evidence: Evidence) -> Evidence:
    """Choose the bounds of slow answers once, by what the stable version did until now."""
    stable = evidence.stable
    if evidence.slow or stable is None or stable.timed < _TIMED:
        return evidence
    shares = {bound: stable.slower_than(bound) / stable.timed for bound in sorted(stable.latency)}
    chosen = tuple(
        SlowBound(seconds=bound, counts_slow=share <= 0.5)
        for bound, share in shares.items()
        if _LEAST_SHARE <= share <= 1 - _LEAST_SHARE
    )
    return replace(evidence, slow=chosen)


def _latency(bound: SlowBound) -> str:
    return f"latency {bound.seconds:g}"
