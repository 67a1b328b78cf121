"""The descriptor of the endpoint ``cloud_run``."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.endpoints.base import Endpoint, EndpointMember, Login

if TYPE_CHECKING:
    from modelway.endpoints.cloud_run.section import CloudRunSection
    from modelway.fields.refusal import KeyPath, Refusal


def _open(
    *,
    root: Path,
    login: Login | None = None,
    client: Any = None,
    platform: Mapping[str, Any] | None = None,
    ready_timeout: float | None = None,
) -> Endpoint:
    from modelway.endpoints.cloud_run.endpoint import open_endpoint

    return open_endpoint(root=root, client=client, platform=platform or {}, login=login, ready_timeout=ready_timeout)


def _section() -> "type[CloudRunSection]":
    from modelway.endpoints.cloud_run.section import CloudRunSection

    return CloudRunSection


def _refuses(endpoint: Mapping[str, Any]) -> "Iterator[tuple[KeyPath, Refusal]]":
    from modelway.endpoints.cloud_run.rules import refused

    return refused(endpoint)


def _lacks(section: Mapping[str, Any]) -> Mapping[str, str]:
    return {
        "replicas": "Cloud Run chooses the number of instances; write autoscaling: {minimum: 2, maximum: 4}",
        "sticky": "Cloud Run splits requests, not users; choose the target kubernetes or docker",
        "mirror": "Cloud Run sends a request to one revision only; choose the target kubernetes",
    }


MEMBER = EndpointMember(
    name="cloud_run",
    open=_open,
    capabilities=frozenset({"weights", "autoscaling", "several", "cpu_limit", "memory_limit", "gpu"}),
    section=_section,
    lacks=_lacks,
    refuses=_refuses,
    hook="modelway.hooks.google.GoogleHook",
    letter_first=True,
    placed=True,
    needs_server=True,
)
