"""The messages of making a version: frozen, verified, registered."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from modelway.artifacts.store import Artifact
from modelway.runs.messages.checkpoints import JobCost
from modelway.runs.messages.message import FORMAT, Message, Xcom, checked_format

if TYPE_CHECKING:
    from modelway.lineage.records.version import VersionSummary


@dataclass(frozen=True, kw_only=True)
class ArchiveFile:
    """A file of a model archive."""

    path: str
    size: int
    sha256: str
    role: str


@dataclass(frozen=True, kw_only=True)
class FreezeCost(JobCost):
    """The cost of freezing, and where its job's events are."""

    seed: int | None = None
    events: Artifact | None = None


@dataclass(frozen=True, kw_only=True)
class FrozenModel(Message):
    """What FreezeModelOperator returns."""

    uri: str
    digest: str
    size: int
    model_digest: str = ""
    files: tuple[ArchiveFile, ...] = ()
    description: Artifact | None = None
    """the archive's ``outputs/model.yml``"""
    cost: FreezeCost | None = None

    @property
    def archive(self) -> Artifact:
        """The archive in the artifact store."""
        return Artifact(uri=self.uri, digest=self.digest, size=self.size)


@dataclass(frozen=True, kw_only=True)
class VerifiedModel(Message):
    """What VerifyModelOperator returns: the job's report, see docs/verification.md, with the passed gates."""

    report: Mapping[str, Any] = field(default_factory=dict)

    def to_xcom(self) -> Xcom:
        """Return the report with the format number beside its keys."""
        return {**super().to_xcom()["report"], "format": FORMAT}

    @classmethod
    def from_xcom(cls, data: object) -> Self:
        """Read a report.

        :raises ModelwayError: it is none, or was written by a later version of modelway
        """
        stored = checked_format(data, what=cls.__name__)
        return cls(report={name: part for name, part in stored.items() if name != "format"})


@dataclass(frozen=True, kw_only=True)
class KnownVersion(Message):
    """A version in the lineage."""

    model: str
    version: int
    archive: Artifact
    model_digest: str = ""


@dataclass(frozen=True, kw_only=True)
class RegisteredVersion(KnownVersion):
    """What RegisterModelOperator and FindVersionOperator return."""

    former_names = {"blocked_reason": "held", "requested": "asked"}

    blocked_reason: str | None = None
    """why the run moves neither alias nor traffic, None when it may"""
    requested: bool = False
    """whether somebody requested this version, so that it may take over from a newer one"""

    @classmethod
    def of(cls, known: "VersionSummary", *, blocked_reason: str | None, requested: bool) -> "RegisteredVersion":
        """Return a version as the lineage has it."""
        return cls(
            model=known.model,
            version=known.number,
            archive=Artifact(uri=known.archive_uri, digest=known.archive_digest, size=known.archive_size),
            model_digest=known.model_digest,
            blocked_reason=blocked_reason,
            requested=requested,
        )
