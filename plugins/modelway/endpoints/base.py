"""The port of an endpoint: some versions of one model behind one URL, each with a share of the requests.

A member of the room serves on one target, its name is the YAML value ``endpoint.target`` (see ``EndpointMember``).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from modelway.errors import InvalidSpec, UnknownVersion
from modelway.names import NAME_PATTERN
from modelway.ports import Member, load

if TYPE_CHECKING:
    from pydantic import BaseModel

S = TypeVar("S", bound="BaseModel")
#: shares are counted in this many buckets, so a weight is exact to 0.01 %
BUCKETS = 10_000
#: versions behind one endpoint at a time
MAX_PREDICTORS = 8


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """One version behind an endpoint."""

    version: int
    #: reference of the model's image, by digest
    image: str
    #: share of the requests, in proportion to the sum of all weights
    weight: int
    #: folder of the model in the image
    model_path: str = "/models"


@dataclass(frozen=True, kw_only=True)
class EndpointSpec:
    """The desired state of an endpoint."""

    name: str
    #: name of the model in the URLs
    model: str
    predictors: tuple[Predictor, ...]
    #: version that answers when another one cannot, and whose share keeps its users while others grow
    stable: int | None = None
    #: what only the target knows: the spec's section ``endpoint.<target>``, as plain data
    platform: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PredictorStatus:
    """One version behind an endpoint, as it is."""

    version: int
    image: str
    weight: int
    ready: bool
    #: where this version alone answers
    url: str
    model_path: str = "/models"
    #: how often its server ended by itself and was started again
    restarts: int = 0
    #: why its server is not started again, or what its last start failed with
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class EndpointStatus:
    """An endpoint, as it is; ready when the gateway runs and every version with a weight is ready."""

    name: str
    #: name of the model in the URLs
    model: str
    url: str
    predictors: tuple[PredictorStatus, ...]
    #: version that answers when another one cannot
    stable: int | None
    ready: bool
    #: the section of the target, as the spec gave it
    platform: Mapping[str, Any] = field(default_factory=dict)
    #: whether the gateway answers
    gateway_ready: bool = False
    #: whether somebody stopped it
    stopped: bool = False
    #: why the gateway is not started again, or what its last start failed with
    problem: str = ""

    def spec(self) -> EndpointSpec:
        """Return the spec by which the endpoint is as it is, from which a changed one is made."""
        predictors = (
            Predictor(version=each.version, image=each.image, weight=each.weight, model_path=each.model_path)
            for each in self.predictors
        )
        return EndpointSpec(
            name=self.name,
            model=self.model,
            predictors=tuple(predictors),
            stable=self.stable,
            platform=self.platform,
        )


@dataclass(frozen=True, kw_only=True)
class PredictorMetrics:
    """Counts of the requests to one version: those of its share and those whose URL names it.

    A request counts once, however often the gateway tried to connect, and in one of the other counts at most.
    """

    requests: int
    #: answers with status 4xx
    client_errors: int
    #: answers with status 5xx, by the version or by the gateway in its place
    server_errors: int
    #: answers that broke off after their first bytes
    broken_answers: int
    #: requests that the stable version answered, since the version refused connections
    rerouted: int
    #: seconds since the epoch when counting began; another value than before means that the counts restarted
    since: float

    @property
    def errors(self) -> int:
        """Requests that the version did not answer well: never more than there were."""
        return min(self.requests, self.server_errors + self.broken_answers + self.rerouted)


class Endpoint(Protocol):
    """What every endpoint can do; ``name`` is that of an endpoint, as in its spec."""

    def apply(self, spec: EndpointSpec) -> EndpointStatus:
        """Make the endpoint what ``spec`` says, whatever state it is in; can be run again after a crash at any point.

        :raises InvalidSpec: for a spec that cannot be (see :func:`check_spec`)
        :raises PortTaken: when another program has the port that the spec names
        :raises NotWritable: when its folder cannot be written
        :raises EndpointNotReady: when a version or the gateway does not become ready in time; the old split stays
        :raises ImageInvalid: when an image is damaged or a version's model cannot be loaded; the old split stays
        """
        ...

    def status(self, name: str) -> EndpointStatus | None:
        """Return the endpoint as it is, None when there is none of this name."""
        ...

    def set_weights(self, name: str, weights: Mapping[int, int]) -> EndpointStatus:
        """Change the split in one step; versions that ``weights`` leaves out get nothing.

        :raises UnknownVersion: for a version that is not there
        :raises UnknownEndpoint: when there is no endpoint of this name
        :raises InvalidSpec: for a negative weight, or when all are zero
        :raises EndpointNotReady: when a version that is to get requests is not ready; the old split stays
        """
        ...

    def metrics(self, name: str) -> Mapping[int, PredictorMetrics]:
        """Return the counts by version.

        :raises UnknownEndpoint: when there is no endpoint of this name
        :raises EndpointNotReady: when the gateway does not answer
        """
        ...

    def names(self) -> tuple[str, ...]:
        """Return the names of the endpoints that there are, stopped ones included."""
        ...

    def start(self, name: str) -> EndpointStatus:
        """Restart an endpoint as it was, when it was stopped or its processes ended; running processes are left alone.

        It has the same URL when its port is still free, or was named.

        :raises UnknownEndpoint: when there is no endpoint of this name
        :raises ModelwayError: as :meth:`apply` does
        """
        ...

    def stop(self, name: str) -> None:
        """Stop everything of the endpoint but retain its state; nothing happens when it is stopped, or there is none.

        :meth:`start`, or :meth:`apply` with the same spec, brings it back.
        """
        ...

    def delete(self, name: str) -> None:
        """Stop everything of the endpoint and remove its state; nothing happens when there is none."""
        ...


@dataclass(frozen=True, kw_only=True)
class EndpointMember(Member[Endpoint]):
    """The descriptor of an endpoint target; ``open(*, root, login=None)`` makes it.

    ``capabilities`` are of: weights, sticky (a user stays with a version), mirror. Its section stands in the spec as
    ``endpoint.<name>``, and comes as ``EndpointSpec.platform``.
    """


@dataclass(frozen=True, kw_only=True)
class Login:
    """A login that images are pulled with."""

    #: host and port of the only registry that it is sent to, as they stand in a reference
    registry: str
    username: str
    password: str = field(repr=False)

    def opens(self, image: str) -> bool:
        """Return whether it is for the registry of an image."""
        return image.partition("/")[0] == self.registry


def load_endpoint(name: str, *, root: Path, login: Login | None = None, **options: Any) -> Endpoint:
    """Return the endpoints of a target.

    :param root: folder that it may keep files in
    :param login: for the images of one registry; without it, and for those of others, Docker's own settings are used
    :param options: settings of that target alone
    :raises CapabilityMissing: there is no such target
    """
    logins = {} if login is None else {"login": login}
    return cast(Endpoint, load("endpoints", name).open(root=root, **logins, **options))


def check_spec(spec: EndpointSpec) -> None:
    """Refuse an invalid spec.

    :raises InvalidSpec: for names, number of versions, a version twice, an unknown stable version, weights
    """
    where = f"endpoint {spec.name}"
    for name in (spec.name, spec.model):
        if not re.match(NAME_PATTERN, name):
            raise InvalidSpec(f"'{name}' is not a name: small letters, digits and '-', 40 at most", where=where)
    versions = [predictor.version for predictor in spec.predictors]
    if not 1 <= len(versions) <= MAX_PREDICTORS:
        raise InvalidSpec(f"{len(versions)} predictors, an endpoint has 1 to {MAX_PREDICTORS}", where=where)
    if len(set(versions)) != len(versions):
        raise InvalidSpec(f"a version is listed twice: {versions}", where=where)
    if spec.stable is not None and spec.stable not in versions:
        raise InvalidSpec(f"the stable version {spec.stable} is not a predictor", where=where, known=map(str, versions))
    check_weights({predictor.version: predictor.weight for predictor in spec.predictors}, versions, where=where)


def read_platform(spec: EndpointSpec, section: "type[S]") -> "S":
    """Return the target's section of the spec.

    :raises InvalidSpec: the section has no such key, or the value is invalid
    """
    from pydantic import ValidationError

    try:
        # A value from a template is text.
        return section.model_validate(dict(spec.platform), strict=False)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        known = sorted(section.model_fields) if first["type"] == "extra_forbidden" else None
        why = "unknown key" if known else str(first.get("ctx", {}).get("error", first["msg"]))
        raise InvalidSpec(
            f"{key}: {why}", where=f"endpoint {spec.name}", known=known, given=key if known else None
        ) from error


def check_weights(weights: Mapping[int, int], versions: list[int], *, where: str) -> None:
    """Refuse invalid weights.

    :raises UnknownVersion: for a version that is not in ``versions``
    :raises InvalidSpec: for a weight that is negative or no integer, or when all are zero
    """
    for version, weight in weights.items():
        if version not in versions:
            raise UnknownVersion(f"version {version} is not behind it", where=where, known=map(str, versions))
        if isinstance(weight, bool) or not isinstance(weight, int) or weight < 0:
            raise InvalidSpec(f"the weight of version {version} must be an integer >= 0, got {weight!r}", where=where)
    if not any(weights.values()):
        raise InvalidSpec("all weights are zero", where=where, do="Give at least one version a weight above zero")


def shares(weights: Mapping[int, int]) -> dict[int, int]:
    """Return how many of the :data:`BUCKETS` each version gets: by largest remainder, so that they add up exactly.

    A version with a weight above zero gets at least one bucket, one with zero gets none.
    """
    total = sum(weights.values())
    result = {version: max(weight * BUCKETS // total, int(weight > 0)) for version, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda version: (-(weights[version] * BUCKETS % total), version))
    left = BUCKETS - sum(result.values())
    for version in [version for version in by_remainder if weights[version]][: max(left, 0)]:
        result[version] += 1
    while sum(result.values()) > BUCKETS:
        result[max(result, key=lambda version: result[version])] -= 1
    return result
