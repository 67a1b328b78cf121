"""Routing by a gateway that is there already: its route has the weights, and its controller obeys."""

from collections.abc import Mapping, Sequence
from typing import Any

from modelway.endpoints.base import PredictorMetrics
from modelway.endpoints.kubernetes.cluster import ClusterObjects
from modelway.endpoints.kubernetes.pages import server_metrics
from modelway.endpoints.kubernetes.record import Record, Seat
from modelway.endpoints.kubernetes.routes import GATEWAY, HTTP_ROUTE, gateway_place, http_route, virtual_service
from modelway.platforms.kubernetes.api import Manifest, Object
from modelway.platforms.kubernetes.objects import kind_of


class RouteRouting:
    """See :class:`modelway.endpoints.kubernetes.routing.Routing`."""

    def __init__(self, cluster: ClusterObjects) -> None:
        """Route the requests of an endpoint."""
        self._cluster, self._desired = cluster, cluster.desired

    def _route(self) -> Manifest:
        build = http_route if self._desired.own.routing == "gateway-api" else virtual_service
        return build(self._desired)

    def manifests(self, record: Record) -> list[Manifest]:
        """Return the route."""
        return [self._route()]

    def prepare(self, record: Record, before: Record | None) -> None:
        """Do nothing: predictors start by themselves."""

    def begin_counting(self, record: Record, fresh: Sequence[str]) -> None:
        """Do nothing: the servers count from their start."""

    def apply(self, record: Record) -> None:
        """Apply the route, whose rules change at once, and record the endpoint."""
        record.url = self._url()
        self._cluster.apply(self._route())
        self.save(record)

    def shift(self, record: Record) -> None:
        """Apply the route with its other weights."""
        self.apply(record)
        self.save(record)

    def restore(self, record: Record) -> None:
        """See :meth:`apply`."""
        self.apply(record)

    def save(self, record: Record) -> None:
        """Write the record."""
        self._cluster.save(record.manifest(self._desired, {}))

    def _url(self) -> str:
        if self._desired.own.url:
            return self._desired.own.url
        if self._desired.own.hosts:
            return f"http://{self._desired.own.hosts[0]}"
        gateway = self._cluster.objects.find(GATEWAY, *gateway_place(self._desired))
        found = ((gateway or {}).get("status") or {}).get("addresses") or ()
        return f"http://{found[0]['value']}" if found else ""

    def wait_empty(self, seat: Seat, *, patience: float) -> None:
        """Do nothing: a pod that is to go answers on until its Service has left it out."""

    def forget(self, record: Record) -> None:
        """Do nothing: the route has only what is wanted."""

    def drift(self, record: Record) -> tuple[str, ...]:
        """Return nothing: all is in the cluster's objects."""
        return ()

    def is_ready(self) -> bool:
        """Whether a controller has accepted the route; Istio does not say."""
        found = self._found()
        return found is not None and (kind_of(found) != HTTP_ROUTE or not _refusals(found))

    def problem(self) -> str:
        """Return why the route is not used."""
        found = self._found()
        return "its route was deleted" if found is None else "; ".join(_refusals(found))

    def _found(self) -> Object | None:
        kind = kind_of(self._route())
        return self._cluster.objects.find(kind, self._desired.namespace, self._desired.spec.name)

    def metrics(self, record: Record) -> Mapping[str, PredictorMetrics]:
        """Return what the servers themselves count."""
        return {name: server_metrics(self._cluster, name, seat) for name, seat in record.seats.items()}

    def stop(self, record: Record) -> None:
        """Leave the route: without pods behind it, its gateway refuses."""


def _refusals(route: Mapping[str, Any]) -> list[str]:
    """Return why the parents of an HTTPRoute do not use it; nothing where one does."""
    parents = (route.get("status") or {}).get("parents") or ()
    if not parents:
        return ["no controller has accepted its HTTPRoute"]
    said = []
    for parent in parents:
        refused = [
            f"{one.get('type')}: {one.get('message') or one.get('reason')}"
            for one in parent.get("conditions") or ()
            if one.get("type") in ("Accepted", "ResolvedRefs") and one.get("status") != "True"
        ]
        if not refused:
            return []
        said += refused
    return said
