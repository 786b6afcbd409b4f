"""The database: whether it answers, fits the code, keeps time, and what waits in it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection, make_url

from app.config import Settings
from app.doctor import queue
from app.doctor.checks import Finding, State, ok
from app.doctor.mounts import network_file_system
from app.store import inspection, migrate
from app.store.migrate import Standing

SKEW_SECONDS = 2.0
QUICK_CHECK_SECONDS = 3.0
"""A larger file than can be read in this time is not read to its end."""

MIGRATE = "run `chainrule migrate`"
_STANDINGS = {
    Standing.CURRENT: ok("migrations", "at the newest revision"),
    Standing.BEHIND: Finding("migrations", State.WRONG, "behind the code", MIGRATE),
    Standing.EMPTY: Finding("migrations", State.WRONG, "not migrated: no tables", MIGRATE),
    Standing.AHEAD: Finding(
        "migrations",
        State.WRONG,
        "ahead of the code: a newer release migrated it",
        "install that release again, or restore the backup from before it",
    ),
}


def look(settings: Settings) -> Iterator[Finding]:
    """Look at the database, and into it if its tables are those of the code."""
    url = settings.resolved_database_url
    file = inspection.sqlite_file(url)
    if file is not None and not file.exists():
        yield Finding("database", State.WRONG, f"there is no file {file}", MIGRATE)
        return
    with inspection.connected(url) as connection:
        yield _answer(connection, url)
        if file is not None:
            yield from _sqlite(connection, file)
        standing = migrate.standing(connection)
        yield _STANDINGS[standing]
        yield _clock(connection)
        if standing is Standing.CURRENT:
            yield from queue.look(connection, settings)


def _answer(connection: Connection, url: str) -> Finding:
    begin = time.monotonic()
    version = inspection.version(connection)
    milliseconds = 1000 * (time.monotonic() - begin)
    shown = make_url(url).render_as_string(hide_password=True).split("?")[0]
    return ok("database", f"{version} at {shown} answers within {milliseconds:.1f} ms")


def _clock(connection: Connection) -> Finding:
    """Compare the two clocks, taking the database's for that of the middle of its answer."""
    begin = time.time()
    theirs = inspection.clock(connection)
    skew = theirs - (begin + time.time()) / 2
    fact = f"the database is {abs(skew):.1f} s {'ahead' if skew > 0 else 'behind'}"
    if abs(skew) > SKEW_SECONDS:
        advice = "synchronise the clocks of both machines, by NTP"
        return Finding("clock", State.WARNING, fact, advice)
    return ok("clock", fact)


def _sqlite(connection: Connection, file: Path) -> Iterator[Finding]:
    mode = inspection.journal_mode(connection)
    network = network_file_system(file)
    if network is not None:
        advice = "move it to a local disk, or use PostgreSQL: there its locks cannot be trusted"
        yield Finding("database file", State.WRONG, f"{file} is on {network}", advice)
    elif mode != "wal":
        advice = "start the service or run `chainrule migrate`; it switches to the write-ahead log"
        yield Finding("database file", State.WARNING, f"journal mode {mode}, not wal", advice)
    else:
        yield ok("database file", "journal mode wal, on a local disk")
    yield _integrity(connection)


def _integrity(connection: Connection) -> Finding:
    fault = inspection.quick_check(connection, QUICK_CHECK_SECONDS)
    if fault is None:
        fact = f"no fault found within {QUICK_CHECK_SECONDS:g} s; the file is larger than that"
        return ok("integrity", fact)
    if fault != "ok":
        advice = "stop the service and restore a backup, or save what `sqlite3 .recover` finds"
        return Finding("integrity", State.WRONG, fault, advice)
    return ok("integrity", "quick_check finds nothing")
