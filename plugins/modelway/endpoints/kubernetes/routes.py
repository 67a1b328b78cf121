"""The split as a route of somebody else's gateway: an HTTPRoute of the Gateway API, or Istio's VirtualService.

Sources: the Gateway API reference (``rules`` and ``backendRefs`` are atomic lists, so that one owner writes all of
them; weights are in proportion, at most 1,000,000), Istio's reference of VirtualService (weights of one rule add up to
100; the first rule that matches is used).
"""

from modelway.endpoints.base import Predictor
from modelway.endpoints.kubernetes.desired import PORT, Desired
from modelway.endpoints.shares import percentages, shares
from modelway.platforms.kubernetes.api import Manifest
from modelway.platforms.kubernetes.objects import Kind

HTTP_ROUTE = Kind("gateway.networking.k8s.io/v1", "HTTPRoute")
GATEWAY = Kind("gateway.networking.k8s.io/v1", "Gateway")
VIRTUAL_SERVICE = Kind("networking.istio.io/v1beta1", "VirtualService")


def gateway_place(desired: Desired) -> tuple[str, str]:
    """Return namespace and name of the Gateway that the route belongs to."""
    namespace, _, name = (desired.own.gateway or "").rpartition("/")
    return namespace or desired.namespace, name


def http_route(desired: Desired) -> Manifest:
    """Return the HTTPRoute: a rule for each version's own URL, and one whose backends have the weights."""
    namespace, name = gateway_place(desired)
    spec: Manifest = {"parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": name}]}
    if namespace != desired.namespace:
        spec["parentRefs"][0]["namespace"] = namespace
    if desired.own.hosts:
        spec["hostnames"] = list(desired.own.hosts)
    weights = shares({each.name: each.weight for each in desired.spec.predictors})
    split: Manifest = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "backendRefs": [{**_backend(desired, each), "weight": weights[each.name]} for each in desired.spec.predictors],
    }
    if mirror := desired.spec.mirror:
        (target,) = (each for each in desired.spec.predictors if each.name == mirror.predictor)
        to: Manifest = {"backendRef": _backend(desired, target)}
        if mirror.percent != 100:
            to["percent"] = mirror.percent
        split["filters"] = [{"type": "RequestMirror", "requestMirror": to}]
    pinned = [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": _own_path(desired, each)}}],
            "backendRefs": [{**_backend(desired, each), "weight": 1}],
        }
        for each in _with_paths(desired)
    ]
    return {
        **desired.metadata(HTTP_ROUTE, desired.spec.name, part="route"),
        "spec": {**spec, "rules": [*pinned, split]},
    }


def _backend(desired: Desired, predictor: Predictor) -> Manifest:
    # Group and kind are left to their defaults: an older server reads an empty group as null.
    return {"name": desired.name_of(predictor), "port": PORT}


def virtual_service(desired: Desired) -> Manifest:
    """Return the VirtualService: the URLs of versions, then one rule with all destinations."""
    percent = percentages({each.name: each.weight for each in desired.spec.predictors})
    split: Manifest = {
        "name": "split",
        "route": [
            {"destination": _destination(desired, each), "weight": percent[each.name]}
            for each in desired.spec.predictors
        ],
    }
    if mirror := desired.spec.mirror:
        (target,) = (each for each in desired.spec.predictors if each.name == mirror.predictor)
        split |= {"mirror": _destination(desired, target), "mirrorPercentage": {"value": float(mirror.percent)}}
    pinned = [
        {
            "name": each.name,
            "match": [{"uri": {"prefix": _own_path(desired, each)}}],
            "route": [{"destination": _destination(desired, each), "weight": 100}],
        }
        for each in _with_paths(desired)
    ]
    spec = {"hosts": list(desired.own.hosts), "gateways": [desired.own.gateway], "http": [*pinned, split]}
    return {**desired.metadata(VIRTUAL_SERVICE, desired.spec.name, part="route"), "spec": spec}


def _destination(desired: Desired, predictor: Predictor) -> Manifest:
    host = f"{desired.name_of(predictor)}.{desired.namespace}.svc.cluster.local"
    return {"host": host, "port": {"number": PORT}}


def _with_paths(desired: Desired) -> list[Predictor]:
    """Return the predictors whose version is named by a URL: the first of each version of the endpoint's own model."""
    found: dict[int, Predictor] = {}
    for each in desired.spec.predictors:
        if each.model in (None, desired.spec.model):
            found.setdefault(each.version, each)
    return list(found.values())


def _own_path(desired: Desired, predictor: Predictor) -> str:
    # A prefix of whole segments for an HTTPRoute; for Istio of text, which ".../versions/1" of version 12 would match.
    end = "/" if desired.own.routing == "istio" else ""
    return f"/v2/models/{desired.spec.model}/versions/{predictor.version}{end}"
