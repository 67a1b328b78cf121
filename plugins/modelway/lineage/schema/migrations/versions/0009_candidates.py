"""The candidates of a sweep."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make their table."""
    op.create_table(
        "candidates",
        sa.Column("run", Id, sa.ForeignKey("runs.id", name="fk_candidates_run"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text()),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("checkpoint", sa.Text()),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("seconds", sa.Double()),
        sa.Column("cpu_seconds", sa.Double()),
        sa.Column("gpu_seconds", sa.Double()),
        sa.PrimaryKeyConstraint("run", "name", name="pk_candidates"),
    )
