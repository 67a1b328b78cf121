"""The next call that brings a service of Cloud Run to what is desired; pure, so that any process continues any other's.

Nothing is remembered but what cannot be seen: which revisions had failed before a change began, what the split was
then, and since when a revision is waited for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelway.endpoints.base import Predictor
from modelway.endpoints.cloud_run import observed
from modelway.endpoints.cloud_run.observed import Seen
from modelway.endpoints.cloud_run.template import Desired, Object
from modelway.endpoints.google.steps import ChangeMemory, Done, Outdated, Patch, Wait, late
from modelway.errors import EndpointNotReady, ImageInvalid, InvalidSpec, ModelwayError

#: seconds after which a split that Cloud Run is done with and does not serve is given up
SPLIT_SECONDS = 10.0
_LEAVING = "the service before to be removed"


@dataclass(frozen=True, kw_only=True)
class Create:
    """Create the service."""

    body: Object


@dataclass(frozen=True, kw_only=True)
class Fail:
    """Leave the split as it is."""

    error: ModelwayError
    #: whether nothing of the service ever served
    remove: bool = False
    #: what the requested split becomes again: that which is served
    restore: list[Object] = field(default_factory=list)


Step = Create | Patch | Wait | Outdated | Fail | Done


@dataclass(kw_only=True)
class Memory(ChangeMemory):
    """What a change remembers from one step to the next; plain JSON."""

    #: revisions that had failed before it began: others are made in their place
    failed: list[str] = field(default_factory=list)


def next_step(
    desired: Desired, seen: Seen | None, names: Mapping[str, str], memory: Memory, *, patience: float
) -> Step:
    """Return the next step.

    :param names: of the revision of each predictor, there or not
    :param patience: seconds that a new revision may take
    """
    spec = desired.spec
    if seen is None:
        first = max(spec.predictors, key=lambda each: each.weight)
        return Create(body={**desired.service(), **_only(desired, first, names)})
    if seen.owner != desired.deployment:
        return Fail(error=_foreign(desired, seen))
    if seen.is_leaving:
        if memory.seconds(_LEAVING) > patience:
            do = "Inspect the service in the console, then deploy again"
            return Fail(error=late(spec.name, _LEAVING, patience, do=do))
        return Wait(what=_LEAVING)
    memory.split = memory.split or seen.shares or None
    for each in spec.predictors:
        revision = seen.revisions.get(names[each.name])
        if revision is None:
            return _added(desired, seen, each, names[each.name], memory)
        if observed.is_ready(revision):
            continue
        if observed.has_failed(revision):
            return _failed(desired, seen, each, revision)
        if memory.seconds(names[each.name]) > patience:
            return _failed(desired, seen, each, revision, late=patience)
        return Wait(what=f"version {each.version} to become ready")
    return _split(desired, seen, names, memory)


def _only(desired: Desired, predictor: Predictor, names: Mapping[str, str]) -> Object:
    """Return template and split of a service that has one predictor yet."""
    name = names[predictor.name]
    whole = {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": name, "percent": 100}
    return {"template": desired.template(predictor, name), "traffic": [{**whole, "tag": desired.tag_of(predictor)}]}


def _added(desired: Desired, seen: Seen, predictor: Predictor, name: str, memory: Memory) -> Step:
    """Make a revision that gets no request; a service whose split follows the latest one is pinned by the same call."""
    if seen.is_changing:
        return Wait(what="the change before to end")
    memory.since.pop(name, None)
    body: Object = {"template": desired.template(predictor, name)}
    if seen.follows_latest and (pinned := seen.pinned()):
        return Patch(body={**body, "traffic": pinned}, mask=("template", "traffic"))
    return Patch(body=body, mask=("template",))


def _failed(desired: Desired, seen: Seen, predictor: Predictor, revision: Object, *, late: float | None = None) -> Fail:
    where = f"endpoint {desired.spec.name}, revision {str(revision['name']).rpartition('/')[2]}"
    why, version = observed.said(revision), predictor.version
    log = str(revision.get("logUri") or "")
    do = observed.advice(revision) or f"Read its log{f' ({log})' if log else ''}"
    do = f"{do}; the split is as it was"
    error: ModelwayError
    if late is None and observed.is_broken(revision):
        error = ImageInvalid(f"version {version} cannot be served: {why}", where=where, do=do)
    elif late is None:
        error = EndpointNotReady(f"version {version} does not become ready: {why}", where=where, do=do)
    else:
        error = EndpointNotReady(f"version {version} is not ready after {late:g} s: {why}", where=where, do=do)
    # Of a new service: what its split names never served.
    remove = not any(observed.is_ready(each) for each in seen.revisions.values()) and not _serves(seen)
    return Fail(error=error, remove=remove)


def _serves(seen: Seen) -> bool:
    return any(each["percent"] for each in seen.actual) or bool(seen.service.get("latestReadyRevision"))


def _split(desired: Desired, seen: Seen, names: Mapping[str, str], memory: Memory) -> Step:
    """Bring the split, and what the service has besides, to what is desired, in one call."""
    body, traffic = desired.service(), desired.traffic(names)
    mask = [key for key, value in body.items() if not _has(key, seen.service.get(key), value)]
    if not seen.is_requested(traffic):
        mask.append("traffic")
    if mask:
        if seen.is_changing:
            return Wait(what="the change before to end")
        if "traffic" in mask and memory.is_outdated(seen.shares):
            return Outdated()
        memory.since.pop("traffic", None)
        for key in ("annotations", "labels"):
            # A mask replaces them whole: those of others stay.
            body[key] = {**(seen.service.get(key) or {}), **body[key]}
        changed = {key: value for key, value in {**body, "traffic": traffic}.items() if key in mask}
        return Patch(body=changed, mask=tuple(sorted(mask)))
    if seen.is_split(traffic):
        return Done()
    if seen.is_changing or memory.seconds("traffic") < SPLIT_SECONDS:
        return Wait(what="the split to take effect")
    return refused_split(seen)


def refused_split(seen: Seen) -> Fail:
    """Return what follows when Cloud Run did not make a split that it had accepted."""
    error = EndpointNotReady(
        f"Cloud Run did not move the traffic: {observed.said(seen.service)}",
        where=f"endpoint {seen.name}",
        do="The split is as it was; try again",
    )
    return Fail(error=error, restore=seen.pinned())


def _has(key: str, found: Any, value: Any) -> bool:
    """Return whether a field of the service has what is ours in it; what the API leaves out is its default."""
    if key in ("annotations", "labels"):
        return all((found or {}).get(name) == one for name, one in value.items())
    if key == "scaling":
        return (found or {}).get("scalingMode") in (None, "SCALING_MODE_UNSPECIFIED", value["scalingMode"])
    return bool(found == value) or (not found and not value)


def _foreign(desired: Desired, seen: Seen) -> InvalidSpec:
    own = desired.own
    return InvalidSpec(
        f"a service '{seen.name}' that is not of this Airflow is in {own.project or 'the project'}, {own.region}",
        where=f"endpoint {desired.spec.name}",
        do="Choose another project or region, or rename the model; to take over what another Airflow made, set "
        "MODELWAY_DEPLOYMENT as it is set there",
    )
