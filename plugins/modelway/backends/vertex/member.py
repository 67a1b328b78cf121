"""The descriptor of the backend ``vertex``."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.backends.base import Backend, BackendMember, Handle
from modelway.fields.refusal import KeyPath, Refusal

if TYPE_CHECKING:
    from modelway.backends.vertex.section import VertexSection


def _open(*, home: Path, client: Any = None) -> Backend:
    from modelway.backends.vertex.backend import VertexBackend

    return VertexBackend(home=home, client=client)


def _section() -> "type[VertexSection]":
    from modelway.backends.vertex.section import VertexSection

    return VertexSection


def _refused(spec: Mapping[str, Any], section: KeyPath) -> Iterator[tuple[KeyPath, Refusal]]:
    from modelway.backends.vertex.rules import refused

    return refused(spec, section)


def _stop_command(handle: Handle) -> str:
    project, region, token = (handle.mark or "PROJECT/REGION/TOKEN").split("/")
    where = f"--project {project} --region {region}"
    found = f"gcloud ai custom-jobs list {where} --filter labels.modelway-token={token} --format 'value(name)'"
    return f"gcloud ai custom-jobs cancel {where} $({found})"


MEMBER = BackendMember(
    name="vertex",
    open=_open,
    capabilities=frozenset(
        {
            "cancel",
            "logs",
            "memory_limit",
            "cpu_limit",
            "disk_limit",
            "gpu",
            "multi_node",
            "multi_node_on_store",
            "multi_process",
            "image",
            "storage",
        }
    ),
    section=_section,
    refused=_refused,
    hook="modelway.hooks.google.GoogleHook",
    stop_command=_stop_command,
)
