"""Simulated traffic of a model, quarter of a day by quarter: what comes in, what is answered, and what was right.

A model has six numbers and one category as inputs and answers with scores of five classes. It is evaluated on 1,000
rows of the distribution of its first day, or of the day on which it is retrained.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

NUMBERS, CLASSES = 6, 5
CATEGORIES = np.array(["a", "b", "c", "d"])
QUARTERS = 4
#: when something happens, in days
EVENT_DAY = 8 * 7 + 3
REFERENCE_ROWS = 1000
Array = np.ndarray


@dataclass(frozen=True)
class Rows:
    """Some requests with their answers."""

    numbers: Array
    categories: Array
    scores: Array
    right: Array


@dataclass(frozen=True)
class World:
    """How the requests of a moment are distributed."""

    #: of the first two numbers, in standard deviations
    shift: float = 0.0
    #: of the classes
    prior: tuple[float, ...] = (0.3, 0.25, 0.2, 0.15, 0.1)
    accuracy: float = 0.92
    #: the third number is all zero
    is_broken: bool = False


@dataclass(frozen=True, kw_only=True)
class Case:
    """What happens in the half year, by the day."""

    name: str
    world: Callable[[float], World]
    requests_a_day: int = 1000
    #: retrainings that are right; None: as many as the drift needs
    events: int | None = 0
    #: whether the event must be found within a day
    at_once: bool = False


def _after(changed: World) -> Callable[[float], World]:
    return lambda day: changed if day >= EVENT_DAY else World()


def _season(day: float) -> World:
    """Return a week whose end has more of the second class: every day is like the one a week before."""
    more = 0.06 * np.sin(2 * np.pi * day / 7)
    return World(prior=(0.3 - more, 0.25 + more, 0.2, 0.15, 0.1))


CASES = (
    Case(name="no change", world=lambda day: World()),
    Case(name="slow covariate drift", world=lambda day: World(shift=1.5 * min(1.0, day / 91)), events=None),
    Case(name="sudden drift", world=_after(World(shift=1.0)), events=1, at_once=True),
    Case(name="label shift", world=_after(World(accuracy=0.78)), events=1),
    Case(name="prior shift by season", world=_season),
    Case(name="broken upstream column", world=_after(World(is_broken=True)), events=1, at_once=True),
    Case(name="few requests", world=lambda day: World(), requests_a_day=20),
)


def draw(world: World, count: int, generator: np.random.Generator) -> Rows:
    """Return so many requests."""
    truth = generator.choice(CLASSES, size=count, p=world.prior)
    numbers = generator.normal(0, 1, (count, NUMBERS)).astype(np.float32)
    numbers[:, :2] += world.shift
    numbers[:, 3] = np.exp(numbers[:, 3])
    numbers[:, 4] += 0.5 * truth
    if world.is_broken:
        numbers[:, 2] = 0
    categories = generator.choice(CATEGORIES, size=count, p=[0.5, 0.3, 0.15, 0.05]).astype(object)
    right = generator.random(count) < world.accuracy
    answer = np.where(right, truth, (truth + 1) % CLASSES)
    scores = generator.normal(0, 0.2, (count, CLASSES)).astype(np.float32)
    scores[np.arange(count), answer] += 2
    return Rows(numbers, categories, scores, right)


def first_reference(case: Case, *, seed: int) -> Rows:
    """Return the rows that a model's first version was evaluated on."""
    return draw(case.world(0), REFERENCE_ROWS, np.random.default_rng([seed, 2]))


def traffic_of(case: Case, *, days: int, seed: int) -> Iterator[Rows]:
    """Yield the requests of each quarter of a day."""
    generator = np.random.default_rng([seed, 0])
    for quarter in range(1, days * QUARTERS + 1):
        yield draw(case.world(quarter / QUARTERS), max(1, case.requests_a_day // QUARTERS), generator)
