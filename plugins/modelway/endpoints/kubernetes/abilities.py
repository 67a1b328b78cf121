"""What an engine or a way of routing cannot do, refused by name before anything is applied."""

from collections.abc import Mapping
from typing import Any

from modelway.endpoints.base import EndpointSpec, Sticky
from modelway.errors import CapabilityMissing

#: by engine or routing: what it cannot do
_MISSING: Mapping[str, Mapping[str, str]] = {
    "haproxy": {"mirror": "HAProxy sends a request to one server only; choose routing: gateway-api or istio"},
    "gateway-api": {"sticky": "a route of the Gateway API splits requests, not users; choose routing: haproxy"},
    "istio": {"sticky": "Istio chooses the version before it hashes; choose routing: haproxy"},
    "kserve": {
        "sticky": "KServe splits requests, not users; choose engine: plain",
        "mirror": "KServe sends a request to one version only; choose engine: plain with routing: gateway-api",
        "autoscaling": "KServe's canaries have a fixed number of pods; choose engine: plain",
    },
    "kubedl": {"autoscaling": "KubeDL's controller ignores autoScale; choose engine: plain"},
}


def lacking(section: Mapping[str, Any]) -> dict[str, str]:
    """Return the capabilities that an endpoint with this section does not have, and why.

    :param section: as it is written; other values than the known ones lack nothing
    """
    engine, routing = section.get("engine", "plain"), section.get("routing", "haproxy")
    # KServe splits the requests itself.
    found = (engine,) if engine == "kserve" else (engine, routing)
    return {key: why for one in found if isinstance(one, str) for key, why in _MISSING.get(one, {}).items()}


def refuse_missing(spec: EndpointSpec) -> None:
    """Refuse what the engine or the routing of an endpoint cannot do.

    :raises CapabilityMissing: with what it is, and what can
    """
    needed = {
        "mirror": spec.mirror is not None,
        "sticky": spec.sticky != Sticky(),
        "autoscaling": any(each.autoscaling for each in spec.predictors),
    }
    for capability, why in lacking(spec.platform).items():
        if needed[capability]:
            raise CapabilityMissing(f"{capability}: {why}", where=f"endpoint {spec.name}")
