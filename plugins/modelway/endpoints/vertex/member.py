"""The descriptor of the endpoint ``vertex``."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.endpoints.base import Endpoint, EndpointMember, Login

if TYPE_CHECKING:
    from modelway.endpoints.vertex.section import VertexEndpointSection
    from modelway.fields.refusal import KeyPath, Refusal


def _open(
    *,
    root: Path,
    login: Login | None = None,
    client: Any = None,
    platform: Mapping[str, Any] | None = None,
    ready_timeout: float | None = None,
) -> Endpoint:
    from modelway.endpoints.vertex.endpoint import open_endpoint

    return open_endpoint(root=root, client=client, platform=platform or {}, login=login, ready_timeout=ready_timeout)


def _section() -> "type[VertexEndpointSection]":
    from modelway.endpoints.vertex.section import VertexEndpointSection

    return VertexEndpointSection


def _refuses(endpoint: Mapping[str, Any]) -> "Iterator[tuple[KeyPath, Refusal]]":
    from modelway.endpoints.vertex.rules import refused

    return refused(endpoint)


def _lacks(section: Mapping[str, Any]) -> Mapping[str, str]:
    return {
        "cpu_limit": "on Vertex AI a version has whole machines; write vertex: {machine_type: n1-standard-4}",
        "memory_limit": "on Vertex AI a version has whole machines; write vertex: {machine_type: n1-highmem-2}",
        "sticky": "Vertex AI splits requests, not users; choose the target kubernetes or docker",
        "mirror": "Vertex AI sends a request to one version only; choose the target kubernetes",
    }


MEMBER = EndpointMember(
    name="vertex",
    open=_open,
    capabilities=frozenset({"weights", "replicas", "autoscaling", "several", "gpu"}),
    section=_section,
    lacks=_lacks,
    refuses=_refuses,
    hook="modelway.hooks.google.GoogleHook",
    letter_first=True,
    placed=True,
    needs_server=True,
)
