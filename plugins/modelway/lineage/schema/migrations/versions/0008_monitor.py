"""The tables of the monitor."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Time = sa.DateTime(timezone=True)


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _times(*names: str) -> list[sa.Column[datetime]]:
    return [sa.Column(name, Time, nullable=False) for name in names]


def upgrade() -> None:
    """Make them."""
    _checks()
    _requests()
    _labels()


def _checks() -> None:
    op.create_table(
        "monitor_states",
        *_texts("endpoint", "model"),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("state", sa.JSON(), nullable=False),
        *_times("updated_at"),
        sa.PrimaryKeyConstraint("endpoint", name="pk_monitor_states"),
    )
    op.create_table(
        "monitor_slices",
        sa.Column("id", Id, nullable=False),
        *_texts("endpoint"),
        sa.Column("version", sa.Integer(), nullable=False),
        *_times("begin", "end"),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("tallies", sa.JSON(), nullable=False),
        sa.Column("numbers", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_monitor_slices"),
    )
    op.create_index("ix_monitor_slices_endpoint_version_end", "monitor_slices", ["endpoint", "version", "end"])


def _requests() -> None:
    op.create_table(
        "retrain_requests",
        sa.Column("id", Id, nullable=False),
        *_texts("model", "endpoint"),
        sa.Column("version", sa.Integer(), nullable=False),
        *_times("at"),
        *_texts("rule", "reason"),
        sa.Column("rebuild", sa.Boolean(), nullable=False),
        sa.Column("numbers", sa.JSON(), nullable=False),
        sa.Column("sent_at", Time),
        sa.Column("run_id", sa.Text()),
        sa.Column("outcome", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_retrain_requests"),
    )
    op.create_index("ix_retrain_requests_model_at", "retrain_requests", ["model", "at"])
    op.create_index("ix_retrain_requests_run_id", "retrain_requests", ["run_id"])


def _labels() -> None:
    op.create_table(
        "predictions",
        *_texts("model", "request_id"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        *_times("at"),
        sa.PrimaryKeyConstraint("model", "request_id", "version", name="pk_predictions"),
    )
    op.create_index("ix_predictions_model_version_at", "predictions", ["model", "version", "at"])
    op.create_table(
        "labels",
        *_texts("model", "request_id"),
        sa.Column("value", sa.Double(), nullable=False),
        *_times("at"),
        *_texts("actor"),
        sa.PrimaryKeyConstraint("model", "request_id", name="pk_labels"),
    )
    op.create_index("ix_labels_at", "labels", ["at"])
