"""The environments of an endpoint: the one that runs deploy to, and those that a release names."""

from collections.abc import Mapping
from dataclasses import dataclass

from modelway.errors import InvalidSpec
from modelway.names import endpoint_name
from modelway.spec.sections import EndpointSection, EnvironmentSection


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How a model is served in one environment."""

    endpoint: str
    """the endpoint's name"""
    section: EnvironmentSection
    environment: str | None = None
    """its name, None where the endpoint has none"""
    is_development: bool = False
    """whether it comes before the one in which versions serve for good: no rollout in steps, no alias"""


def environments_of(model: str, section: EndpointSection) -> Mapping[str | None, Serving]:
    """Return the environments by name, in their order; one without a name where the spec has none."""
    names = tuple(section.environments)
    if not names:
        return {None: Serving(endpoint=model, section=section)}
    return {
        name: Serving(
            environment=name,
            endpoint=endpoint_name(model, name) if len(names) > 1 else model,
            section=each,
            is_development=name != names[-1],
        )
        for name, each in section.environments.items()
    }


def serving_in(model: str, section: EndpointSection, environment: str | None, *, last: bool = False) -> Serving:
    """Return one environment, by default the first, or the last.

    :raises InvalidSpec: there is no such environment
    """
    known = environments_of(model, section)
    if environment is None:
        return list(known.values())[-1 if last else 0]
    if environment not in known:
        raise InvalidSpec(
            f"'{environment}' is not an environment of the endpoint of {model}",
            known=[name for name in known if name],
            given=environment,
            do="Name one of them, or add it to endpoint.environments of the model spec",
        )
    return known[environment]
