"""How long each evaluation took, and its job to start: the next run divides the checkpoints among jobs by it.

Evaluations of before keep these columns empty.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("evaluations", sa.Column("seconds", sa.Double()))
    op.add_column("evaluations", sa.Column("startup_seconds", sa.Double()))
