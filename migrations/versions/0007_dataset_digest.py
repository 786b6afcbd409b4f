"""Jobs keep the digests of the datasets that they were accepted with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COLUMNS = {
    "dataset_sha256": "dataset_id",
    "validation_dataset_sha256": "validation_dataset_id",
}
"""Each with the column that says whose digest it is."""


def upgrade() -> None:
    jobs = sa.table("jobs", *(sa.column(name) for pair in COLUMNS.items() for name in pair))
    datasets = sa.table("datasets", sa.column("id"), sa.column("sha256"))
    for digest, dataset in COLUMNS.items():
        op.add_column("jobs", sa.Column(digest, sa.String(), nullable=True))
        kept = sa.select(datasets.c.sha256).where(datasets.c.id == jobs.c[dataset])
        op.execute(jobs.update().values({digest: kept.scalar_subquery()}))


def downgrade() -> None:
    for digest in COLUMNS:
        op.drop_column("jobs", digest)
