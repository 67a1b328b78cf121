"""Routing by a gateway that is there already: its route has the weights, and its controller obeys."""

from collections.abc import Mapping
from typing import Any

from modelway.endpoints.kubernetes.controller_routing import ControllerRouting
from modelway.endpoints.kubernetes.record import Record
from modelway.endpoints.kubernetes.routes import GATEWAY, HTTP_ROUTE, gateway_place, http_route, virtual_service
from modelway.platforms.kubernetes.api import Manifest, Object
from modelway.platforms.kubernetes.objects import kind_of


class RouteRouting(ControllerRouting):
    """See :class:`modelway.endpoints.kubernetes.routing.Routing`."""

    def _route(self) -> Manifest:
        build = http_route if self._desired.own.routing == "gateway-api" else virtual_service
        return build(self._desired)

    def manifests(self, record: Record) -> list[Manifest]:
        """Return the route."""
        return [self._route()]

    def prepare(self, record: Record, before: Record | None) -> None:
        """Do nothing: predictors start by themselves."""

    def apply(self, record: Record) -> None:
        """Apply the route, whose rules change at once, and record the endpoint."""
        record.url = self._url()
        self._cluster.apply(self._route())
        self.save(record)

    def _url(self) -> str:
        if self._desired.own.url:
            return self._desired.own.url
        if self._desired.own.hosts:
            return f"http://{self._desired.own.hosts[0]}"
        gateway = self._cluster.objects.find(GATEWAY, *gateway_place(self._desired))
        found = ((gateway or {}).get("status") or {}).get("addresses") or ()
        return f"http://{found[0]['value']}" if found else ""

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
