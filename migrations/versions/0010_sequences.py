"""Jobs keep what was noticed in their data, and models how the rows of an example follow."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("notes", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("models", sa.Column("sequence", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    op.drop_column("models", "sequence")
    op.drop_column("jobs", "notes")
