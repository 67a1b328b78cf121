"""The tables of assets, of what garbage collection removed, and of what is still to be exported."""

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    text,
)

from modelway.lineage.schema.columns import Id, Text, UtcTime, key, metadata, reference

# Any files that belong together under a name: data, code, a model. Its versions are immutable, its aliases move.
assets = Table(
    "assets",
    metadata,
    key(),
    Column("name", Text, nullable=False, unique=True),
    Column("description", Text, nullable=False),
    # The number of the newest version; the row is locked while the next number is assigned.
    Column("latest", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", Text, nullable=False),
)

asset_versions = Table(
    "asset_versions",
    metadata,
    key(),
    reference("asset", "assets"),
    Column("number", Integer, nullable=False),
    # Of its paths, their digests and its references: the same again is no new version.
    Column("digest", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("message", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", Text, nullable=False),
    # The model version that the pipeline wrote it for.
    Column("version", Id, ForeignKey("versions.id")),
    UniqueConstraint("asset", "number"),
    CheckConstraint("number >= 1", name="number"),
    Index(None, "digest"),
    Index(None, "version"),
)

asset_files = Table(
    "asset_files",
    metadata,
    reference("asset_version", "asset_versions"),
    Column("path", Text, nullable=False),
    Column("digest", Text, ForeignKey("files.digest"), nullable=False),
    # Where the bytes are: another artifact store may be configured by the time they are needed.
    Column("uri", Text, nullable=False),
    PrimaryKeyConstraint("asset_version", "path"),
    Index(None, "digest"),
)

asset_references = Table(
    "asset_references",
    metadata,
    reference("asset_version", "asset_versions"),
    Column("name", Text, nullable=False),
    Column("target", Id, ForeignKey("asset_versions.id"), nullable=False),
    PrimaryKeyConstraint("asset_version", "name"),
    Index(None, "target"),
)

asset_aliases = Table(
    "asset_aliases",
    metadata,
    reference("asset", "assets"),
    Column("name", Text, nullable=False),
    reference("asset_version", "asset_versions"),
    PrimaryKeyConstraint("asset", "name"),
    Index(None, "asset_version"),
)

asset_alias_history = Table(
    "asset_alias_history",
    metadata,
    key(),
    reference("asset", "assets"),
    Column("name", Text, nullable=False),
    reference("asset_version", "asset_versions", nullable=True),
    Column("at", UtcTime, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Index(None, "asset"),
    Index(None, "asset_version"),
)

# What garbage collection removed from the artifact store; the record of it stays.
removed_files = Table(
    "removed_files",
    metadata,
    Column("uri", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("actor", Text, nullable=False),
    Index(None, "digest"),
)

# What is still to be exported, in order per exporter; written in the transaction of the fact itself.
_UNSENT = "sent_at IS NULL AND refused_at IS NULL"
outbox = Table(
    "outbox",
    metadata,
    key(),
    Column("exporter", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("fact", JSON, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Text, nullable=False),
    # Its sender has until then.
    Column("claimed_until", UtcTime),
    Column("sent_at", UtcTime),
    # The other system rejected it: the rows after it do not wait for it.
    Column("refused_at", UtcTime),
    Index(
        "ix_outbox_unsent",
        "exporter",
        "id",
        postgresql_where=text(_UNSENT),
        sqlite_where=text(_UNSENT),
    ),
)
