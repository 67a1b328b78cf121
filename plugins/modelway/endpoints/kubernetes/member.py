"""The descriptor of the endpoint ``kubernetes``."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.endpoints.base import Endpoint, EndpointMember, Login

if TYPE_CHECKING:
    from modelway.endpoints.kubernetes.section import KubernetesEndpointSection


def _open(
    *,
    root: Path,
    login: Login | None = None,
    client: Any = None,
    ready_timeout: float | None = None,
) -> Endpoint:
    from modelway.endpoints.kubernetes.endpoint import KubernetesEndpoint

    return KubernetesEndpoint(root=root, login=login, client=client, ready_timeout=ready_timeout)


def _section() -> "type[KubernetesEndpointSection]":
    from modelway.endpoints.kubernetes.section import KubernetesEndpointSection

    return KubernetesEndpointSection


def _lacks(section: Mapping[str, Any]) -> Mapping[str, str]:
    from modelway.endpoints.kubernetes.abilities import lacking

    return lacking(section)


MEMBER = EndpointMember(
    name="kubernetes",
    open=_open,
    # Those of the default engine and routing; what another one lacks is refused by the section.
    capabilities=frozenset(
        {"weights", "sticky", "mirror", "replicas", "autoscaling", "several", "sketches"}
        | {"cpu_limit", "memory_limit", "gpu"}
    ),
    section=_section,
    lacks=_lacks,
    # That of a Service must.
    letter_first=True,
    hook="airflow.providers.cncf.kubernetes.hooks.kubernetes.KubernetesHook",
)
