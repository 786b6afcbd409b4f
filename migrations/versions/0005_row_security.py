"""On PostgreSQL callers cannot touch the rows of others, whatever a query says."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ROLE = "chainrule_caller"
OWNED = ("datasets", "jobs", "models", "artifacts", "idempotency_keys")
PARTS = {
    "curve_points": ("jobs", "job_id"),
    "checkpoints": ("jobs", "job_id"),
    "artifact_chunks": ("artifacts", "artifact_id"),
}

OWNER = """
UPDATE artifacts SET owner = COALESCE(
    (SELECT models.owner FROM models WHERE models.artifact_id = artifacts.id),
    (SELECT jobs.owner FROM checkpoints JOIN jobs ON jobs.id = checkpoints.job_id
     WHERE checkpoints.artifact_id = artifacts.id),
    '')
"""

MAKE_ROLE = f"""
DO $$ DECLARE step text; BEGIN
    step := 'CREATE ROLE {ROLE} NOLOGIN';
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN
        EXECUTE step;
    END IF;
    step := format('GRANT {ROLE} TO %I', current_user);
    IF NOT pg_has_role(current_user, '{ROLE}', 'MEMBER') THEN
        EXECUTE step;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'this login may not make the role {ROLE}, or not take it'
        USING HINT = 'Have an administrator run this, and then migrate again: ' || step;
END $$
"""


def upgrade() -> None:
    op.add_column("artifacts", sa.Column("owner", sa.String(), nullable=True))
    op.execute(OWNER)
    with op.batch_alter_table("artifacts") as artifacts:
        artifacts.alter_column("owner", nullable=False)
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute(MAKE_ROLE)
    mine = "owner = current_setting('chainrule.owner')"
    rules = dict.fromkeys(OWNED, mine)
    for table, (whole, key) in PARTS.items():  # what is seen of the whole is the caller's
        rules[table] = f"EXISTS (SELECT FROM {whole} WHERE {whole}.id = {table}.{key})"
    for table, rule in rules.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY callers ON {table} TO {ROLE} USING ({rule})")
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {ROLE}")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table in (*OWNED, *PARTS):
            op.execute(f"REVOKE ALL ON {table} FROM {ROLE}")
            op.execute(f"DROP POLICY callers ON {table}")
            op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    with op.batch_alter_table("artifacts") as artifacts:
        artifacts.drop_column("owner")
