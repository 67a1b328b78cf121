"""The next call that brings an endpoint of Vertex AI to what is desired; pure: any process continues any other's.

Operations take minutes: each call starts one, and what is seen afterwards says what comes next. Only which operations a
change has started is remembered, to say why one failed, and what the split was when it began.
"""

from dataclasses import dataclass, field

from modelway.endpoints.base import Predictor
from modelway.endpoints.checking import read_platform
from modelway.endpoints.google.steps import ChangeMemory, Done, Outdated, Patch, Wait, late
from modelway.endpoints.vertex.bodies import Desired, Object, recorded
from modelway.endpoints.vertex.observed import Seen
from modelway.endpoints.vertex.section import VertexEndpointSection
from modelway.errors import DigestMismatch, EndpointNotReady, ImageInvalid, InvalidSpec, ModelwayError
from modelway.platforms.google.errors import GoogleError

#: what Vertex AI says of a container that does not serve
_BROKEN = ("never became ready", "exited", "failed to start", "crash", "not found")
#: what is waited for before another operation can start on the endpoint
_OTHERS = "the operation before to end"


@dataclass(frozen=True, kw_only=True)
class Start:
    """Start an operation: a POST."""

    #: below the place, such as ``models:upload``
    path: str
    body: Object
    #: what it does, for people
    what: str
    params: dict[str, str] = field(default_factory=dict)
    #: whether nothing after it depends on it
    is_last: bool = False


@dataclass(frozen=True, kw_only=True)
class Cancel:
    """Cancel operations that take too long; they end as soon as Vertex AI can, done or not."""

    operations: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Fail:
    """Leave the split as it is."""

    error: ModelwayError
    #: deployed models that serve nothing and would cost
    undeploy: tuple[str, ...] = ()
    #: whether nothing of the endpoint ever served
    remove: bool = False


Step = Start | Patch | Cancel | Wait | Outdated | Fail | Done


@dataclass(kw_only=True)
class Memory(ChangeMemory):
    """What a change remembers from one step to the next; plain JSON."""

    #: operations that it started and that have not ended, with what they do
    operations: dict[str, str] = field(default_factory=dict)
    #: what took too long: its operation was cancelled, and what comes of it is removed
    late: str = ""
    #: whether it has begun to set the time for answers
    has_set_time: bool = False


def next_step(desired: Desired, seen: Seen | None, memory: Memory, *, patience: float) -> Step:
    """Return the next step.

    :param patience: seconds that one operation may take, and once more after it was cancelled
    """
    if memory.operations:
        return _awaited(desired, memory, patience)
    if memory.late:
        do = "The operation was cancelled, and the split is as it was; deploy again later, or raise ready_within"
        return _left(desired, seen, late(desired.spec.name, memory.late, patience, do=do))
    if seen is None:
        params = {"endpointId": desired.spec.name}
        return Start(path="endpoints", body=desired.endpoint(), params=params, what="the endpoint to be made")
    if seen.owner != desired.deployment:
        return Fail(error=_foreign(desired, seen))
    before = _applied(seen)
    if (fixed := _fixed(desired, before)) is not None:
        return Fail(error=fixed)
    if memory.split is None:
        memory.split = seen.split
    step = _time(desired, before, memory) or _missing(desired, seen) or _split(desired, seen, memory)
    if seen.running and (isinstance(step, Start) or _gives_requests_anew(step, seen)):
        if memory.seconds(_OTHERS) > patience:
            do = "See in the console what runs on it, then deploy again; the split is as it was"
            return Fail(error=late(desired.spec.name, _OTHERS, patience, do=do))
        return Wait(what=_OTHERS)
    memory.since.clear()
    memory.has_set_time |= isinstance(step, Start) and step.path.endswith(":update")
    return step


def _gives_requests_anew(step: Step, seen: Seen) -> bool:
    """Return whether a deployed model gets its first requests: one that is being undeployed is listed until it is."""
    return isinstance(step, Patch) and not step.body["trafficSplit"].keys() <= seen.split.keys()


def _awaited(desired: Desired, memory: Memory, patience: float) -> Step:
    """Wait for the operations of the change; what takes too long is cancelled, and waited for a second time."""
    what = next(iter(memory.operations.values()))
    if not memory.late:
        if memory.seconds(what) <= patience:
            return Wait(what=what)
        memory.late = what
        return Cancel(operations=tuple(memory.operations))
    # From the cancel on, which comes late itself where nobody has followed the change for a while.
    cancelled = f"{what}, which was cancelled"
    if memory.seconds(cancelled) > patience:
        do = "The operation does not end, and the split is as it was; the next deployment uses or removes what it makes"
        return Fail(error=late(desired.spec.name, what, patience, do=do))
    return Wait(what=cancelled)


def _applied(seen: Seen) -> VertexEndpointSection | None:
    """Return the section that was applied last; None where its record cannot be read."""
    try:
        return read_platform(seen.record().spec, VertexEndpointSection)
    except (DigestMismatch, InvalidSpec):
        return None


def _fixed(desired: Desired, before: VertexEndpointSection | None) -> InvalidSpec | None:
    """Return why an endpoint cannot become what is desired: its key was chosen when it was made."""
    if before is None or before.kms_key == desired.own.kms_key:
        return None
    key = before.kms_key
    what = f"its key is {key or 'that of Google'}, and the key of an endpoint of Vertex AI never changes"
    same = f"Write kms_key: {key}" if key else "Remove kms_key"
    do = f"{same}, or delete the endpoint in the console, and deploy again"
    return InvalidSpec(what, where=f"endpoint {desired.spec.name}", do=do)


def _time(desired: Desired, before: VertexEndpointSection | None, memory: Memory) -> Start | None:
    """Return what sets the time for answers, which no patch of the endpoint does."""
    is_set = before is None or before.answer_within_seconds == desired.own.answer_within_seconds
    if is_set or memory.has_set_time:
        return None
    wanted = desired.endpoint()
    body = {key: wanted[key] for key in ("displayName", "clientConnectionConfig")}
    name = f"endpoints/{desired.spec.name}"
    what = "the time for answers to be set"
    return Start(path=f"{name}:update", body={"endpoint": {"name": f"{desired.parent}/{name}", **body}}, what=what)


def _missing(desired: Desired, seen: Seen) -> Start | None:
    """Return what has to be there before requests are split."""
    if not seen.has_pool:
        return Start(path="deploymentResourcePools", body=desired.pool_body(), what="the pool to be made")
    steps = (_predictor(desired, seen, each) for each in desired.spec.predictors)
    return next((step for step in steps if step is not None), None)


def _predictor(desired: Desired, seen: Seen, predictor: Predictor) -> Start | None:
    """Return what a predictor lacks: its model first, then that it is deployed, without a request."""
    if desired.model_id(predictor) not in seen.models:
        what = f"the model of version {predictor.version} to be uploaded"
        return Start(path="models:upload", body=desired.upload(predictor), what=what)
    deployed_id = seen.ids(desired)[predictor.name]
    if deployed_id in seen.deployed:
        return None
    what = f"version {predictor.version} to be deployed"
    path = f"endpoints/{desired.spec.name}:deployModel"
    return Start(path=path, body=desired.deploy(predictor, deployed_id), what=what)


def _split(desired: Desired, seen: Seen, memory: Memory) -> Step:
    """Move the traffic and record the endpoint in one call; then undeploy what serves nothing any more."""
    ids = seen.ids(desired)
    split, text = desired.split(ids), recorded(desired.spec)
    if seen.split != split and memory.is_outdated(seen.split):
        return Outdated()
    labels = seen.endpoint.get("labels") or {}
    body: Object = {"trafficSplit": split, "description": text}
    if not desired.labels.items() <= labels.items():
        # A mask replaces them whole: those of others stay.
        body["labels"] = {**labels, **desired.labels}
    if seen.split != split or seen.endpoint.get("description") != text or "labels" in body:
        return Patch(body=body, mask=tuple(body))
    strays = [key for key in seen.deployed if key not in ids.values()]
    if strays:
        path = f"endpoints/{desired.spec.name}:undeployModel"
        what = f"the deployed model {strays[0]} to be undeployed"
        return Start(path=path, body={"deployedModelId": strays[0]}, what=what, is_last=len(strays) == 1)
    return Done()


def failed(desired: Desired, seen: Seen | None, what: str, error: GoogleError) -> Fail:
    """Return what follows when an operation ended without its effect."""
    where = f"endpoint {desired.spec.name}"
    do = f"{error.do or 'Read its log in Cloud Logging'}; the split is as it was"
    version = _version(what)
    if version and any(word in error.what for word in _BROKEN):
        found: ModelwayError = ImageInvalid(f"version {version} cannot be served: {error.what}", where=where, do=do)
    else:
        found = EndpointNotReady(f"waiting for {what}: {error.what}", where=where, do=do)
        found.retryable = error.retryable
    return _left(desired, seen, found)


def _left(desired: Desired, seen: Seen | None, error: ModelwayError) -> Fail:
    """Return the failure with what it leaves behind: whatever is deployed and was not before."""
    if seen is None or seen.owner != desired.deployment:
        return Fail(error=error)
    record = seen.record()
    if not record.served:
        return Fail(error=error, undeploy=tuple(seen.deployed), remove=not seen.deployed)
    own = read_platform(record.spec, VertexEndpointSection)
    before = Desired(spec=record.spec, own=own, parent=desired.parent, deployment=desired.deployment)
    kept = {*seen.ids(before).values(), *seen.split}
    return Fail(error=error, undeploy=tuple(key for key in seen.deployed if key not in kept))


def _version(what: str) -> str | None:
    _, found, rest = what.partition("version ")
    return rest.partition(" ")[0] if found else None


def _foreign(desired: Desired, seen: Seen) -> InvalidSpec:
    return InvalidSpec(
        f"an endpoint '{seen.name}' that is not of this Airflow is in {desired.parent}",
        where=f"endpoint {desired.spec.name}",
        do="Choose another project or region, or rename the model; to take over what another Airflow made, set "
        "MODELWAY_DEPLOYMENT as it is set there",
    )
