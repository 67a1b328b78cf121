"""Models whose endpoints would have one name: ``digits`` has ``digits-prod`` in its environment ``prod``."""

from collections.abc import Mapping
from typing import NamedTuple

from modelway.fields.refusal import Refusal
from modelway.spec.environments import environments_of
from modelway.spec.model import ModelSpec
from modelway.spec.problems import Place, Problem, problem_of


class Served(NamedTuple):
    """The endpoints of a model, and the place in its spec that names them."""

    names: tuple[str, ...]
    place: Place


def endpoints_of(spec: ModelSpec) -> tuple[str, ...]:
    """Return the names of a model's endpoints."""
    return tuple(serving.endpoint for serving in environments_of(spec.model, spec.endpoint).values())


def endpoint_problems(served: Mapping[str, Mapping[str | None, Served | None]]) -> dict[str, Problem]:
    """Return the problems of models one of whose environments has the endpoint of another model.

    :param served: by model and by environment of the spec; models may have different ones, and each has None
    """
    found: dict[str, Problem] = {}
    for environment in (None, *sorted({name for of in served.values() for name in of if name})):
        here = {model: one for model, of in served.items() if (one := of.get(environment, of[None]))}
        first: dict[str, str] = {}
        # An endpoint that is called as its model is in nobody's environment.
        for model, one in sorted(here.items(), key=lambda each: each[1].names != (each[0],)):
            taken = next((name for name in one.names if name in first), None)
            if taken is not None:
                refusal = Refusal(
                    f"its endpoint {taken} is already that of the model {first[taken]}",
                    do="Rename the model, or the environment",
                )
                file, line, column = one.place
                problem = problem_of(refusal, file=file, where="endpoint.environments", place=(line, column))
                found.setdefault(model, problem)
            for name in one.names:
                first.setdefault(name, model)
    return found
