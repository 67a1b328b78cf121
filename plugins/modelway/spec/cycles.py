"""Models that start each other by their assets: in a circle, they would train without end."""

from collections.abc import Mapping
from typing import NamedTuple

from modelway.fields.refusal import Refusal
from modelway.spec.model import ModelSpec
from modelway.spec.problems import Place, Problem, problem_of

_OWN = "modelway://"


class Started(NamedTuple):
    """The models whose versions start a run of another one, and where that one says so."""

    by: tuple[str, ...]
    place: Place


def starting(spec: ModelSpec) -> tuple[str, ...]:
    """Return the models whose versions start a run of this one."""
    assets = spec.schedule.assets if spec.schedule else ()
    return tuple(asset.removeprefix(_OWN) for asset in assets if asset.startswith(_OWN))


def circle_problems(started: Mapping[str, Mapping[str | None, Started | None]]) -> dict[str, Problem]:
    """Return the problems of the models that start themselves through others, in one of the environments or without.

    :param started: by model and by environment, of which each model may have others; each has None
    """
    found: dict[str, Problem] = {}
    for environment in (None, *sorted({name for of in started.values() for name in of if name})):
        here = {model: one for model, of in started.items() if (one := of.get(environment, of[None]))}
        for model, way in _circles({model: one.by for model, one in here.items()}).items():
            place = here[model].place
            what = f"each version would start the next run, without end: {' → '.join(way)}"
            what = f"in the environment {environment}, {what}" if environment else what
            refusal = Refusal(what, do="Break the circle at one of them")
            # One that is there without any environment is in most of them.
            found.setdefault(model, problem_of(refusal, file=place.file, where="schedule.assets", place=place[1:]))
    return found


def _circles(above: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return the models that start themselves through others, each with the way back to it."""
    ways = {name: _way(name, above) for name in above}
    return {name: way for name, way in ways.items() if way}


def _way(name: str, above: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the shortest way by which a model's versions come back to start it, or nothing."""
    ways: list[tuple[str, ...]] = [(name,)]
    seen = set()
    for way in ways:
        for one in above.get(way[-1], ()):
            if one == name:
                return (*way, name)[::-1]
            if one not in seen:
                seen.add(one)
                ways.append((*way, one))
    return ()
