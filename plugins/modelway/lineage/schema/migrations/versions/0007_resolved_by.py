"""A failed attempt is resolved by a later one: the column says so."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rename the column."""
    op.alter_column("failures", "mended_by", new_column_name="resolved_by")
