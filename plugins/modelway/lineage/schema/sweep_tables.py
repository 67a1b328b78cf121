"""The table of a sweep's candidates."""

from sqlalchemy import JSON, Column, Double, Integer, PrimaryKeyConstraint, Table

from modelway.lineage.schema.columns import Text, metadata, reference

candidates = Table(
    "candidates",
    metadata,
    reference("run", "runs"),
    Column("name", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("params", JSON, nullable=False),
    Column("state", Text, nullable=False),
    Column("stage", Text),
    Column("reason", Text, nullable=False),
    Column("checkpoint", Text),
    Column("metrics", JSON, nullable=False),
    Column("seconds", Double),
    Column("cpu_seconds", Double),
    Column("gpu_seconds", Double),
    PrimaryKeyConstraint("run", "name"),
)
