"""What a run was made from, for which interval of data and why, what it cost, and where its checkpoint is.

Runs of before keep these columns empty: nothing tells what they were.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the columns, and the data sets of a run."""
    for column in (
        sa.Column("inputs_digest", sa.Text()),
        sa.Column("interval_start", Time),
        sa.Column("interval_end", Time),
        sa.Column("partition", sa.Text()),
        sa.Column("run_after", Time),
        sa.Column("reason", sa.Text()),
        sa.Column("seconds", sa.Double()),
        sa.Column("gpu_seconds", sa.Double()),
    ):
        op.add_column("runs", column)
    op.create_index("ix_runs_inputs_digest", "runs", ["inputs_digest"])
    op.add_column("versions", sa.Column("checkpoint_uri", sa.Text()))
    op.create_table(
        "datasets",
        sa.Column("id", Id, nullable=False),
        sa.Column("run", Id, nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text()),
        sa.Column("version", sa.Text()),
        sa.Column("rows", sa.BigInteger()),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_datasets_run"),
        sa.PrimaryKeyConstraint("id", name="pk_datasets"),
    )
    op.create_index("ix_datasets_run", "datasets", ["run"])
    op.create_index("ix_datasets_digest", "datasets", ["digest"])
