"""Migrations: bring a database to the newest revision, safely also when several start at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from app.store.database import Database

SCRIPTS = Path(__file__).parents[2] / "migrations"

LOCK = 0x636861696E
"""The advisory lock that migrations take on PostgreSQL: "chain"."""


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the database up to a revision, the newest unless given."""
    with _alone(database) as connection:
        command.upgrade(_config(connection), revision)


def downgrade(database: Database, revision: str) -> None:
    """Bring the database down to a revision; ``base`` is an empty one."""
    with _alone(database) as connection:
        command.downgrade(_config(connection), revision)


def check(database: Database) -> None:
    """Raise Alembic's ``CommandError`` when the database's tables are not those in the code."""
    with _alone(database) as connection:
        command.check(_config(connection))


class Standing(StrEnum):
    """Where a database stands to the code."""

    CURRENT = "current"
    BEHIND = "behind"
    AHEAD = "ahead"
    """At a revision that this code does not know."""
    EMPTY = "empty"


def standing(connection: Connection) -> Standing:
    """Compare the database's revision with the code's."""
    applied = set(MigrationContext.configure(connection).get_current_heads())
    scripts = ScriptDirectory.from_config(_config(connection))
    if not applied:
        return Standing.EMPTY
    if applied == set(scripts.get_heads()):
        return Standing.CURRENT
    known = {script.revision for script in scripts.walk_revisions()}
    return Standing.BEHIND if applied <= known else Standing.AHEAD


def is_current(database: Database) -> bool:
    """Whether the database is at the newest revision."""
    with database.reader.connect() as connection:
        return standing(connection) is Standing.CURRENT


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _alone(database: Database) -> Iterator[Connection]:
    """Open a transaction that no other migration can overlap, all or nothing.

    SQLite cannot alter most of a table; Alembic copies it and drops the old
    one. With foreign keys on, the drop would delete the rows that refer to it,
    so they are off on this connection, checked at the end, and the connection
    is closed, not reused.
    """
    with database.writer.connect() as connection:
        connection.detach()
        if database.is_sqlite:
            connection.connection.cursor().execute("PRAGMA foreign_keys = OFF")
        with connection.begin():
            if not database.is_sqlite:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            yield connection
            if database.is_sqlite and (broken := connection.execute(_BROKEN).all()):
                raise RuntimeError(f"the migration left {len(broken)} rows that refer to nothing")


_BROKEN = text("PRAGMA foreign_key_check")
