"""Why tries of tasks failed, what was done about it, and how it went on."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "failures",
        sa.Column("id", Id, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("dag_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("stage", sa.Text()),
        sa.Column("job", sa.Text()),
        sa.Column("kind", sa.Text()),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("advice", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("last_lines", sa.JSON(), nullable=False),
        sa.Column("tried_again", sa.Boolean(), nullable=False),
        sa.Column("mended_by", sa.Integer()),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_failures"),
        sa.UniqueConstraint("dag_id", "run_id", "key", "attempt", name="uq_failures_dag_id_run_id_key_attempt"),
    )
    op.create_index("ix_failures_model_at", "failures", ["model", "at"])
    op.create_index("ix_failures_run_id", "failures", ["run_id"])
