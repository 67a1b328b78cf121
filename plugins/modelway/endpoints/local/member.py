"""The descriptor of the endpoint ``local``."""

from pathlib import Path
from typing import TYPE_CHECKING

from modelway.endpoints.base import Endpoint, EndpointMember, Login

if TYPE_CHECKING:
    from modelway.endpoints.local.section import LocalSection


def _open(*, root: Path, login: Login | None = None, ready_timeout: float = 60.0) -> Endpoint:
    from modelway.endpoints.local.endpoint import open_endpoint

    return open_endpoint(root=root, login=login, ready_timeout=ready_timeout)


def _section() -> "type[LocalSection]":
    from modelway.endpoints.local.section import LocalSection

    return LocalSection


#: ``cpu_limit`` is the threads of a server, which the system does not enforce
_CAN = frozenset({"weights", "sticky", "replicas", "several", "cpu_limit", "sketches"})
MEMBER = EndpointMember(name="local", open=_open, capabilities=_CAN, section=_section, of_host=True)
