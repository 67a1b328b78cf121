"""How far exporters are: frozen dataclasses, standard library only."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class ExporterState:
    """How far one exporter is."""

    exporter: str
    waiting: int = 0
    sent: int = 0
    refused: int = 0
    oldest: datetime | None = None
    """When the oldest of those that wait happened."""
    error: str = ""
    """Why the first that waits could not be sent, else why the last refused one was refused."""
    claimed_until: datetime | None = None
    """Until when a sender has the first that waits."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """The outcome for one exporter's rows."""

    exporter: str
    sent: int = 0
    refused: int = 0
    error: str = ""
    """Why the rest waits; empty when nothing does, or another sender is at work."""
