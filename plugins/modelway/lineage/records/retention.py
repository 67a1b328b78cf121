"""Files of the artifact store as garbage collection sees them: frozen dataclasses, standard library only."""

from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file of the artifact store; one that is not whole was left by a killed writer or a quarantine."""

    uri: str
    digest: str
    size: int
    is_whole: bool
    modified: datetime = field(default_factory=lambda: datetime.now(UTC))
    """When it was stored."""


@dataclass(frozen=True, kw_only=True)
class UnneededFile:
    """A file that no retained version needs, and what it is, as far as the lineage knows it."""

    file: StoredFile
    what: str
