"""The tables of the lineage database, in types that SQLite and PostgreSQL share.

A version, an event and a line of history are never updated: the migrations add triggers that refuse it.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

#: the newest migration; a test holds it against migrations/versions
SCHEMA = "0004"

#: tables whose rows are never updated
APPEND_ONLY = ("versions", "alias_history", "weight_history", "events")


class UtcTime(TypeDecorator[datetime]):
    """An aware time, kept in UTC; SQLite has no time zones, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Turn an aware time into UTC.

        :raises ValueError: the time has no zone
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Return the time with its zone."""
        if value is None:
            return None
        time: datetime = value
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


#: an identity column: SQLite counts only in a column of type INTEGER, PostgreSQL may need more than 32 bits
Id = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id() -> Column[int]:
    return Column("id", Id, primary_key=True)


def _reference(name: str, table: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, Id, ForeignKey(f"{table}.id"), nullable=nullable)


models = Table(
    "models",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    Column("description", Text, nullable=False),
    # The number of the newest version; the row is locked while the next number is taken.
    Column("latest", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    _id(),
    _reference("model", "models"),
    Column("dag_id", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("run_type", Text, nullable=False),
    Column("started_at", UtcTime),
    Column("code_digest", Text),
    Column("commit_id", Text),
    Column("branch", Text),
    Column("dirty", Boolean),
    Column("spec", JSON, nullable=False),
    Column("seed", BigInteger),
    Column("inputs_digest", Text),
    Column("interval_start", UtcTime),
    Column("interval_end", UtcTime),
    Column("partition", Text),
    Column("run_after", UtcTime),
    Column("reason", Text),
    Column("seconds", Double),
    Column("gpu_seconds", Double),
    # Two DAGs may give runs of one model the same run id, such as that of one schedule.
    UniqueConstraint("model", "dag_id", "run_id"),
    Index(None, "code_digest"),
    Index(None, "commit_id"),
    Index(None, "inputs_digest"),
)

versions = Table(
    "versions",
    metadata,
    _id(),
    _reference("model", "models"),
    Column("number", Integer, nullable=False),
    Column("run", Id, ForeignKey("runs.id"), nullable=False, unique=True),
    Column("description", Text, nullable=False),
    Column("archive_uri", Text, nullable=False),
    Column("archive_digest", Text, nullable=False),
    Column("archive_size", BigInteger, nullable=False),
    Column("model_digest", Text, nullable=False),
    Column("checkpoint", Text, nullable=False),
    Column("checkpoint_digest", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("checkpoint_uri", Text),
    UniqueConstraint("model", "number"),
    CheckConstraint("number >= 1", name="number"),
    Index(None, "archive_digest"),
    Index(None, "model_digest"),
)

params = Table(
    "params",
    metadata,
    _reference("run", "runs"),
    Column("stage", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("value", JSON, nullable=False),
    PrimaryKeyConstraint("run", "stage", "name"),
)

datasets = Table(
    "datasets",
    metadata,
    _id(),
    _reference("run", "runs"),
    Column("stage", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("uri", Text, nullable=False),
    Column("digest", Text),
    # What its owners call this state of it; no version of a model.
    Column("version", Text),
    Column("rows", BigInteger),
    Index(None, "run"),
    Index(None, "digest"),
)

# One row per metric with all its points: a row per point would be 4,000 rows for an ordinary run.
metrics = Table(
    "metrics",
    metadata,
    _reference("run", "runs"),
    Column("stage", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("steps", JSON, nullable=False),
    Column("series", JSON, nullable=False),
    Column("last_value", Double),
    Column("last_flag", Text),
    PrimaryKeyConstraint("run", "stage", "name"),
)

evaluations = Table(
    "evaluations",
    metadata,
    _id(),
    _reference("run", "runs"),
    Column("checkpoint", Text, nullable=False),
    Column("digest", Text),
    Column("stage", Text),
    Column("step", BigInteger),
    Column("note", Text, nullable=False),
    Column("seconds", Double),
    Column("startup_seconds", Double),
    UniqueConstraint("run", "checkpoint"),
)

evaluation_metrics = Table(
    "evaluation_metrics",
    metadata,
    _reference("evaluation", "evaluations"),
    Column("name", Text, nullable=False),
    Column("value", Double),
    Column("flag", Text),
    PrimaryKeyConstraint("evaluation", "name"),
)

version_metrics = Table(
    "version_metrics",
    metadata,
    _reference("version", "versions"),
    Column("name", Text, nullable=False),
    Column("value", Double),
    Column("flag", Text),
    PrimaryKeyConstraint("version", "name"),
    Index(None, "name", "value"),
)

files = Table(
    "files",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
)

version_files = Table(
    "version_files",
    metadata,
    _reference("version", "versions"),
    Column("path", Text, nullable=False),
    Column("digest", Text, ForeignKey("files.digest"), nullable=False),
    Column("role", Text, nullable=False),
    PrimaryKeyConstraint("version", "path"),
    Index(None, "digest"),
)

images = Table(
    "images",
    metadata,
    _id(),
    _reference("version", "versions"),
    Column("builder", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("reference", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("version", "builder", "digest", "reference"),
    Index(None, "digest"),
)

aliases = Table(
    "aliases",
    metadata,
    _reference("model", "models"),
    Column("name", Text, nullable=False),
    _reference("version", "versions"),
    PrimaryKeyConstraint("model", "name"),
    Index(None, "version"),
)

alias_history = Table(
    "alias_history",
    metadata,
    _id(),
    _reference("model", "models"),
    Column("name", Text, nullable=False),
    _reference("version", "versions", nullable=True),
    Column("at", UtcTime, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Index(None, "model", "name"),
    Index(None, "version"),
)

deployments = Table(
    "deployments",
    metadata,
    Column("endpoint", Text, nullable=False),
    _reference("version", "versions"),
    Column("weight", Integer, nullable=False),
    Column("since", UtcTime, nullable=False),
    PrimaryKeyConstraint("endpoint", "version"),
    CheckConstraint("weight BETWEEN 0 AND 100", name="weight"),
    Index(None, "version"),
)

weight_history = Table(
    "weight_history",
    metadata,
    _id(),
    Column("endpoint", Text, nullable=False),
    _reference("version", "versions"),
    Column("weight", Integer, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("actor", Text, nullable=False),
    Column("run_id", Text),
    CheckConstraint("weight BETWEEN 0 AND 100", name="weight"),
    Index(None, "endpoint"),
    Index(None, "version"),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("endpoint", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    _reference("version", "versions"),
    Column("state", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("endpoint", "run_id"),
    CheckConstraint("state IN ('running', 'done', 'aborted')", name="state"),
    Index(None, "version"),
)

# A run may fail before it registers anything: the model and the run are named, not referred to.
failures = Table(
    "failures",
    metadata,
    _id(),
    Column("model", Text, nullable=False),
    Column("dag_id", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("key", Text, nullable=False),
    # The task's try; a job's own number is in its name.
    Column("attempt", Integer, nullable=False),
    Column("stage", Text),
    Column("job", Text),
    # None: no job failed, but the task itself.
    Column("kind", Text),
    Column("cause", Text, nullable=False),
    Column("advice", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("last_lines", JSON, nullable=False),
    Column("tried_again", Boolean, nullable=False),
    # The later try that succeeded.
    Column("mended_by", Integer),
    Column("at", UtcTime, nullable=False),
    UniqueConstraint("dag_id", "run_id", "key", "attempt"),
    Index(None, "model", "at"),
    Index(None, "run_id"),
)

events = Table(
    "events",
    metadata,
    _id(),
    Column("at", UtcTime, nullable=False),
    Column("actor", Text, nullable=False),
    Column("kind", Text, nullable=False),
    _reference("model", "models", nullable=True),
    _reference("version", "versions", nullable=True),
    Column("run_id", Text),
    Column("detail", JSON, nullable=False),
    Index(None, "model", "id"),
    Index(None, "version"),
)
