"""The descriptor of the backend ``kubernetes``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.backends.base import Backend, BackendMember, Handle

if TYPE_CHECKING:
    from modelway.backends.kubernetes.section import KubernetesSection


def _open(*, home: Path, client: Any = None, version: tuple[int, int] | None = None) -> Backend:
    from modelway.backends.kubernetes.backend import KubernetesBackend

    return KubernetesBackend(home=home, client=client, version=version)


def _section() -> "type[KubernetesSection]":
    from modelway.backends.kubernetes.section import KubernetesSection

    return KubernetesSection


def _stop_command(handle: Handle) -> str:
    from modelway.backends.kubernetes.launchers import KINDS

    namespace, launcher, _ = (handle.mark or "default/job/").split("/")
    kind = KINDS[launcher][2].lower() if launcher in KINDS else "job"
    return f"kubectl delete {kind} -n {namespace} -l modelway.dev/try={handle.name}"


MEMBER = BackendMember(
    name="kubernetes",
    open=_open,
    capabilities=frozenset(
        {
            "cancel",
            "logs",
            "memory_limit",
            "cpu_limit",
            "disk_limit",
            "gpu",
            "gpu_type",
            "multi_node",
            "multi_process",
            "image",
            "storage",
        }
    ),
    section=_section,
    hook="airflow.providers.cncf.kubernetes.hooks.kubernetes.KubernetesHook",
    secret_form="{secret: name, key: key}",
    stop_command=_stop_command,
)
