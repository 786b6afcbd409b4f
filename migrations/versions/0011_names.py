"""Models have names, and jobs publish under them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

ROLE = "chainrule_caller"
TABLES = ("names", "name_switches")


def upgrade() -> None:
    op.create_table(
        "names",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_names"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_names_model_id"),
        sa.UniqueConstraint("owner", "name", name="uq_names_owner_name"),
    )
    op.create_index("ix_names_owner_id", "names", ["owner", "id"])
    op.create_index("ix_names_model_id", "names", ["model_id"])
    op.create_table(
        "name_switches",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("name_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("replaced", sa.String(), nullable=True),
        sa.Column("job_id", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_name_switches"),
        sa.ForeignKeyConstraint(
            ["name_id"], ["names.id"], name="fk_name_switches_name_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_name_switches_name_id_id", "name_switches", ["name_id", "id"])
    op.add_column("jobs", sa.Column("publish", sa.JSON(), nullable=True))
    op.add_column("jobs", sa.Column("publication", sa.JSON(), nullable=True))
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in TABLES:
        mine = "owner = current_setting('chainrule.owner')"
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY callers ON {table} TO {ROLE} USING ({mine})")
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {ROLE}")


def downgrade() -> None:
    op.drop_column("jobs", "publication")
    op.drop_column("jobs", "publish")
    for table in reversed(TABLES):
        op.drop_table(table)
