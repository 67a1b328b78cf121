"""The port of an endpoint: predictors, each a version of a model, behind one URL, each with a share of the requests.

A member of the room serves on one target, its name is the YAML value ``endpoint.target`` (see ``EndpointMember``).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from modelway.ports import Member, load

if TYPE_CHECKING:
    from modelway.fields.refusal import KeyPath, Refusal

#: predictors behind one endpoint at a time
MAX_PREDICTORS = 8

_OF_THE_PIPELINE = re.compile(r"v([1-9]\d*)")


def predictor_name(version: int) -> str:
    """Return the name of the predictor that the pipeline makes of a version of the endpoint's model."""
    return f"v{version}"


def pipeline_version(name: str) -> int | None:
    """Return the version whose predictor the pipeline names so, None for the name of a predictor made by hand."""
    found = _OF_THE_PIPELINE.fullmatch(name)
    return int(found[1]) if found else None


@dataclass(frozen=True, kw_only=True)
class Autoscaling:
    """How many servers a predictor has, by their load."""

    minimum: int
    maximum: int
    #: busy CPU, in per cent of what a server has, above which there are more servers
    cpu_percent: int = 80


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """One version of a model behind an endpoint."""

    #: unique in the endpoint, as ``names.NAME_PATTERN`` says; the pipeline's are ``v<version>``
    name: str
    version: int
    #: reference of the version's image, by digest
    image: str
    #: share of the requests, in proportion to the sum of all weights
    weight: int
    #: the model whose version it is; None: that of the endpoint
    model: str | None = None
    #: folder of the model in the image
    model_path: str = "/models"
    #: servers of this predictor
    replicas: int = 1
    #: what each server may use: cpu, memory_bytes, gpu, gpu_type, as a stage's resources
    resources: Mapping[str, Any] = field(default_factory=dict)
    #: ``{"rows": 8}``: rows that a server gathers from several requests into one call of the model
    batching: Mapping[str, Any] = field(default_factory=dict)
    autoscaling: Autoscaling | None = None


@dataclass(frozen=True, kw_only=True)
class Sticky:
    """By what a user is recognised, who then stays with a predictor: exactly one of the two."""

    #: of the request, such as x-user; requests without it are spread at random
    header: str | None = "x-user"
    #: set by the gateway in the first answer
    cookie: str | None = None


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """A predictor that gets copies of requests; its answers are discarded."""

    predictor: str
    #: share of the requests that are copied
    percent: int = 100


@dataclass(frozen=True, kw_only=True)
class EndpointSpec:
    """The desired state of an endpoint.

    A user stays with a predictor while weights change between the stable one and a single other one: the shares are
    given out to users in the order of ``predictors``, the stable one first.
    """

    name: str
    #: name of the model in the URLs, whichever models the predictors are of
    model: str
    predictors: tuple[Predictor, ...]
    #: name of the predictor that answers when another one cannot, and whose share decreases while others grow
    stable: str | None = None
    sticky: Sticky = field(default_factory=Sticky)
    mirror: Mirror | None = None
    #: what only the target knows: the spec's section ``endpoint.<target>``, as plain data
    platform: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PredictorStatus:
    """One predictor behind an endpoint, as it is."""

    name: str
    version: int
    image: str
    weight: int
    #: whether it answers: at least one of its servers is ready
    ready: bool
    #: where this predictor alone answers, past the gateway
    url: str
    #: the model whose version it is; None: that of the endpoint
    model: str | None = None
    model_path: str = "/models"
    #: desired number of servers, and how many of them are ready
    replicas: int = 1
    ready_replicas: int = 0
    resources: Mapping[str, Any] = field(default_factory=dict)
    batching: Mapping[str, Any] = field(default_factory=dict)
    autoscaling: Autoscaling | None = None
    #: how often its servers ended by themselves and were started again
    restarts: int = 0
    #: why a server of it is not started again, or what the last start failed with
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class EndpointStatus:
    """An endpoint, as it is; ready when the gateway runs and every predictor with a weight is ready."""

    name: str
    #: name of the model in the URLs
    model: str
    url: str
    predictors: tuple[PredictorStatus, ...]
    #: name of the predictor that answers when another one cannot
    stable: str | None
    ready: bool
    sticky: Sticky = field(default_factory=Sticky)
    mirror: Mirror | None = None
    #: the section of the target, as the spec gave it
    platform: Mapping[str, Any] = field(default_factory=dict)
    #: whether the gateway answers
    gateway_ready: bool = False
    #: whether somebody stopped it
    stopped: bool = False
    #: why the gateway is not started again, or what its last start failed with
    problem: str = ""
    #: a phrase for each difference to what was applied that was made by hand; :meth:`Endpoint.apply` removes them
    drift: tuple[str, ...] = ()

    @property
    def ready_in_part(self) -> bool:
        """Whether it is not ready, but one of the predictors that have a weight answers."""
        return not self.ready and self.gateway_ready and any(each.ready for each in self.predictors if each.weight)

    def spec(self) -> EndpointSpec:
        """Return the spec by which the endpoint is as it is, from which a changed one is made."""
        predictors = (
            Predictor(
                name=each.name,
                version=each.version,
                image=each.image,
                weight=each.weight,
                model=each.model,
                model_path=each.model_path,
                replicas=each.replicas,
                resources=each.resources,
                batching=each.batching,
                autoscaling=each.autoscaling,
            )
            for each in self.predictors
        )
        return EndpointSpec(
            name=self.name,
            model=self.model,
            predictors=tuple(predictors),
            stable=self.stable,
            sticky=self.sticky,
            mirror=self.mirror,
            platform=self.platform,
        )


@dataclass(frozen=True, kw_only=True)
class PredictorMetrics:
    """Counts of the requests to one predictor: those of its share and those whose URL names it.

    A request counts once, however often the gateway tried to connect, and in one of the other counts at most.
    """

    requests: int
    #: answers with status 4xx
    client_errors: int
    #: answers with status 5xx, by a server or by the gateway in its place
    server_errors: int
    #: answers that broke off after their first bytes
    broken_answers: int
    #: requests that the stable predictor answered, since this one refused connections
    rerouted: int
    #: seconds since the epoch when counting began; another value than before means that the counts restarted
    since: float
    #: requests by the upper bound of the seconds that their answers took; not cumulative, the last bound is infinite.
    #: Counted by the servers themselves, so a server that was restarted begins anew; empty where unknown
    latency: Mapping[float, int] = field(default_factory=dict)
    #: of the requests, those whose URL names the version: no weight sent them
    named: int = 0
    #: calls of gRPC that the servers failed, which a gateway sees as answers with status 200: not among the errors;
    #: counted by the servers themselves, as ``latency``
    call_errors: int = 0
    #: answers with an output that is not valid: a number that is not finite, another type or shape than the model
    #: names; counted by the servers themselves, as ``latency``
    invalid: int = 0

    @property
    def errors(self) -> int:
        """Requests that the predictor did not answer well: never more than there were."""
        return min(self.requests, self.server_errors + self.broken_answers + self.rerouted)


class Endpoint(Protocol):
    """What every endpoint can do; ``name`` is that of an endpoint, as in its spec."""

    def apply(self, spec: EndpointSpec) -> EndpointStatus:
        """Make the endpoint what ``spec`` says, whatever state it is in; can be run again after a crash at any point.

        :raises InvalidSpec: for a spec that cannot be (see :func:`modelway.endpoints.checking.check_spec`)
        :raises CapabilityMissing: for what the target cannot do, such as mirror
        :raises PortTaken: when another program has the port that the spec names
        :raises NotWritable: when its folder cannot be written
        :raises EndpointNotReady: when a predictor or the gateway does not become ready in time; the old split stays
        :raises ImageInvalid: when an image is damaged or a version's model cannot be loaded; the old split stays
        """
        ...

    def status(self, name: str) -> EndpointStatus | None:
        """Return the endpoint as it is, None when there is none of this name."""
        ...

    def set_weights(self, name: str, weights: Mapping[str, int]) -> EndpointStatus:
        """Change the split in one step; predictors that ``weights`` leaves out get nothing.

        :param weights: by the predictors' names
        :raises UnknownVersion: for a predictor that is not there
        :raises UnknownEndpoint: when there is no endpoint of this name
        :raises InvalidSpec: for a negative weight, or when all are zero
        :raises EndpointNotReady: when a predictor that is to get requests is not ready; the old split stays
        """
        ...

    def metrics(self, name: str) -> Mapping[str, PredictorMetrics]:
        """Return the counts by the predictors' names.

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
class Change:
    """A change of an endpoint that its platform is making: what :meth:`Gradual.advance` continues from."""

    #: what is waited for, for people
    waits_for: str
    #: plain JSON, to be given back
    memory: Mapping[str, Any] = field(default_factory=dict)
    #: whether somebody else changed the split since it began, so that the spec is to be computed anew from what there
    #: is; where it is continued with the same spec, that change is overwritten
    is_outdated: bool = False


@runtime_checkable
class Gradual(Protocol):
    """An endpoint whose platform takes minutes for a change: a task waits for it without a process."""

    def advance(self, spec: EndpointSpec, change: Change | None = None) -> EndpointStatus | Change:
        """Do what can be done now for the endpoint to become what ``spec`` says, without waiting.

        Returns its status once it is so, else the change, to be continued when some seconds have passed. Without
        ``change``, as after a crash, it continues from what there is. ``apply`` does the same until the end. Where
        somebody else changed the split meanwhile, that is left for the caller, and the change ``is_outdated``.

        :raises ModelwayError: as ``apply`` does
        """
        ...

    def retire(self, name: str) -> None:
        """Begin to remove an endpoint, without waiting; nothing happens when there is none.

        It answers nobody from now on, costs nothing soon, and is not to be seen any more: ``status`` returns None. The
        next ``apply`` uses what the platform still has of it, and ``delete`` removes that.
        """
        ...


def remove(endpoint: "Endpoint", name: str) -> None:
    """Remove an endpoint where nobody waits for it: in a task or a trigger."""
    if isinstance(endpoint, Gradual):
        endpoint.retire(name)
    else:
        endpoint.delete(name)


@runtime_checkable
class Guarded(Protocol):
    """An endpoint that answers those alone who send a token."""

    def request_headers(self, url: str) -> Mapping[str, str]:
        """Return the headers that requests to a URL of it need; a secret, valid for an hour at most."""
        ...

    def demanded_token(self, url: str) -> Mapping[str, str] | None:
        """Return what kind of token requests to a URL of it need, for a job that has an account of its own.

        ``{"kind": "identity", "audience": URL}`` or ``{"kind": "access"}`` of Google; None: there is no need of one.
        """
        ...


def demanded_token(endpoint: Endpoint, url: str) -> Mapping[str, str] | None:
    """Return what kind of token requests to an endpoint's URL need, see ``Guarded``; None where none is needed."""
    return endpoint.demanded_token(url) if isinstance(endpoint, Guarded) else None


def request_headers(endpoint: Endpoint, url: str) -> Mapping[str, str]:
    """Return the headers that requests to an endpoint's URL need: none where anybody may call it."""
    return endpoint.request_headers(url) if isinstance(endpoint, Guarded) else {}


@runtime_checkable
class ShowsSketches(Protocol):
    """An endpoint that reaches each of its servers, for what they counted of inputs and outputs."""

    def sketches(self, name: str) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return what each server counted of inputs and outputs since it started, by the predictors' names.

        A document is what ``/v2/models/M/sketches`` of the server answers; ``since`` distinguishes servers. One
        that does not answer is left out.

        :raises UnknownEndpoint: when there is no endpoint of this name
        :raises EndpointNotReady: when the servers cannot be reached
        """
        ...


@dataclass(frozen=True, kw_only=True)
class EndpointMember(Member[Endpoint]):
    """The descriptor of an endpoint target; ``open(*, root, login=None)`` makes it.

    ``capabilities`` are of: weights, sticky (a user stays with a predictor), mirror, replicas, autoscaling, several
    (more than two predictors), sketches (``ShowsSketches``), cpu_limit, memory_limit, gpu. Its section stands in the
    spec as ``endpoint.<name>``, and comes as ``EndpointSpec.platform``.
    """

    lacks: Callable[[Mapping[str, Any]], Mapping[str, str]] | None = None
    """By its section as written: the capabilities that it does not have with these settings, and what has them."""
    hook: str | None = None
    """The class of an Airflow provider that makes its client of the connection ``modelway_<name>``; ``open`` gets what
    that returns as ``client``."""
    letter_first: bool = False
    """Whether an endpoint's name must begin with a letter."""
    of_host: bool = False
    """Whether its servers and gateways are processes of the host that applied it, which no other host can see."""
    connects: bool = False
    """Without a hook: whether ``open`` gets the host of that connection as ``client``."""
    placed: bool = False
    """Whether ``open`` gets the endpoint's section as ``platform``: where it is looked for, such as a project."""
    needs_server: bool = False
    """Whether a model's image must have its server (``image.base: server``): the platform runs the image alone."""
    refuses: "Callable[[Mapping[str, Any]], Iterator[tuple[KeyPath, Refusal]]] | None" = None
    """By the section ``endpoint`` as written: what of it the target cannot serve, with the paths of the keys."""


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


def endpoint_member(name: str) -> EndpointMember:
    """Return the descriptor of a target.

    :raises CapabilityMissing: there is no such target
    """
    return cast(EndpointMember, load("endpoints", name))


def load_endpoint(name: str, *, root: Path, login: Login | None = None, **options: Any) -> Endpoint:
    """Return the endpoints of a target.

    :param root: folder that it may keep files in
    :param login: for the images of one registry; without it, and for those of others, Docker's own settings are used
    :param options: settings of that target alone
    :raises CapabilityMissing: there is no such target
    """
    logins = {} if login is None else {"login": login}
    return endpoint_member(name).open(root=root, **logins, **options)
