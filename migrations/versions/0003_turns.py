"""Jobs have a priority, a pause after a lost worker, and know what their numbers come from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("priority", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("checkpoint_seconds", sa.Double(), nullable=True),
        sa.Column("checkpoint_epochs", sa.BigInteger(), nullable=True),
        sa.Column("claimed_at", sa.Double(), nullable=True),
        sa.Column("run_after", sa.Double(), nullable=True),
        sa.Column("fingerprints", sa.JSON(), nullable=False, server_default="[]"),
    ):
        op.add_column("jobs", column)
    op.create_index("ix_jobs_owner_claimed_at", "jobs", ["owner", "claimed_at"])
    fingerprints = sa.Column("fingerprints", sa.JSON(), nullable=False, server_default="[]")
    op.add_column("checkpoints", fingerprints)


def downgrade() -> None:
    op.drop_column("checkpoints", "fingerprints")
    op.drop_index("ix_jobs_owner_claimed_at", "jobs")
    for name in (
        "fingerprints",
        "run_after",
        "claimed_at",
        "checkpoint_epochs",
        "checkpoint_seconds",
        "priority",
    ):
        op.drop_column("jobs", name)
