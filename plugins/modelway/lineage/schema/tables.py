"""The tables of models, runs and versions, in types that SQLite and PostgreSQL share; see also ``asset_tables``.

A version, an event and a line of history are never updated: the migrations add triggers that refuse it.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    column,
    func,
    text,
)

from modelway.lineage.schema.columns import Id, Text, UtcTime, key, metadata, reference

#: the newest migration; a test compares it with migrations/versions
SCHEMA = "0009"

#: by how many characters of its URI a data set is found
URI_KEY = 300

#: tables whose rows are never updated
APPEND_ONLY = (
    *("versions", "alias_history", "weight_history", "events"),
    *("asset_versions", "asset_files", "asset_references", "asset_alias_history"),
)

models = Table(
    "models",
    metadata,
    key(),
    Column("name", Text, nullable=False, unique=True),
    Column("description", Text, nullable=False),
    # The number of the newest version; the row is locked while the next number is assigned.
    Column("latest", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    key(),
    reference("model", "models"),
    Column("dag_id", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("run_type", Text, nullable=False),
    Column("started_at", UtcTime),
    Column("code_digest", Text),
    Column("commit_id", Text),
    Column("branch", Text),
    Column("dirty", Boolean),
    # Of what differs from the commit, and where the commit can be had: no credentials.
    Column("diff_digest", Text),
    Column("repository", Text),
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
    key(),
    reference("model", "models"),
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
    # The version that training began from.
    Column("base", Id, ForeignKey("versions.id")),
    UniqueConstraint("model", "number"),
    CheckConstraint("number >= 1", name="number"),
    Index(None, "archive_digest"),
    Index(None, "model_digest"),
    Index(None, "checkpoint_digest"),
    Index(None, "base"),
)

# What one stage of a run ran in: the interpreter, the platform, the image and the packages with their versions.
environments = Table(
    "environments",
    metadata,
    key(),
    Column("digest", Text, nullable=False, unique=True),
    Column("python", Text, nullable=False),
    Column("platform", Text, nullable=False),
    # A reference with the digest that it had then, where that is known: it ends with "sha256:" and 64 digits.
    Column("image", Text),
    Column("packages", JSON, nullable=False),
    Index("ix_environments_image", func.substr(column("image"), func.length(column("image")) - 70)),
)

stages = Table(
    "stages",
    metadata,
    reference("run", "runs"),
    Column("name", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("backend", Text),
    Column("seed", BigInteger),
    Column("skipped", Boolean, nullable=False),
    Column("seconds", Double),
    Column("cpu_seconds", Double),
    Column("gpu_seconds", Double),
    Column("peak_memory_bytes", BigInteger),
    Column("environment", Id, ForeignKey("environments.id")),
    PrimaryKeyConstraint("run", "name"),
    Index(None, "environment"),
)

params = Table(
    "params",
    metadata,
    reference("run", "runs"),
    Column("stage", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("value", JSON, nullable=False),
    PrimaryKeyConstraint("run", "stage", "name"),
)

datasets = Table(
    "datasets",
    metadata,
    key(),
    reference("run", "runs"),
    Column("stage", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("uri", Text, nullable=False),
    Column("digest", Text),
    # The owners' own name for this state of the data; not a version of a model.
    Column("version", Text),
    Column("rows", BigInteger),
    # Its columns with their types, and per column a summary of its values.
    Column("schema", JSON),
    Column("statistics", JSON),
    Index(None, "run"),
    Index(None, "digest"),
    Index(None, "name"),
    # A URI may be longer than a key of an index.
    Index("ix_datasets_uri", func.substr(column("uri"), 1, URI_KEY)),
)

# One row per metric with all its points: a row per point would be 4,000 rows for an ordinary run.
metrics = Table(
    "metrics",
    metadata,
    reference("run", "runs"),
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
    key(),
    reference("run", "runs"),
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
    reference("evaluation", "evaluations"),
    Column("name", Text, nullable=False),
    Column("value", Double),
    Column("flag", Text),
    PrimaryKeyConstraint("evaluation", "name"),
)

# A chart's points, at most some hundred: what is drawn, not the raw outputs of an evaluation.
figures = Table(
    "figures",
    metadata,
    key(),
    reference("run", "runs"),
    Column("stage", Text),
    Column("checkpoint", Text),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("data", JSON, nullable=False),
    Index(None, "run"),
)

importances = Table(
    "importances",
    metadata,
    reference("run", "runs"),
    Column("checkpoint", Text, nullable=False),
    Column("feature", Text, nullable=False),
    # By how much the metric gets worse when the feature's values are shuffled, and over repeats its deviation.
    Column("importance", Double),
    Column("deviation", Double),
    Column("metric", Text, nullable=False),
    PrimaryKeyConstraint("run", "checkpoint", "feature"),
)

# What a version has learned: its layers, and per tensor the shape, type, count and norms.
architectures = Table(
    "architectures",
    metadata,
    Column("version", Id, ForeignKey("versions.id"), primary_key=True),
    Column("parameters", BigInteger, nullable=False),
    Column("layers", JSON, nullable=False),
    Column("tensors", JSON, nullable=False),
)

version_metrics = Table(
    "version_metrics",
    metadata,
    reference("version", "versions"),
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
    reference("version", "versions"),
    Column("path", Text, nullable=False),
    Column("digest", Text, ForeignKey("files.digest"), nullable=False),
    Column("role", Text, nullable=False),
    PrimaryKeyConstraint("version", "path"),
    Index(None, "digest"),
)

images = Table(
    "images",
    metadata,
    key(),
    reference("version", "versions"),
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
    reference("model", "models"),
    Column("name", Text, nullable=False),
    reference("version", "versions"),
    PrimaryKeyConstraint("model", "name"),
    Index(None, "version"),
)

alias_history = Table(
    "alias_history",
    metadata,
    key(),
    reference("model", "models"),
    Column("name", Text, nullable=False),
    reference("version", "versions", nullable=True),
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
    reference("version", "versions"),
    Column("weight", Integer, nullable=False),
    Column("since", UtcTime, nullable=False),
    PrimaryKeyConstraint("endpoint", "version"),
    CheckConstraint("weight BETWEEN 0 AND 100", name="weight"),
    Index(None, "version"),
    # What serves now: a few of all that ever did.
    Index("ix_deployments_serving", "version", postgresql_where=text("weight > 0"), sqlite_where=text("weight > 0")),
)

weight_history = Table(
    "weight_history",
    metadata,
    key(),
    Column("endpoint", Text, nullable=False),
    reference("version", "versions"),
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
    reference("version", "versions"),
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
    key(),
    Column("model", Text, nullable=False),
    Column("dag_id", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("key", Text, nullable=False),
    # Of the task; a job has its own number in its name.
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
    # The later attempt that succeeded.
    Column("resolved_by", Integer),
    Column("at", UtcTime, nullable=False),
    UniqueConstraint("dag_id", "run_id", "key", "attempt"),
    Index(None, "model", "at"),
    Index(None, "run_id"),
)

events = Table(
    "events",
    metadata,
    key(),
    Column("at", UtcTime, nullable=False),
    Column("actor", Text, nullable=False),
    Column("kind", Text, nullable=False),
    reference("model", "models", nullable=True),
    reference("version", "versions", nullable=True),
    Column("run_id", Text),
    Column("detail", JSON, nullable=False),
    Index(None, "model", "id"),
    Index(None, "version"),
)
