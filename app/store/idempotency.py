"""Idempotency keys: of the requests that come with the same key, one is done."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, delete, or_, update
from sqlalchemy.orm import Session

from app.store.database import database_clock, insert_into
from app.store.errors import InFlightError, KeyReusedError
from app.store.tables import IdempotencyKey

ABANDONED_SECONDS = 60
"""A request that is in flight for so long was cut off; its key can be taken again."""


@dataclass(frozen=True)
class Stored:
    """The answer to the first request with a key.

    Parameters
    ----------
    status : int
    headers : dict
    body : bytes
    """

    status: int
    headers: dict[str, str]
    body: bytes


def begin(session: Session, owner: str, key: str, fingerprint: str, hours: float) -> Stored | None:
    """Take a key; None means that the request is the first and is to be done.

    Raises
    ------
    KeyReusedError
        The key came with another request.
    InFlightError
        The first request is not answered yet.
    """
    if _take(session, owner, key, fingerprint, hours):
        return None
    row = session.get(IdempotencyKey, (owner, key), populate_existing=True)
    if row is None:  # given back in this moment
        raise InFlightError(key)
    if row.fingerprint != fingerprint:
        raise KeyReusedError(key)
    if row.status is None:
        raise InFlightError(key)
    return Stored(row.status, row.headers or {}, row.body or b"")


def _take(session: Session, owner: str, key: str, fingerprint: str, hours: float) -> bool:
    """Insert the key, or replace one that is too old, in one statement: of a race one wins."""
    fresh = {"fingerprint": fingerprint, "created_at": database_clock()}
    age = database_clock() - IdempotencyKey.created_at
    cut_off = and_(IdempotencyKey.status.is_(None), age > ABANDONED_SECONDS)
    statement = (
        insert_into(session.get_bind().dialect.name, IdempotencyKey)
        .values(owner=owner, key=key, **fresh)
        .on_conflict_do_update(
            index_elements=["owner", "key"],
            set_={**fresh, "status": None, "headers": None, "body": None},
            where=or_(expired(hours), cut_off),
        )
        .returning(IdempotencyKey.key)
    )
    return session.scalar(statement) is not None


def expired(hours: float) -> ColumnElement[bool]:
    """Say which keys are no longer kept; what came with them is done when it comes again."""
    return database_clock() - IdempotencyKey.created_at > hours * 3600


def finish(
    session: Session, owner: str, key: str, status: int, headers: dict[str, str], body: bytes
) -> None:
    """Keep the answer to the request that took the key."""
    session.execute(
        update(IdempotencyKey)
        .where(IdempotencyKey.owner == owner, IdempotencyKey.key == key)
        .values(status=status, headers=headers, body=body)
    )


def abandon(session: Session, owner: str, key: str) -> None:
    """Give back a key whose request was not done."""
    session.execute(
        delete(IdempotencyKey).where(
            IdempotencyKey.owner == owner,
            IdempotencyKey.key == key,
            IdempotencyKey.status.is_(None),
        )
    )
