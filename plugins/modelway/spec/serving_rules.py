"""Rules between ``endpoint.target`` and the other keys of ``endpoint``: what the target cannot do is refused."""

from collections.abc import Iterator, Mapping
from typing import Any

from modelway.endpoints.base import endpoint_member
from modelway.endpoints.checking import MISSING
from modelway.fields.refusal import KeyPath, Refusal
from modelway.spec.registry import capabilities

_RESOURCES = {"cpu": "cpu_limit", "memory": "memory_limit", "gpu": "gpu"}
#: rules of the monitor that compare what servers counted
_OF_SKETCHES = ("drift", "quality", "volume")
_DEFAULT_STICKY = {"header": "x-user"}
#: a section whose keys exclude each other: an environment's replaces it
_EXCLUSIVE = "sticky"


def refused_by_target(endpoint: Mapping[str, Any], *, model: object = None) -> Iterator[tuple[KeyPath, Refusal]]:
    """Find keys of ``endpoint``, as written, that its target cannot serve; paths begin within ``endpoint``.

    :param model: the model's name, where it is known: that of an endpoint begins with it
    """
    environments = endpoint.get("environments")
    if not isinstance(environments, dict) or not environments:
        yield from _refused(endpoint, model)
        return
    found: dict[KeyPath, Refusal] = {}
    for name, own in environments.items():
        if not isinstance(own, dict):
            continue
        for path, refusal in _refused(_over(endpoint, own), model):
            # where it is inherited, the target is what does not fit, if that is the environment's own
            at = path if path[0] in own else ("target",) if "target" in own else None
            found.setdefault(path if at is None else ("environments", name, *at), refusal)
    yield from found.items()


def _over(base: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section as written with the values that are set above it, as the spec is read."""
    news = {}
    for key, value in above.items():
        below = base.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping) and key != _EXCLUSIVE
        news[key] = _over(below, value) if both else value  # type: ignore[arg-type]
    return {**base, **news}


def refused_rules(endpoint: Mapping[str, Any], monitor: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Refusal]]:
    """Find rules of ``monitor`` that nothing feeds where versions serve for good: in the last environment.

    Both sections as written; paths begin within ``monitor``.
    """
    environments = endpoint.get("environments")
    last = list(environments.values())[-1] if isinstance(environments, dict) and environments else None
    target = (last if isinstance(last, dict) else {}).get("target", endpoint.get("target", "local"))
    able = capabilities(target, port="endpoints") if isinstance(target, str) else None
    if able is None or "sketches" in able:
        return
    for rule in _OF_SKETCHES:
        if monitor.get(rule) is not None:
            what = f"the target '{target}' does not show what each server counts"
            yield (rule,), Refusal(what, do="Remove the rule, set staleness, or choose another target")


def _refused(endpoint: Mapping[str, Any], model: object) -> Iterator[tuple[KeyPath, Refusal]]:
    target = endpoint.get("target", "local")
    able = capabilities(target, port="endpoints") if isinstance(target, str) else None
    if able is None:
        return
    member = endpoint_member(target)
    if member.letter_first and isinstance(model, str) and model[:1].isdigit():
        what = f"on the target '{target}' the name of an endpoint begins with a letter, and that of this model does not"
        yield ("target",), Refusal(what, do="Rename the model, or choose another target")
    lacks = member.lacks
    section = endpoint.get(target)
    missing = lacks(section if isinstance(section, dict) else {}) if lacks else {}
    for path, capability in _used(endpoint):
        if capability in missing:
            what, _, do = missing[capability].partition("; ")
            yield path, Refusal(what, do=f"Remove the key, or {do}")
        elif capability not in able:
            what = f"the target '{target}' does not have {MISSING[capability]}"
            yield path, Refusal(what, do="Remove the key, or choose another target")
    if member.refuses is not None:
        yield from member.refuses(endpoint)


def _used(endpoint: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    yield from _of_servers(endpoint, ())
    if endpoint.get("sticky") not in (None, _DEFAULT_STICKY):
        yield ("sticky",), "sticky"
    if endpoint.get("mirror") is not None:
        yield ("mirror",), "mirror"
    predictors = endpoint.get("predictors")
    if isinstance(predictors, list) and predictors:
        # beside the two of a rollout
        yield ("predictors",), "several"
        for index, predictor in enumerate(predictors):
            if isinstance(predictor, dict):
                yield from _of_servers(predictor, ("predictors", index))


def _of_servers(section: Mapping[str, Any], path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if section.get("replicas") not in (None, 1):
        yield (*path, "replicas"), "replicas"
    if section.get("autoscaling") is not None:
        yield (*path, "autoscaling"), "autoscaling"
    resources = section.get("resources")
    for key, capability in _RESOURCES.items():
        if isinstance(resources, dict) and resources.get(key):
            yield (*path, "resources", key), capability
