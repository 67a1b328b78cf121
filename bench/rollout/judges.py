"""Who judges the simulated canaries: modelway, fixed thresholds as two tools document them, a z-test at each look.

Each returns, per run, the minute of the rollback (0: none), and whether the canary was promoted.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from modelway.endpoints.judge import Analysis, Evidence, Observation, Step, begin, decide, update
from scenarios import BOUNDS, LOOK_SECONDS, Array, Counts, Scenario

#: an hour's answers of the stable version before the rollout, from which "slow" is known
BEFORE_MINUTES = 60


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of each run."""

    #: the minute of the rollback, 0 where there was none
    rolled_back: Array
    promoted: Array


Judge = Callable[[Scenario, Counts], Outcome]


def modelway(scenario: Scenario, counts: Counts) -> Outcome:
    """The judge of the product, each minute."""
    runs = counts.requests[0].shape[0]
    found = [_one(scenario, counts, run) for run in range(runs)]
    return Outcome(rolled_back=np.array([at for at, _ in found]), promoted=np.array([done for _, done in found]))


def _one(scenario: Scenario, counts: Counts, run: int) -> tuple[int, bool]:
    """Return the minute of one run's rollback and whether it was promoted."""
    analysis = Analysis()
    readings = _readings(counts, run)
    stable, canary = next(readings)
    evidence, minute = None, 0
    for weight, minutes in scenario.steps:
        step = Step(weight=weight, hold_seconds=minutes * LOOK_SECONDS, requests=100)
        evidence = begin(stable=stable, canary=canary, after=evidence)
        for lasted in range(1, minutes + 1):
            stable, canary = next(readings)
            minute += 1
            evidence = update(evidence, stable=stable, canary=canary, expected_share=weight / 100, analysis=analysis)
            verdict = decide(evidence, analysis, step=step, seconds=lasted * LOOK_SECONDS)
            if verdict.action == "rollback":
                return minute, False
        if verdict.action != "promote":
            return _after_the_hour(evidence, analysis, step, minutes, minute)
    return 0, True


def _after_the_hour(evidence: Evidence, analysis: Analysis, step: Step, minutes: int, minute: int) -> tuple[int, bool]:
    """Return what becomes of a step that is not over in time when nothing more is counted."""
    seconds = minutes * LOOK_SECONDS + analysis.patience_seconds
    verdict = decide(evidence, analysis, step=step, seconds=seconds)
    at = minute + int(analysis.patience_seconds) // LOOK_SECONDS
    return (at, False) if verdict.action == "rollback" else (0, verdict.action == "promote")


def _readings(counts: Counts, run: int) -> Iterator[tuple[Observation, Observation]]:
    """Yield what the counters of the stable version and of the canary read before the rollout and at each look."""
    per_arm = []
    for arm in (0, 1):
        columns = (counts.requests[arm], counts.errors[arm], counts.labelled[arm], counts.wrong[arm])
        plain = np.stack([np.cumsum(each[run]) for each in columns], axis=1).tolist()
        times = np.cumsum(counts.times[arm][run], axis=0)
        per_arm.append((plain, times.tolist()))
    first = counts.times[0][run].sum(axis=0) * BEFORE_MINUTES // max(1, counts.times[0].shape[1])
    before = first.tolist()
    yield Observation(latency=dict(zip(BOUNDS, before, strict=True))), _observation([0, 0, 0, 0], [0] * len(BOUNDS))
    (stable, stable_times), (canary, canary_times) = per_arm
    for at in range(len(stable)):
        times = [count + more for count, more in zip(before, stable_times[at], strict=True)]
        yield _observation(stable[at], times), _observation(canary[at], canary_times[at])


def _observation(plain: list[int], times: list[int]) -> Observation:
    requests, errors, labelled, wrong = plain
    latency = dict(zip(BOUNDS, times, strict=True))
    return Observation(requests=requests, errors=errors, labelled=labelled, wrong=wrong, latency=latency)


def flagger(scenario: Scenario, counts: Counts) -> Outcome:
    """Flagger's documented canary: each minute at least 99 % succeed and p99 is at most 500 ms; 5 failed checks."""
    requests, errors = counts.requests[1], counts.errors[1]
    slow = counts.times[1][:, :, BOUNDS.index(0.5) + 1 :].sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Without requests the metric has no value, which is a failed check.
        failed = ~((1 - errors / requests >= 0.99) & (slow / requests <= 0.01))
    return _after(failed, 5)


def argo(scenario: Scenario, counts: Counts) -> Outcome:
    """Argo Rollouts' documented analysis: each five minutes at least 95 % succeed; the fourth failure aborts."""
    every = 5
    minutes = counts.requests[1].shape[1] // every * every
    shape = (counts.requests[1].shape[0], minutes // every, every)
    requests = counts.requests[1][:, :minutes].reshape(shape).sum(axis=2)
    errors = counts.errors[1][:, :minutes].reshape(shape).sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        # An empty result is an error of the measurement; five of them in a row end the analysis.
        failed = ~(1 - errors / requests >= 0.95)
    found = _after(failed, 4)
    return Outcome(rolled_back=found.rolled_back * every, promoted=found.promoted)


def z_test(scenario: Scenario, counts: Counts) -> Outcome:
    """Two z-tests each minute, of failed and of slow requests, on all counts until then; 5 % together."""
    before = counts.times[0].sum(axis=(0, 1))
    above = before[::-1].cumsum()[::-1] / max(1, before.sum())
    slow_from = int(np.argmin(np.abs(above - 0.1)))
    worse = np.zeros(counts.requests[0].shape, dtype=bool)
    slow = tuple(times[:, :, slow_from:].sum(axis=2) for times in counts.times)
    for bad in (counts.errors, slow):
        n = [np.cumsum(each, axis=1) for each in counts.requests]
        x = [np.cumsum(each, axis=1) for each in bad]
        with np.errstate(invalid="ignore", divide="ignore"):
            pooled = (x[0] + x[1]) / (n[0] + n[1])
            z = (x[1] / n[1] - x[0] / n[0]) / np.sqrt(pooled * (1 - pooled) * (1 / n[0] + 1 / n[1]))
            worse |= z > 1.96
    return _after(worse, 1)


def _after(failed: Array, most: int) -> Outcome:
    """Return the outcome of a rule that rolls back at the given number of failed checks."""
    reached = np.cumsum(failed, axis=1) >= most
    back = reached.any(axis=1)
    return Outcome(rolled_back=np.where(back, reached.argmax(axis=1) + 1, 0), promoted=~back)


JUDGES: Mapping[str, Judge] = {
    "modelway": modelway,
    "thresholds (Flagger)": flagger,
    "thresholds (Argo)": argo,
    "z-test": z_test,
}


def summary(outcome: Outcome, *, hour: int) -> dict[str, Any]:
    """Return the shares of the runs that were rolled back and promoted, and the median minute."""
    runs = len(outcome.rolled_back)
    minutes = outcome.rolled_back[outcome.rolled_back > 0]
    return {
        "rolled_back": round(len(minutes) / runs, 4),
        "within_the_hour": round(float((minutes <= hour).sum()) / runs, 4),
        "promoted": round(float(outcome.promoted.sum()) / runs, 4),
        "median_minute": None if not len(minutes) else math.ceil(float(np.median(minutes))),
    }
