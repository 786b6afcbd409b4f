"""Inspection: what a database says of itself and its queue, read only, whatever state it is in.

`Database` would make a SQLite file that is not there and switch it to the
write-ahead log; whoever wants to know how it is must not.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, NullPool, create_engine, func, make_url, select, text
from sqlalchemy.orm import Session

from app.store.database import ANSWER_SECONDS, Database, database_clock
from app.store.lifecycle import JobStatus
from app.store.tables import Job

STEPS = 10_000
"""How many instructions SQLite works off before it looks at the time; a part of a millisecond."""


def sqlite_file(url: str) -> Path | None:
    """Return the file of a SQLite database; None for PostgreSQL."""
    parsed = make_url(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Open a connection that cannot write."""
    file = sqlite_file(url)
    engine = Database(url).reader if file is None else _read_only(file)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _read_only(file: Path) -> Engine:
    address = f"file:{quote(str(file.resolve()))}?mode=ro"
    return create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(address, uri=True, timeout=ANSWER_SECONDS),
        poolclass=NullPool,
    )


def version(connection: Connection) -> str:
    """Return the kind of the database and its version, by asking it."""
    if connection.dialect.name == "sqlite":
        return f"SQLite {connection.scalar(text('SELECT sqlite_version()'))}"
    return f"PostgreSQL {str(connection.scalar(text('SHOW server_version'))).split()[0]}"


def clock(connection: Connection) -> float:
    """Return the time by the database, in seconds since 1970."""
    return float(connection.scalar(select(database_clock())) or 0.0)


def journal_mode(connection: Connection) -> str:
    """Return how a SQLite file is written."""
    return str(connection.scalar(text("PRAGMA journal_mode")))


def quick_check(connection: Connection, seconds: float) -> str | None:
    """Look through a SQLite file: ``ok``, the first fault, or None when it takes too long."""
    deadline = time.monotonic() + seconds
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - tells the type checker
    driver.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
    try:
        [fault] = driver.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return None
        raise
    except sqlite3.DatabaseError as error:
        return str(error)
    finally:
        driver.set_progress_handler(None, 0)
    return str(fault)


@dataclass(frozen=True)
class Queue:
    """How the queue is.

    Parameters
    ----------
    counts : dict of JobStatus to int
    oldest_seconds : float or None
        For how long the queued job that came first has waited.
    held : int
        Running jobs whose worker renewed their lease in time.
    overdue : int
        Running jobs whose lease ran out so long ago that a worker should have taken them over.
    """

    counts: dict[JobStatus, int]
    oldest_seconds: float | None
    held: int
    overdue: int


def queue(connection: Connection, patience_seconds: float) -> Queue:
    """Look at the queue; a lease that ran out less than ``patience_seconds`` ago is not overdue."""
    running, clock = Job.status == JobStatus.RUNNING, database_clock()
    held = running & (Job.lease_expires >= clock)
    overdue = running & (Job.lease_expires < clock - patience_seconds)
    queued = Job.status == JobStatus.QUEUED
    with Session(connection) as session:
        counts = session.execute(select(Job.status, func.count()).group_by(Job.status))
        return Queue(
            counts={status: int(number) for status, number in counts},
            oldest_seconds=session.scalar(select(clock - func.min(Job.queued_at)).where(queued)),
            held=session.scalar(select(func.count()).where(held)) or 0,
            overdue=session.scalar(select(func.count()).where(overdue)) or 0,
        )
