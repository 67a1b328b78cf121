"""The ways of routing, by their value in YAML."""

from modelway.endpoints.kubernetes.cluster import ClusterObjects
from modelway.endpoints.kubernetes.engines import KINDS
from modelway.endpoints.kubernetes.haproxy_routing import HaproxyRouting
from modelway.endpoints.kubernetes.kserve import KServeRouting
from modelway.endpoints.kubernetes.route_routing import RouteRouting
from modelway.endpoints.kubernetes.routes import HTTP_ROUTE, VIRTUAL_SERVICE
from modelway.endpoints.kubernetes.routing import Routing
from modelway.endpoints.kubernetes.section import KubernetesEndpointSection
from modelway.platforms.kubernetes.objects import Kind


def routing_of(cluster: ClusterObjects) -> Routing:
    """Return what routes the requests of an endpoint."""
    own = cluster.desired.own
    if own.engine == "kserve":
        return KServeRouting(cluster)
    if own.routing == "haproxy":
        return HaproxyRouting(cluster)
    return RouteRouting(cluster)


def kinds_of(own: KubernetesEndpointSection) -> list[Kind]:
    """Return the kinds of objects that an endpoint with this section has besides."""
    routes = {"gateway-api": HTTP_ROUTE, "istio": VIRTUAL_SERVICE}
    return [*KINDS[own.engine], *([routes[own.routing]] if own.routing in routes else [])]
