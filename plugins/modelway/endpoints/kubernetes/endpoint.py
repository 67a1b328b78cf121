"""Endpoint ``kubernetes``: see the package. What is recorded of an endpoint is on the cluster, beside what runs it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from modelway.endpoints.base import EndpointSpec, EndpointStatus, Login, Predictor, PredictorMetrics, PredictorStatus
from modelway.endpoints.checking import check_spec, check_weights, read_platform
from modelway.endpoints.gateway.sketches import sketches_of, sketches_path
from modelway.endpoints.kubernetes import naming, waiting
from modelway.endpoints.kubernetes.abilities import refuse_missing
from modelway.endpoints.kubernetes.change import Change, stopped_manifests
from modelway.endpoints.kubernetes.cluster import ClusterObjects, token_of
from modelway.endpoints.kubernetes.desired import Desired
from modelway.endpoints.kubernetes.engines import answering, predictor_manifests, running
from modelway.endpoints.kubernetes.images import choose_mounts
from modelway.endpoints.kubernetes.member import MEMBER
from modelway.endpoints.kubernetes.places import Places
from modelway.endpoints.kubernetes.record import CONFIG_MAP, Record, read_record
from modelway.endpoints.kubernetes.routing import Routing
from modelway.endpoints.kubernetes.routings import kinds_of, routing_of
from modelway.endpoints.kubernetes.section import KubernetesEndpointSection
from modelway.errors import EndpointNotReady, InvalidSpec, ModelwayError, UnknownEndpoint
from modelway.platforms.deployment import deployment
from modelway.platforms.kubernetes.api import Api, Object, find_client
from modelway.platforms.kubernetes.lease import leased
from modelway.platforms.kubernetes.objects import Objects

#: seconds until the pods of an endpoint that is stopped or removed have ended
_GONE_SECONDS = 90.0


def _nothing() -> None:
    """Do not renew what is not locked."""


@dataclass(kw_only=True)
class KubernetesEndpoint:
    """See :class:`modelway.endpoints.base.Endpoint`."""

    root: Path
    #: of the registry that images are pulled from, to find out what they are made of
    login: Login | None = None
    client: Any = None
    #: seconds that new servers may take to load their models; None: what the spec says
    ready_timeout: float | None = None

    @cached_property
    def objects(self) -> Objects:
        """The cluster."""
        return Objects(Api(self.client or find_client()), manager=naming.MANAGER)

    @cached_property
    def version(self) -> tuple[int, int]:
        """The version of the API server."""
        return self.objects.api.version()

    @cached_property
    def deployment(self) -> str:
        """What distinguishes this Airflow from another one on the cluster."""
        return deployment(self.root.parent)

    @property
    def _places(self) -> Places:
        return Places(self.objects, self.root, deployment=self.deployment)

    def apply(self, spec: EndpointSpec) -> EndpointStatus:
        """Bring the endpoint to the state of ``spec``."""
        check_spec(spec, target=MEMBER)
        own = read_platform(spec, KubernetesEndpointSection)
        refuse(spec)
        known = self._places.find(spec.name)
        if known not in (None, own.namespace):
            raise InvalidSpec(
                f"it is in namespace {known}, and would be in {own.namespace}",
                where=f"endpoint {spec.name}",
                do="Delete it first, or leave the namespace as it is",
            )
        with self._locked(own.namespace, spec.name) as renew:
            before = self._record(own.namespace, spec.name)
            mounts = choose_mounts(spec, own, before=before, version=self.version, login=self.login)
            cluster = self._cluster(spec, own, mounts=mounts, before=before, renew=renew)
            served = before if before and before.served else None
            former = self._recorded(served, renew, stopped=served.stopped) if served else None
            if former is not None:
                former.more_kinds = cluster.more_kinds
            self._places.remember(spec.name, own.namespace)
            change = Change(cluster, routing_of(cluster), before=served, former=former)
            change.run(timeout=self.ready_timeout or own.ready_within_seconds)
        return self._known_status(spec.name)

    def _cluster(self, spec: EndpointSpec, own: KubernetesEndpointSection, **given: Any) -> ClusterObjects:
        before: Record | None = given["before"]
        desired = Desired(
            spec=spec,
            own=own,
            deployment=self.deployment,
            version=self.version,
            mounts=given["mounts"],
            stopped=given.get("stopped", False),
        )
        cluster = ClusterObjects(
            self.objects, desired, applied=before.applied if before else {}, renew=given.get("renew", _nothing)
        )
        # What it was made of before is removed by this change.
        former = read_platform(before.spec, KubernetesEndpointSection) if before else own
        cluster.more_kinds = [*kinds_of(own), *kinds_of(former)]
        return cluster

    def _recorded(self, record: Record, renew: Any = _nothing, *, stopped: bool = False) -> ClusterObjects:
        """Return the objects of an endpoint as it is recorded."""
        own = read_platform(record.spec, KubernetesEndpointSection)
        return self._cluster(record.spec, own, mounts=record.mounts, before=record, renew=renew, stopped=stopped)

    @contextmanager
    def _locked(self, namespace: str, name: str) -> Iterator[Any]:
        labels = naming.endpoint_labels(name, deployment=self.deployment)
        with leased(self.objects, namespace=namespace, name=naming.record_object(name), labels=labels) as lease:
            yield lease.renew

    def _record(self, namespace: str, name: str) -> Record | None:
        """Return what is recorded of an endpoint, None where nothing is.

        :raises InvalidSpec: it belongs to another Airflow
        """
        found = self.objects.find(CONFIG_MAP, namespace, naming.record_object(name))
        if found is None:
            return None
        self._refuse_foreign(found, name)
        return read_record(found)

    def _refuse_foreign(self, found: Object, name: str) -> None:
        if token_of(found) != self.deployment:
            raise InvalidSpec(
                f"an endpoint '{name}' of another Airflow is in namespace {found['metadata']['namespace']}",
                where=f"endpoint {name}",
                do="Choose another name or namespace; to take it over set MODELWAY_DEPLOYMENT as it is set there",
            )

    def names(self) -> tuple[str, ...]:
        """Return the names of the endpoints that there are."""
        return self._places.names()

    def status(self, name: str) -> EndpointStatus | None:
        """Return the endpoint as it is."""
        namespace = self._places.find(name)
        record = self._record(namespace, name) if namespace else None
        return None if record is None else self._status(record)

    def _known_status(self, name: str) -> EndpointStatus:
        return self._status(self._find(name)[1])

    def _find(self, name: str) -> tuple[str, Record]:
        """Return the namespace of an endpoint and its record.

        :raises UnknownEndpoint: there is none
        """
        namespace = self._places.find(name)
        record = self._record(namespace, name) if namespace else None
        if namespace is None or record is None:
            raise UnknownEndpoint(f"there is no endpoint '{name}'", where="Kubernetes", known=self.names(), given=name)
        return namespace, record

    def _status(self, record: Record) -> EndpointStatus:
        cluster = self._recorded(record)
        routing = routing_of(cluster)
        predictors = tuple(self._predictor(cluster, record, each) for each in record.spec.predictors)
        gateway = not record.stopped and routing.is_ready()
        return EndpointStatus(
            name=record.spec.name,
            model=record.spec.model,
            url=record.url,
            predictors=predictors,
            stable=record.spec.stable,
            sticky=record.spec.sticky,
            mirror=record.spec.mirror,
            platform=record.spec.platform,
            ready=gateway and all(one.ready for one in predictors if one.weight),
            gateway_ready=gateway,
            stopped=record.stopped,
            problem="" if gateway or record.stopped else routing.problem(),
            drift=self._drift(cluster, routing, record),
        )

    def _drift(self, cluster: ClusterObjects, routing: Routing, record: Record) -> tuple[str, ...]:
        if record.stopped:
            return cluster.drift(stopped_manifests(cluster.desired))
        objects = cluster.drift([*_manifests(cluster.desired), *routing.manifests(record)])
        return (*objects, *routing.drift(record))

    def _predictor(self, cluster: ClusterObjects, record: Record, each: Predictor) -> PredictorStatus:
        pods = [pod for pod in cluster.pods(predictor=each.name) if not waiting.is_leaving(pod)]
        found = None if record.stopped else running(self.objects, cluster.desired, each)
        servers = answering(found, cluster.desired, each, lambda: pods)
        return PredictorStatus(
            name=each.name,
            version=each.version,
            model=each.model,
            image=each.image,
            model_path=each.model_path,
            weight=each.weight,
            ready=servers > 0,
            url=f"http://{address}" if (address := record.seats[each.name].address) else "",
            replicas=each.replicas,
            ready_replicas=servers,
            resources=each.resources,
            batching=each.batching,
            autoscaling=each.autoscaling,
            restarts=waiting.restarts(pods),
            problem="" if servers or record.stopped else cluster.problem(each),
        )

    def set_weights(self, name: str, weights: Mapping[str, int]) -> EndpointStatus:
        """Change the split in one step."""
        namespace, _ = self._find(name)
        with self._locked(namespace, name) as renew:
            _, record = self._find(name)
            names = [each.name for each in record.spec.predictors]
            check_weights(weights, names, where=f"endpoint {name}")
            cluster = self._recorded(record, renew)
            self._refuse_not_ready(cluster, record, weights)
            former = record.spec
            changed = tuple(replace(each, weight=weights.get(each.name, 0)) for each in record.spec.predictors)
            record.spec = replace(record.spec, predictors=changed)
            try:
                routing_of(self._recorded(record, renew)).shift(record)
            except ModelwayError:
                record.spec = former
                with suppress(ModelwayError):
                    routing_of(cluster).restore(record)
                raise
        return self._status(record)

    def _refuse_not_ready(self, cluster: ClusterObjects, record: Record, weights: Mapping[str, int]) -> None:
        """Refuse a split of which a predictor that gets requests is not ready.

        :raises EndpointNotReady: with the predictor
        """
        for each in record.spec.predictors:
            if not weights.get(each.name):
                continue
            found = None if record.stopped else running(self.objects, cluster.desired, each)
            if not answering(found, cluster.desired, each, partial(cluster.pods, predictor=each.name)):
                where = f"endpoint {record.spec.name}"
                raise EndpointNotReady(f"version {each.version} is not ready", where=where, do="Apply the endpoint")

    def metrics(self, name: str) -> Mapping[str, PredictorMetrics]:
        """Return the counts by the predictors' names."""
        _, record = self._find(name)
        return routing_of(self._recorded(record)).metrics(record)

    def sketches(self, name: str) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return what the servers of each predictor counted of inputs and outputs."""
        _, record = self._find(name)
        path = sketches_path(record.spec.model)
        return sketches_of(routing_of(self._recorded(record)).pages(record, path))

    def start(self, name: str) -> EndpointStatus:
        """Restart an endpoint as it was."""
        return self.apply(self._known_status(name).spec())

    def stop(self, name: str) -> None:
        """Scale everything of the endpoint to no pod; its objects and its record stay."""
        namespace = self._places.find(name)
        if namespace is None:
            return
        with self._locked(namespace, name) as renew:
            record = self._record(namespace, name)
            if record is None:
                return
            cluster = self._recorded(record, renew)
            routing = routing_of(cluster)
            # The gateway first, so that no request finds a server gone.
            routing.stop(record)
            for manifest in (manifests := stopped_manifests(cluster.desired)):
                cluster.apply(manifest)
            record.stopped = True
            cluster.prune([*manifests, *routing.manifests(record)])
            record.applied = cluster.applied
            routing.save(record)
            cluster.wait_ended(timeout=_GONE_SECONDS)

    def delete(self, name: str) -> None:
        """Remove everything of the endpoint, its record last."""
        namespace = self._places.find(name)
        if namespace is None:
            return
        with self._locked(namespace, name) as renew:
            found = self.objects.find(CONFIG_MAP, namespace, naming.record_object(name))
            if found is None:
                return
            self._refuse_foreign(found, name)
            cluster = self._recorded(read_record(found), renew)
            cluster.prune(())
            cluster.wait_ended(timeout=_GONE_SECONDS)
            renew()
            self.objects.delete(found)
        self._places.forget(name)


def _manifests(desired: Desired) -> list[Any]:
    return [one for each in desired.spec.predictors for one in predictor_manifests(desired, each)]


def refuse(spec: EndpointSpec) -> None:
    """Refuse what the engine or the routing of an endpoint cannot do.

    :raises CapabilityMissing: with what it is
    :raises InvalidSpec: a name that objects of the endpoint have already
    """

    refuse_missing(spec)
    if any(each.name == naming.GATEWAY for each in spec.predictors):
        raise InvalidSpec(
            f"a predictor here cannot be called '{naming.GATEWAY}'",
            where=f"endpoint {spec.name}",
            do="Choose another name",
        )
