"""The results of queries over the lineage: frozen dataclasses, standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class FileHolder:
    """Something that has a content, and in which role."""

    kind: str
    """``version``, ``run``, ``asset``, ``dataset`` or ``image``."""
    name: str
    """Of the model, the asset or the data set; of an image its reference."""
    number: int | None
    """Of the version."""
    path: str
    """Within the version or asset; a URI for what is not part of one."""
    role: str
    dag_id: str | None = None
    run_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class GraphNode:
    """Something that the lineage knows; ``id`` is ``kind:`` and what names it."""

    id: str
    kind: str
    """``version``, ``run``, ``code``, ``commit``, ``dataset``, ``environment``, ``image``, ``endpoint``, ``asset`` or
    ``file``."""
    name: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GraphEdge:
    """``source`` came out of ``target``, or has it; ``relation`` reads from source to target."""

    source: str
    target: str
    relation: str


@dataclass(frozen=True, kw_only=True)
class LineageGraph:
    """What is upstream or downstream of its roots, nearest first."""

    direction: str
    roots: tuple[str, ...]
    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]
    is_whole: bool
    """False: there is more than the limits allowed."""


@dataclass(frozen=True, kw_only=True)
class ServingRecord:
    """A version's weight at an endpoint, at one time."""

    endpoint: str
    model: str
    version: int
    weight: int
    since: datetime
    """When the weight became what it is."""
    serving_since: datetime
    """When the weight was last zero, or the version new there."""
    actor: str
    """Who set the weight."""
    run_id: str | None
    url: str | None = None
    """Where the endpoint serves, or served; None without a record."""
    stopped_at: datetime | None = None
    """When somebody stopped the endpoint; None while it is not stopped."""
