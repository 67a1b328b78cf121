"""Routing by the endpoint's own gateway: HAProxy in pods of its own, changed while it runs."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from modelway.endpoints.base import PredictorMetrics
from modelway.endpoints.gateway.running import counted_since
from modelway.endpoints.gateway.server_counts import ServerCounts, read_server_counts
from modelway.endpoints.kubernetes import naming, waiting
from modelway.endpoints.kubernetes.cluster import ClusterObjects
from modelway.endpoints.kubernetes.desired import PORT
from modelway.endpoints.kubernetes.gateway import gateway_files, gateway_manifests
from modelway.endpoints.kubernetes.gateway_pods import GatewayPod, GatewayPods
from modelway.endpoints.kubernetes.predictors import DEPLOYMENT
from modelway.endpoints.kubernetes.record import Record, Seat
from modelway.errors import EndpointNotReady
from modelway.platforms.kubernetes.api import Manifest

#: seconds until the gateway's pods run
_START = 120.0


class HaproxyRouting:
    """See :class:`modelway.endpoints.kubernetes.routing.Routing`."""

    def __init__(self, cluster: ClusterObjects) -> None:
        """Route the requests of an endpoint."""
        self._cluster, self._desired = cluster, cluster.desired
        self._name = naming.gateway_object(self._desired.spec.name)
        self._pods = GatewayPods(cluster.objects, namespace=self._desired.namespace, endpoint=self._desired.spec.name)

    def manifests(self, record: Record) -> list[Manifest]:
        """Return the gateway's objects."""
        return gateway_manifests(self._desired, gateway_files(record.routes()))

    def prepare(self, record: Record, before: Record | None) -> None:
        """Do nothing: predictors start by themselves."""

    def begin_counting(self, record: Record, fresh: Sequence[str]) -> None:
        """Note the counts of the backends that predictors move into: others were in them before."""
        for name in fresh:
            seat = record.seats[name]
            seat.baseline |= {pod.key: counts for pod, counts in self._counts(seat)}

    def _counts(self, seat: Seat) -> list[tuple[GatewayPod, dict[str, int]]]:
        return self._pods.each(lambda pod: pod.slot_counters(seat.slot))

    def apply(self, record: Record) -> None:
        """Record the endpoint, bring the gateway up, and push the shares to all of its pods."""
        deployment, service, budget = self.manifests(record)
        entry = (self._cluster.apply(service).get("spec") or {}).get("clusterIP")
        record.url = self._desired.own.url or f"http://{entry}"
        # The record first, for pods that start meanwhile.
        self.save(record)
        self._cluster.apply(deployment)
        self._cluster.apply(budget)
        self._cluster.wait_deployment(self._name, what=naming.GATEWAY, timeout=_START)
        self._pods.push(record.routes(), renew=self._cluster.renew)

    def shift(self, record: Record) -> None:
        """Record other shares and push them to all pods."""
        self.save(record)
        self._pods.push(record.routes(), renew=self._cluster.renew)

    def restore(self, record: Record) -> None:
        """Record former shares, and push them to all pods that answer."""
        self.save(record)
        self._pods.restore(record.routes(), renew=self._cluster.renew)

    def save(self, record: Record) -> None:
        """Write the ConfigMap from which the gateway's pods start."""
        self._cluster.save(record.manifest(self._desired, gateway_files(record.routes())))

    def drift(self, record: Record) -> tuple[str, ...]:
        """Return a phrase for each pod whose shares are others than those that are recorded."""
        return self._pods.drift(record.routes())

    def wait_empty(self, seat: Seat, *, patience: float) -> None:
        """Wait until a backend has answered what it has."""
        self._pods.wait_empty(seat.slot, patience=patience, renew=self._cluster.renew)

    def forget(self, record: Record) -> None:
        """Take the addresses of predictors that are no more out of the gateway."""
        self._cluster.renew()
        self._pods.each(lambda pod: pod.set_addresses(record.routes()))

    def is_ready(self) -> bool:
        """Whether a pod of the gateway answers."""
        found = self._cluster.objects.find(DEPLOYMENT, self._desired.namespace, self._name)
        return waiting.ready_replicas(found) > 0

    def problem(self) -> str:
        """Return why no pod of the gateway answers."""
        for pod in self._cluster.pods(part=naming.GATEWAY):
            if (found := waiting.waits_for(pod, model_image="")) is not None:
                return found[1]
        return ""

    def metrics(self, record: Record) -> Mapping[str, PredictorMetrics]:
        """Return the counts of all pods of the gateway together."""
        counts = self._pods.each(lambda pod: {name: _own(pod, seat) for name, seat in record.seats.items()})
        if not counts:
            raise EndpointNotReady("the gateway does not answer", where=self._cluster.where, do="Apply the endpoint")
        # The counts of a pod that joins, or that was left out for a while, are not new: with it counting begins anew.
        began = max(waiting.ready_since(pod.pod) for pod, _ in counts)
        result = {}
        for name, seat in record.seats.items():
            more = read_server_counts(counts[0][0].pages(self._servers(name, "/metrics")))
            own = [found[name] for _, found in counts]
            result[name] = _sum(own, more, since=max(seat.since, began))
        return result

    def pages(self, record: Record, path: str) -> Mapping[str, list[str]]:
        """Return what the servers answer to a path, as a pod of the gateway sees them."""
        if not (pods := self._pods.ready()):
            raise EndpointNotReady("the gateway does not answer", where=self._cluster.where, do="Apply the endpoint")
        return {name: pods[0].pages(self._servers(name, path)) for name in record.seats}

    def _servers(self, name: str, path: str) -> list[str]:
        """Return the URLs of a path at the pods of a predictor; the gateway reaches them all."""
        addresses = ((pod.get("status") or {}).get("podIP") for pod in self._cluster.pods(predictor=name))
        return [f"http://{address}:{PORT}{path}" for address in addresses if address]

    def stop(self, record: Record) -> None:
        """Scale the gateway to no pod, and wait until they have ended."""
        deployment, *_ = self.manifests(record)
        self._cluster.apply({**deployment, "spec": {**deployment["spec"], "replicas": 0}})
        self._cluster.wait_ended(timeout=60, part=naming.GATEWAY)


def _sum(counts: Iterable[Mapping[str, int]], more: ServerCounts, *, since: float) -> PredictorMetrics:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return more.joined(total, since=since)


def _own(pod: GatewayPod, seat: Seat) -> dict[str, int]:
    """Return a pod's counts of a backend without those from before the predictor moved in."""
    return counted_since(pod.slot_counters(seat.slot), seat.baseline.get(pod.key, {}))
