"""Models that start each other by their assets: in a circle, they would train without end."""

from collections.abc import Mapping

from modelway.spec.model import ModelSpec

_OWN = "modelway://"


def starting(spec: ModelSpec) -> tuple[str, ...]:
    """Return the models whose versions start a run of this one."""
    assets = spec.schedule.assets if spec.schedule else ()
    return tuple(asset.removeprefix(_OWN) for asset in assets if asset.startswith(_OWN))


def circles(specs: Mapping[str, ModelSpec]) -> dict[str, tuple[str, ...]]:
    """Return the models that start themselves through others, each with the way back to it."""
    above = {name: found for name, spec in specs.items() if (found := starting(spec))}
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
