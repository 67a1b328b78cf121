"""The records of assets: frozen dataclasses, standard library only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class AssetFile:
    """A file of an asset's version: its path within the asset, ``sha256:<hex>``, bytes, and where those are."""

    path: str
    digest: str
    size: int
    uri: str


@dataclass(frozen=True, kw_only=True)
class NewAssetVersion:
    """What an upload writes; ``references`` name versions of other assets: ``NAME``, ``NAME@3`` or ``NAME:alias``."""

    name: str
    files: Sequence[AssetFile]
    references: Mapping[str, str] = field(default_factory=dict)
    aliases: Sequence[str] = ()
    """Point at the version as soon as it exists."""
    message: str = ""
    description: str | None = None
    """Of the asset; None: as it is."""
    actor: str = "airflow"


@dataclass(frozen=True, kw_only=True)
class AssetReference:
    """A reference of a version to one of another asset, or from there to it."""

    name: str
    asset: str
    number: int


@dataclass(frozen=True, kw_only=True)
class RemovedFile:
    """A file that garbage collection removed from the artifact store."""

    uri: str
    digest: str
    at: datetime
    actor: str


@dataclass(frozen=True, kw_only=True)
class AssetSummary:
    """One row of an asset's history."""

    asset: str
    number: int
    digest: str
    """Of its paths, their digests and its references."""
    size: int
    message: str
    created_at: datetime
    created_by: str
    aliases: tuple[str, ...]
    model_version: int | None = None
    """The number of the model's version that the pipeline wrote it for."""


@dataclass(frozen=True, kw_only=True)
class AssetDetail:
    """The whole record of an asset's version; files and references are sorted by path and name."""

    summary: AssetSummary
    description: str
    files: tuple[AssetFile, ...]
    references: tuple[AssetReference, ...]
    referred_by: tuple[AssetReference, ...]
    """The versions of other assets that refer to it, newest first."""
    removed: tuple[RemovedFile, ...]
    """Which of its files garbage collection removed."""


@dataclass(frozen=True, kw_only=True)
class AssetAliasChange:
    """An alias of an asset was pointed at a version."""

    alias: str
    number: int | None
    at: datetime
    actor: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class AssetHistory:
    """The history of an asset's aliases, newest first."""

    name: str
    description: str
    versions: tuple[AssetSummary, ...]
    moves: tuple[AssetAliasChange, ...]


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A version of an asset or of a model that has a content, and under which path."""

    kind: str
    """``asset`` or ``model``."""
    name: str
    number: int
    path: str
    size: int
    created_at: datetime
    created_by: str


@dataclass(frozen=True, kw_only=True)
class UploadedVersion:
    """The result of an upload; without anything new it is a version that existed already."""

    name: str
    number: int
    is_new: bool
    moved: tuple[str, ...]
    """The aliases that point at it only now."""


@dataclass(frozen=True, kw_only=True)
class AssetDiff:
    """How a version of an asset differs from another one."""

    added: tuple[AssetFile, ...]
    removed: tuple[AssetFile, ...]
    changed: tuple[tuple[AssetFile, AssetFile], ...]
    same: int
    """How many files are the same under the same path."""
    references: tuple[tuple[str, AssetReference | None, AssetReference | None], ...]
    """The references that differ: name, before, after."""
