"""The database: two ways in, one to read and one to write, alike on SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import psycopg
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    ExceptionContext,
    Float,
    PoolProxiedConnection,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

BUSY_SECONDS = 30
"""How long SQLite waits for its turn to write."""

CALLER_ROLE = "chainrule_caller"
"""The role on PostgreSQL of a session for a caller. Row-level security is for this role alone:
workers, migrations and backups see all rows."""

_CONFINE = text(
    f"SELECT set_config('role', '{CALLER_ROLE}', true), set_config('chainrule.owner', :owner, true)"
)


UNAVAILABLE = (OperationalError, InterfaceError, PoolTimeoutError)
"""What is raised while the database does not answer, or cannot write now."""


class Database:
    """A database, for one process and any number of its threads.

    Parameters
    ----------
    url : str
        ``sqlite:///file`` or ``postgresql://…``.
    statement_seconds : float or None
        How long PostgreSQL may take to answer a statement; after that it is
        away. None waits for as long as it takes.

    Attributes
    ----------
    reader, writer : Engine
        On SQLite only the writer takes the lock, with ``BEGIN IMMEDIATE``: a
        deferred transaction that reads and then writes fails at once when
        another has written in between, whatever the timeout. Readers never
        wait for it. The writer has one connection, so that the threads of a
        process queue in order instead of racing for the file.
    """

    def __init__(self, url: str, statement_seconds: float | None = 30.0) -> None:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            self.reader = _sqlite(parsed, "BEGIN", pool_size=0, query_only=True)
            self.writer = _sqlite(parsed, "BEGIN IMMEDIATE", pool_size=1, query_only=False)
        else:
            self.writer = _postgresql(parsed, statement_seconds)
            self.reader = self.writer.execution_options(
                postgresql_readonly=True, isolation_level="REPEATABLE READ"
            )
        self._watch: PoolProxiedConnection | None = None
        self._watching = threading.Lock()

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite, else it is PostgreSQL."""
        return self.writer.dialect.name == "sqlite"

    @contextmanager
    def reading(self, owner: str | None = None) -> Iterator[Session]:
        """Open a session that cannot write; its rows stay readable after it.

        All that it reads is of one moment, that of its first statement.
        PostgreSQL shows it what belongs to ``owner`` alone, if one is given.
        """
        with Session(self.reader) as session:
            self._confine(session, owner)
            yield session

    @contextmanager
    def writing(self, owner: str | None = None) -> Iterator[Session]:
        """Open a session that commits at the end, or rolls back on an error. Keep it short.

        PostgreSQL lets it touch what belongs to ``owner`` alone, if one is given.
        """
        with Session(self.writer, expire_on_commit=False) as session:
            self._confine(session, owner)
            with session.begin():
                yield session

    def _confine(self, session: Session, owner: str | None) -> None:
        """Have every transaction of a session take the role that row-level security is for."""
        if owner is None or self.is_sqlite:
            return

        @event.listens_for(session, "after_begin")
        def _begin(_session: Session, _transaction: Any, connection: Connection) -> None:
            connection.execute(_CONFINE, {"owner": owner})

    def ping(self) -> None:
        """Raise what the driver raises when the database does not answer."""
        with self.reader.connect() as connection:
            connection.execute(text("SELECT 1"))

    def changed(self) -> int | None:
        """Return a number that is another one once somebody has committed.

        It costs microseconds. None means that this database cannot tell now: look.
        The numbers of two connections cannot be compared, so all threads share one.
        """
        if not self.is_sqlite:
            return None
        with self._watching, suppress(sqlite3.Error):  # who looks hears what is wrong
            if self._watch is None:
                self._watch = self.reader.raw_connection()
            with closing(self._watch.cursor()) as cursor:
                cursor.execute("PRAGMA data_version")
                [[version]] = cursor.fetchall()
                return int(version)
        return None

    def dispose(self) -> None:
        """Close every connection; the next use opens new ones."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self.reader.dispose()
        self.writer.dispose()


def _sqlite(url: URL, begin: str, *, pool_size: int, query_only: bool) -> Engine:
    engine = create_engine(url, pool_size=pool_size, max_overflow=0, pool_timeout=BUSY_SECONDS)

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself
        _write_ahead(connection)
        connection.executescript(f"""
            PRAGMA busy_timeout = {BUSY_SECONDS * 1000};
            PRAGMA synchronous = NORMAL;
            PRAGMA foreign_keys = ON;
            PRAGMA temp_store = MEMORY;
            PRAGMA query_only = {query_only};
        """)

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log, where the file is not there yet.

    For this one statement SQLite does not wait while another process does the
    same, so two that start on a new file would fail each other.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _postgresql(url: URL, statement_seconds: float | None) -> Engine:
    """Connect so that a server that went away costs seconds, not a hung thread."""
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        pool_size=8,
        max_overflow=8,
        pool_timeout=ANSWER_SECONDS,
        connect_args={
            "connect_timeout": ANSWER_SECONDS,
            "tcp_user_timeout": 1000 * ANSWER_SECONDS,
            "application_name": "chainrule",
        },
    )

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: Any, _record: Any, _: Any, options: dict[str, Any]) -> Impatient:
        connection = Impatient.connect(**options)
        connection.statement_seconds = statement_seconds
        try:
            connection.execute(
                f"SET idle_in_transaction_session_timeout = {1000 * IDLE_SECONDS:.0f}"
            )
            connection.commit()
        except BaseException:
            connection.close()
            raise
        return connection

    @event.listens_for(engine, "handle_error")
    def _give_up(context: ExceptionContext) -> None:
        """Do not connect to a server that is there and silent, which takes as long once more."""
        if context.is_pre_ping and isinstance(context.original_exception, SilentError):
            context.is_disconnect = False

    return engine


ANSWER_SECONDS = 3
"""How long PostgreSQL is waited for before a transaction: for a connection, one of the pool, or
the answer whether it is there."""


IDLE_SECONDS = 10.0
"""How long PostgreSQL waits for the next statement of a transaction, and then takes it back: one
who is frozen, or cut off, would keep others from its rows for as long."""


class SilentError(psycopg.OperationalError):
    """PostgreSQL does not answer."""


class Impatient(psycopg.Connection[Any]):
    """A connection that is closed once the server is silent for too long.

    A server that is frozen answers nothing while its kernel confirms every
    byte, so no time-out of TCP ever ends the wait.
    """

    statement_seconds: float | None = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for what the server has to say."""
        limit = ANSWER_SECONDS if self.autocommit else self.statement_seconds  # a ping commits
        begun = time.monotonic()
        try:
            return super().wait(gen, interval, limit if timeout is None else timeout)
        except psycopg.errors.IdleInTransactionSessionTimeout as error:
            raise psycopg.OperationalError(str(error)) from error  # to be tried again
        except psycopg.OperationalError as error:
            if limit is None or time.monotonic() - begun < limit:
                raise
            self.pgconn.finish()  # what it answers late would be taken for the next answer
            raise SilentError(f"no answer within {limit:g} s") from error


class DatabaseClock(FunctionElement[float]):
    """What `database_clock` returns; each dialect has its own words for it."""

    type = Float()
    inherit_cache = True


def database_clock() -> DatabaseClock:
    """Return the database's clock, in seconds since 1970: leases need no synchronised hosts."""
    return DatabaseClock()


@compiles(DatabaseClock, "sqlite")
def _sqlite_clock(_element: DatabaseClock, _compiler: SQLCompiler, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(DatabaseClock, "postgresql")
def _postgresql_clock(_element: DatabaseClock, _compiler: SQLCompiler, **_: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"


_INSERT: dict[str, type[sqlite.Insert | postgresql.Insert]] = {
    "sqlite": sqlite.Insert,
    "postgresql": postgresql.Insert,
}


def insert_into(dialect: str, table: Any) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT that can say what to do where the row is there already."""
    return _INSERT[dialect](table)
