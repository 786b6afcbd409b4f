"""The keys on the command line: for whoever can reach the database, so also for the first one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from rich.console import Console
from rich.table import Table
from sqlalchemy.orm import Session

from app.config import Settings
from app.store import keys
from app.store.database import UNAVAILABLE, Database
from app.store.errors import NotFoundError
from app.store.keys import Scope
from app.store.tables import ApiKey, now

PAGE = 200

WIDTH = 200
"""Of the list at least: a key's id is looked for, also by programs, and is never broken."""


def create(
    settings: Settings,
    *,
    owner: str,
    name: str | None,
    scopes: list[Scope],
    lifetime: timedelta | None,
) -> int:
    """Make a key; print it, and nothing else on standard output."""
    expires_at = now() + lifetime if lifetime is not None else None
    with _writing(settings) as session:
        key, token = keys.create(
            session, owner=owner, name=name, scopes=scopes, expires_at=expires_at
        )
    until = f" until {_time(key.expires_at)}" if key.expires_at else ""
    print(f"{key.id} lets {owner} {', '.join(key.scopes)}{until}.", file=sys.stderr)
    print("Keep what follows: it cannot be shown again.", file=sys.stderr)
    print(token)
    return 0


def show(settings: Settings, *, owner: str | None) -> int:
    """Print all keys, newest first."""
    table = Table("key", "owner", "name", "scopes", "made", "last used", "state", box=None)
    for key in _all(settings, owner):
        used = _time(key.used_at) if key.used_at else "never"
        facts = (key.id, key.owner, key.name or "", ", ".join(key.scopes), _time(key.created_at))
        table.add_row(*facts, used, _state(key))
    wide = Console(highlight=False)
    wide.width = max(wide.width, WIDTH)
    wide.print(table)
    return 0


def _all(settings: Settings, owner: str | None) -> Iterator[ApiKey]:
    cursor: str | None = None
    with _database(settings) as database:
        while True:
            with database.reading() as session:
                page = keys.page(session, limit=PAGE, cursor=cursor, owner=owner)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {_time(key.revoked_at)}"
    if key.expires_at is None:
        return "good"
    return f"{'good until' if keys.is_usable(key) else 'ended'} {_time(key.expires_at)}"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def revoke(settings: Settings, key_id: str) -> int:
    """Have a key open nothing any more."""
    try:
        with _writing(settings) as session:
            keys.revoke(session, key_id)
    except NotFoundError as error:
        print(f"{error}; `keys list` shows them", file=sys.stderr)
        return 1
    print(f"{key_id} opens nothing any more.", file=sys.stderr)
    return 0


def is_locked(settings: Settings) -> bool:
    """Whether strangers are kept out: nobody else reaches the service, or there are keys.

    While a server of a database does not answer this cannot be told; then the
    gate lets nobody in, for it does not know a key either.
    """
    if settings.is_local or settings.api_keys:
        return True
    with _database(settings) as database:
        try:
            with database.reading() as session:
                return keys.exist(session)
        except UNAVAILABLE:
            return not database.is_sqlite


@contextmanager
def _database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.resolved_database_url)
    try:
        yield database
    finally:
        database.dispose()


@contextmanager
def _writing(settings: Settings) -> Iterator[Session]:
    with _database(settings) as database, database.writing() as session:
        yield session
