"""Cycles of models that start each other by their assets and would train without end."""

from collections.abc import Mapping
from typing import NamedTuple

from modelway.fields.refusal import Refusal
from modelway.spec.model import ModelSpec
from modelway.spec.problems import Place, Problem, problem_of

_OWN = "modelway://"


class Started(NamedTuple):
    """The models whose versions start a run of another model, and the place in its spec."""

    by: tuple[str, ...]
    place: Place


def starting(spec: ModelSpec) -> tuple[str, ...]:
    """Return the models whose versions start a run of this model."""
    assets = spec.schedule.assets if spec.schedule else ()
    return tuple(asset.removeprefix(_OWN) for asset in assets if asset.startswith(_OWN))


def cycle_problems(started: Mapping[str, Mapping[str | None, Started | None]]) -> dict[str, Problem]:
    """Return the problems of models that start themselves through others, in one of the environments or without one.

    :param started: by model and by environment; models may have different environments, and each has None
    """
    found: dict[str, Problem] = {}
    for environment in (None, *sorted({name for of in started.values() for name in of if name})):
        here = {model: one for model, of in started.items() if (one := of.get(environment, of[None]))}
        for model, cycle in _cycles({model: one.by for model, one in here.items()}).items():
            place = here[model].place
            what = f"each version would start the next run, without end: {' → '.join(cycle)}"
            what = f"in the environment {environment}, {what}" if environment else what
            refusal = Refusal(what, do="Break the cycle at one of them")
            # A cycle without any environment is also in most environments.
            found.setdefault(model, problem_of(refusal, file=place.file, where="schedule.assets", place=place[1:]))
    return found


def _cycles(above: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return the models that start themselves through others, each with its shortest cycle."""
    cycles = {name: _shortest_cycle(name, above) for name in above}
    return {name: cycle for name, cycle in cycles.items() if cycle}


def _shortest_cycle(name: str, above: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the shortest cycle by which a model's versions start it again, empty if there is none."""
    paths: list[tuple[str, ...]] = [(name,)]
    seen = set()
    for path in paths:
        for one in above.get(path[-1], ()):
            if one == name:
                return (*path, name)[::-1]
            if one not in seen:
                seen.add(one)
                paths.append((*path, one))
    return ()
