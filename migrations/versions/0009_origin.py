"""Datasets know what they were made of, so that equal uploads share a file."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

INDEXES = {
    "ix_datasets_owner_origin": ["owner", "origin"],
    "ix_datasets_location": ["location"],
}


def upgrade() -> None:
    op.add_column("datasets", sa.Column("origin", sa.String(), nullable=True))
    for name, columns in INDEXES.items():
        op.create_index(name, "datasets", columns)


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name, "datasets")
    op.drop_column("datasets", "origin")
