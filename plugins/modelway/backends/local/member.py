"""The descriptor of the backend ``local``."""

from pathlib import Path
from typing import Any

from modelway.backends.base import Backend, BackendMember


def _open(*, home: Path, client: Any = None) -> Backend:
    from modelway.backends.local.backend import LocalBackend

    return LocalBackend(home=home)


MEMBER = BackendMember(
    name="local",
    of_host=True,
    open=_open,
    capabilities=frozenset({"cancel", "logs", "memory_limit", "cpu_limit", "gpu", "multi_process"}),
)
