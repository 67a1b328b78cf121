"""The descriptor of the backend ``docker``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.backends.base import Backend, BackendMember, Handle

if TYPE_CHECKING:
    from modelway.backends.docker.section import DockerSection


def _open(*, home: Path, client: Any = None) -> Backend:
    from modelway.backends.docker.backend import DockerBackend

    return DockerBackend(home=home, client=client)


def _section() -> "type[DockerSection]":
    from modelway.backends.docker.section import DockerSection

    return DockerSection


def _stop_command(handle: Handle) -> str:
    return f"docker stop {handle.name}"


MEMBER = BackendMember(
    name="docker",
    open=_open,
    capabilities=frozenset({"cancel", "logs", "memory_limit", "cpu_limit", "gpu", "multi_process", "image"}),
    section=_section,
    secret_form="{connection: id, field: password} or {variable: key}",
    gives_secrets=True,
    stop_command=_stop_command,
)
