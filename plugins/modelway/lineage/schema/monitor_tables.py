"""The tables of the monitor: what it counted of what serves, its state, what it requested, predictions and labels.

Models and versions are named, not referred to, as an endpoint may serve what is not in this lineage. Counts,
predictions and labels are removed when they are old; see ``modelway.lineage.write.monitoring``.
"""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, Index, Integer, PrimaryKeyConstraint, Table

from modelway.lineage.schema.columns import Text, UtcTime, key, metadata

monitor_states = Table(
    "monitor_states",
    metadata,
    Column("endpoint", Text, nullable=False),
    Column("model", Text, nullable=False),
    # Rises with every write: of two checks at once one is refused.
    Column("revision", Integer, nullable=False),
    Column("state", JSON, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("endpoint"),
)

# What one check counted: the tallies of each feature, and what each rule said.
monitor_slices = Table(
    "monitor_slices",
    metadata,
    key(),
    Column("endpoint", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("begin", UtcTime, nullable=False),
    Column("end", UtcTime, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("tallies", JSON, nullable=False),
    Column("numbers", JSON, nullable=False),
    Index(None, "endpoint", "version", "end"),
)

retrain_requests = Table(
    "retrain_requests",
    metadata,
    key(),
    Column("model", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("rule", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("rebuild", Boolean, nullable=False),
    Column("numbers", JSON, nullable=False),
    # When its event was sent last; the run that answers it, and how that ended: "version 7", or "failed".
    Column("sent_at", UtcTime),
    Column("run_id", Text),
    Column("outcome", Text),
    Index(None, "model", "at"),
    Index(None, "run_id"),
)

predictions = Table(
    "predictions",
    metadata,
    Column("model", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("value", Double, nullable=False),
    Column("at", UtcTime, nullable=False),
    PrimaryKeyConstraint("model", "request_id", "version"),
    Index(None, "model", "version", "at"),
)

labels = Table(
    "labels",
    metadata,
    Column("model", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("value", Double, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("actor", Text, nullable=False),
    PrimaryKeyConstraint("model", "request_id"),
    Index(None, "at"),
)
