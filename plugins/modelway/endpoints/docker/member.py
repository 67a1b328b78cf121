"""The descriptor of the endpoint ``docker``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.endpoints.base import Endpoint, EndpointMember, Login

if TYPE_CHECKING:
    from modelway.endpoints.docker.section import DockerTargetSection


def _open(
    *,
    root: Path,
    login: Login | None = None,
    client: Any = None,
    ready_timeout: float = 120.0,
) -> Endpoint:
    from modelway.endpoints.docker.endpoint import DockerEndpoint
    from modelway.platforms.docker.engine import Engine

    return DockerEndpoint(root=root.absolute(), engine=Engine(client), login=login, ready_timeout=ready_timeout)


def _section() -> "type[DockerTargetSection]":
    from modelway.endpoints.docker.section import DockerTargetSection

    return DockerTargetSection


_CAN = frozenset({"weights", "sticky", "replicas", "several", "cpu_limit", "memory_limit", "gpu", "sketches"})
MEMBER = EndpointMember(name="docker", open=_open, capabilities=_CAN, section=_section, connects=True)
