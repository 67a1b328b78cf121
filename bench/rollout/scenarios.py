"""Simulated canaries: what the counters of both versions read, minute by minute."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from modelway.server.core.metrics import SECONDS

#: upper bounds of the server's histogram of answers' times, in seconds
BOUNDS = (*SECONDS, math.inf)
LOOK_SECONDS = 60
Array = Any


@dataclass(frozen=True, kw_only=True)
class Arm:
    """How a version answers."""

    error_rate: float = 0.005
    #: times are lognormal
    median_seconds: float = 0.012
    sigma: float = 0.4
    #: share of its answers that turn out wrong
    wrong_rate: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A canary beside its stable version."""

    name: str
    good: bool
    canary: Arm
    stable: Arm = Arm()
    requests_per_second: float = 50.0
    #: percent of the requests by the weights, and minutes, of each step
    steps: Sequence[tuple[int, int]] = ((10, 60),)
    #: share of the requests that the canary really gets; None: by the weights
    real_share: float | None = None
    #: of the answers, the share whose label becomes known, and after how many minutes
    labelled: float = 0.0
    label_minutes: int = 10
    #: whether it must be found within the hour, and whether it must never be promoted
    must_be_found: bool = False
    never_promoted: bool = False


_STABLE = Arm()
SCENARIOS = (
    Scenario(name="good", good=True, canary=_STABLE),
    Scenario(name="good, steps of 10, 25 and 50 %", good=True, canary=_STABLE, steps=((10, 20), (25, 20), (50, 20))),
    Scenario(
        name="good, 5 % base errors",
        good=True,
        canary=Arm(error_rate=0.05),
        stable=Arm(error_rate=0.05),
        steps=((10, 60),),
    ),
    Scenario(name="good at the limit, 1.1 times the errors", good=True, canary=replace(_STABLE, error_rate=0.0055)),
    Scenario(name="errors doubled", good=False, canary=replace(_STABLE, error_rate=0.01), must_be_found=True),
    Scenario(
        name="errors doubled, 5 % base errors",
        good=False,
        canary=Arm(error_rate=0.1),
        stable=Arm(error_rate=0.05),
        must_be_found=True,
    ),
    Scenario(name="latency +20 %", good=False, canary=replace(_STABLE, median_seconds=0.0144)),
    Scenario(
        name="worse quality, 15 % wrong for 10 %", good=False, canary=replace(_STABLE, wrong_rate=0.15), labelled=0.2
    ),
    Scenario(name="no traffic", good=False, canary=_STABLE, requests_per_second=0.0, never_promoted=True),
    Scenario(name="broken split, 25 % for 10 %", good=False, canary=_STABLE, real_share=0.25, never_promoted=True),
)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What was counted in each minute: arrays of (runs, minutes), by arm 0 (stable) and 1 (canary)."""

    requests: tuple[Array, Array]
    errors: tuple[Array, Array]
    #: (runs, minutes, buckets)
    times: tuple[Array, Array]
    labelled: tuple[Array, Array]
    wrong: tuple[Array, Array]
    #: the canary's share by the weights, per minute
    shares: Array


def simulate(scenario: Scenario, *, runs: int, seed: int) -> Counts:
    """Draw the counts of all runs."""
    rng = np.random.default_rng(seed)
    shares = np.concatenate([np.full(minutes, weight / 100) for weight, minutes in scenario.steps])
    real = shares if scenario.real_share is None else np.full_like(shares, scenario.real_share)
    total = rng.poisson(scenario.requests_per_second * LOOK_SECONDS, size=(runs, len(shares)))
    canary = rng.binomial(total, real)
    requests = (total - canary, canary)
    arms = (scenario.stable, scenario.canary)
    labelled = tuple(_late(rng.binomial(each, scenario.labelled), scenario.label_minutes) for each in requests)
    return Counts(
        requests=requests,
        errors=tuple(rng.binomial(each, arm.error_rate) for each, arm in zip(requests, arms, strict=True)),
        times=tuple(rng.multinomial(each, _buckets(arm)) for each, arm in zip(requests, arms, strict=True)),
        labelled=labelled,
        wrong=tuple(rng.binomial(each, arm.wrong_rate) for each, arm in zip(labelled, arms, strict=True)),
        shares=shares,
    )


def _late(counts: Array, minutes: int) -> Array:
    late = np.zeros_like(counts)
    late[:, minutes:] = counts[:, :-minutes]
    return late


def _buckets(arm: Arm) -> Array:
    """Return the probability of each bucket."""
    below = [_normal((math.log(bound) - math.log(arm.median_seconds)) / arm.sigma) for bound in BOUNDS[:-1]]
    return np.diff([0.0, *below, 1.0])


def _normal(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))
