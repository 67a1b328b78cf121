"""The port of lineage exporters: what one receives, where it sends, and how it is found by its name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, cast

from modelway.ports import Member, load

if TYPE_CHECKING:
    from modelway.lineage.records.version import RunRecord, VersionDetail

#: what can be exported: a version's run began or failed, it made a version or reused one, what became of a candidate of
#: its sweep, an alias moved, an image of a version was built, a version got another weight at an endpoint
FACT_KINDS = (
    *("run-started", "run-failed", "version-registered", "version-reused", "candidate-ended", "alias-set"),
    *("image-built", "weight-set"),
)


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where an exporter sends, and how it logs in: with login and password, or with a password alone: a token."""

    exporter: str
    url: str
    """Contains neither login nor password."""
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, str] = field(default_factory=dict)
    """The exporter's own options."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Something that happened to a model."""

    kind: str
    """Of ``FACT_KINDS``."""
    at: datetime
    model: str
    run: "RunRecord"
    """The run that it happened in or, for what happens to a version later, the run that made it."""
    detail: Mapping[str, Any]
    """What else belongs to the fact, such as ``{alias}``, ``{error}`` or ``{endpoint, weight}``."""
    version: "VersionDetail | None" = None
    """The version that it is about, as the lineage has it now."""


class Exporter(Protocol):
    """Sends to one system; made by its member's ``open`` and used by one thread at a time."""

    def export(self, fact: Fact, *, until: float) -> None:
        """Send a fact; sent again, after a failure at any point, the system ends up the same.

        :param until: when to give up, by ``time.monotonic()``
        :raises ExporterUnavailable: the system does not answer, or refuses the login
        :raises ExportRefused: it rejects this fact
        """

    def close(self) -> None:
        """Close the connections."""


@dataclass(frozen=True, kw_only=True)
class ExporterMember(Member[Exporter]):
    """The description of an exporter; ``open(destination)`` makes it, and it connects when it must.

    ``capabilities`` are the kinds of facts that it wants, of ``FACT_KINDS``.
    """


def exporter_kinds(name: str) -> frozenset[str]:
    """Return the kinds of facts that an exporter wants.

    :raises CapabilityMissing: there is no such exporter
    """
    return load("exporters", name).capabilities


def connect_exporter(destination: Destination) -> Exporter:
    """Return the exporter of a destination; it connects when it must.

    :raises CapabilityMissing: there is no such exporter
    """
    return cast(Exporter, load("exporters", destination.exporter).open(destination))
