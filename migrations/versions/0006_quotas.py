"""What owners use is counted, and how fast; jobs say how much arithmetic they take."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ROLE = "chainrule_caller"


def upgrade() -> None:
    # The release before adds datasets without it. What those from before it take is not known here.
    op.add_column(
        "datasets", sa.Column("stored_bytes", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.execute("UPDATE datasets SET stored_bytes = bytes")
    op.create_index("ix_datasets_owner_stored_bytes", "datasets", ["owner", "stored_bytes"])
    op.add_column("jobs", sa.Column("multiply_adds", sa.BigInteger(), nullable=True))
    op.create_index("ix_jobs_owner_status", "jobs", ["owner", "status"])
    op.create_table(
        "training_usage",
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "hour", "worker", name="pk_training_usage"),
    )
    op.create_index("ix_training_usage_hour", "training_usage", ["hour"])
    if op.get_bind().dialect.name == "postgresql":
        mine = "owner = current_setting('chainrule.owner')"
        op.execute("ALTER TABLE training_usage ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY callers ON training_usage TO {ROLE} USING ({mine})")
        op.execute(f"GRANT SELECT ON training_usage TO {ROLE}")
    op.create_table(
        "rate_limits",
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("full_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("policy", "subject", name="pk_rate_limits"),
        prefixes=["UNLOGGED"] if op.get_bind().dialect.name == "postgresql" else [],
    )


def downgrade() -> None:
    op.drop_table("rate_limits")
    op.drop_table("training_usage")
    op.drop_index("ix_jobs_owner_status", "jobs")
    op.drop_column("jobs", "multiply_adds")
    op.drop_index("ix_datasets_owner_stored_bytes", "datasets")
    op.drop_column("datasets", "stored_bytes")
