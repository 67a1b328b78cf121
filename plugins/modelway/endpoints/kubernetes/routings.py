"""The ways of routing, by their value in YAML."""

from modelway.endpoints.kubernetes.cluster import ClusterObjects
from modelway.endpoints.kubernetes.haproxy_routing import HaproxyRouting
from modelway.endpoints.kubernetes.routing import Routing


def routing_of(cluster: ClusterObjects) -> Routing:
    """Return what routes the requests of an endpoint."""
    return HaproxyRouting(cluster)
