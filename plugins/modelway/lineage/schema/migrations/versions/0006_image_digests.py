"""Environments are found by the digest of the image that they ran in: ``reference@sha256:…``, which ends with it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    image: sa.ColumnClause[str] = sa.column("image")
    op.create_index("ix_environments_image", "environments", [sa.func.substr(image, sa.func.length(image) - 70)])
