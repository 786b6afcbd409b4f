"""Jobs know the dataset that they validate on, and which rule ended their training."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("validation_dataset_id", sa.String(), nullable=True))
    op.add_column("jobs", sa.Column("stop_reason", sa.String(), nullable=True))
    op.create_index("ix_jobs_validation_dataset_id", "jobs", ["validation_dataset_id"])


def downgrade() -> None:
    op.drop_index("ix_jobs_validation_dataset_id", "jobs")
    op.drop_column("jobs", "stop_reason")
    op.drop_column("jobs", "validation_dataset_id")
