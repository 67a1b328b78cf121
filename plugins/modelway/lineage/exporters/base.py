"""The port of lineage exporters: what one receives, where it sends, and how it is found by its name."""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import ModuleType
from typing import Any, Protocol

import modelway.lineage.exporters
from modelway.errors import CapabilityMissing
from modelway.lineage.records.version import RunRecord, VersionDetail

#: what can be exported: a version's run began or failed, it made a version or reused one, an alias moved, an image of a
#: version was built, a version got another weight at an endpoint
FACT_KINDS = (
    *("run-started", "run-failed", "version-registered", "version-reused", "alias-set"),
    *("image-built", "weight-set"),
)


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where an exporter sends, and how it logs in: with login and password, or with a password alone: a token."""

    exporter: str
    url: str
    """Holds neither login nor password."""
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, str] = field(default_factory=dict)
    """What else the exporter's own file knows."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Something that happened to a model."""

    kind: str
    """Of ``FACT_KINDS``."""
    at: datetime
    model: str
    run: RunRecord
    """The run that it happened in or, for what happens to a version later, the run that made it."""
    detail: Mapping[str, Any]
    """What else belongs to the fact, such as ``{alias}``, ``{error}`` or ``{endpoint, weight}``."""
    version: VersionDetail | None = None
    """The version that it is about, as the lineage has it now."""


class Exporter(Protocol):
    """Sends to one system; made by its file's ``connect(destination)`` and used by one thread at a time.

    The file also has ``KINDS``, the kinds of facts that it wants.
    """

    def export(self, fact: Fact, *, until: float) -> None:
        """Send a fact; sent again, after a failure at any point, the system ends up the same.

        :param until: when to give up, by ``time.monotonic()``
        :raises ExporterUnavailable: the system does not answer, or lets nobody in
        :raises ExportRefused: it refuses this fact as it is
        """

    def close(self) -> None:
        """Close the connections."""


def known_exporters() -> tuple[str, ...]:
    """Return the names of the exporters, sorted, without importing them."""
    names = (module.name for module in pkgutil.iter_modules(modelway.lineage.exporters.__path__))
    return tuple(sorted(name for name in names if name != "base" and not name.startswith("_")))


def exporter_kinds(name: str) -> frozenset[str]:
    """Return the kinds of facts that an exporter wants.

    :raises CapabilityMissing: there is no such exporter
    """
    kinds: frozenset[str] = _file_of(name).KINDS
    return kinds


def connect_exporter(destination: Destination) -> Exporter:
    """Return the exporter of a destination; it connects when it must.

    :raises CapabilityMissing: there is no such exporter
    """
    exporter: Exporter = _file_of(destination.exporter).connect(destination)
    return exporter


def _file_of(name: str) -> ModuleType:
    if name not in known_exporters():
        raise CapabilityMissing(f"'{name}' is not an exporter", known=known_exporters(), given=name)
    return importlib.import_module(f"modelway.lineage.exporters.{name}")
