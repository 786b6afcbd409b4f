"""Jobs are trainings or batch predictions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    kind = sa.Column("kind", sa.String(length=16), nullable=False, server_default="training")
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(kind)
        jobs.add_column(sa.Column("parts", sa.JSON(), nullable=True))
        jobs.add_column(sa.Column("result", sa.JSON(), nullable=True))
    with op.batch_alter_table("jobs") as jobs:
        jobs.alter_column("kind", server_default=None)
    op.drop_index("ix_jobs_owner_id", "jobs")
    op.create_index("ix_jobs_owner_kind_id", "jobs", ["owner", "kind", "id"])


def downgrade() -> None:
    op.drop_index("ix_jobs_owner_kind_id", "jobs")
    op.execute("DELETE FROM jobs WHERE kind = 'prediction'")
    op.create_index("ix_jobs_owner_id", "jobs", ["owner", "id"])
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("result")
        jobs.drop_column("parts")
        jobs.drop_column("kind")
