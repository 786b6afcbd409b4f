"""API keys: who may use the service, and for what. Of a key only a digest is kept."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.store.errors import NotFoundError
from app.store.pages import Page, cut
from app.store.tables import ApiKey, new_id, now

TOKEN = re.compile(r"(key_[0-9a-f]{32})_([0-9a-f]{64})")
"""The id that a key is looked up by, and its secret."""

NOTED = timedelta(minutes=1)
"""The use of a key is noted at most so often."""


class Scope(StrEnum):
    """What a key may be used for."""

    READ = "read"
    """To look at whatever the owner has."""
    TRAIN = "train"
    """To upload, submit, steer and delete."""
    PREDICT = "predict"
    """To ask models."""
    ADMIN = "admin"
    """Everything, and the keys of all owners."""


USUAL = (Scope.READ, Scope.TRAIN, Scope.PREDICT)
"""What a key may be used for unless its maker says otherwise."""


def create(
    session: Session,
    *,
    owner: str,
    scopes: list[Scope],
    name: str | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Make a key; return its row and the key itself, which nothing can tell again."""
    secret = secrets.token_hex(32)
    key = ApiKey(
        id=new_id("key"),
        owner=owner,
        name=name,
        scopes=[scope.value for scope in Scope if scope in scopes],
        sha256=_digest(secret),
        expires_at=expires_at,
    )
    session.add(key)
    session.flush()
    return key, f"{key.id}_{secret}"


def authenticate(session: Session, token: str) -> ApiKey | None:
    """Return the key that a caller shows, if it is one and may still be used.

    One whose id is not known takes as long as one whose secret is wrong. The
    secret has 256 random bits, so one round of a fast hash is enough.
    """
    match = TOKEN.fullmatch(token)
    if match is None:
        return None
    key_id, secret = match.groups()
    key = session.get(ApiKey, key_id)
    is_right = hmac.compare_digest(key.sha256 if key else _NOBODY, _digest(secret))
    return key if key is not None and is_right and is_usable(key) else None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


_NOBODY = _digest("")


def is_usable(key: ApiKey) -> bool:
    """Whether a key is neither revoked nor expired."""
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > now())


def is_noted(key: ApiKey) -> bool:
    """Whether the use of a key was noted lately."""
    return key.used_at is not None and now() - key.used_at < NOTED


def note_use(session: Session, key: ApiKey) -> None:
    """Remember when a key was last used, to the minute."""
    session.execute(update(ApiKey).where(ApiKey.id == key.id).values(used_at=now()))


def exist(session: Session) -> bool:
    """Whether a key was ever made, be it revoked by now."""
    return session.scalar(select(ApiKey.id).limit(1)) is not None


def get(session: Session, key_id: str) -> ApiKey:
    """Return a key of whatever owner.

    Raises
    ------
    NotFoundError
        There is none with this id.
    """
    key = session.get(ApiKey, key_id)
    if key is None:
        raise NotFoundError("key", key_id)
    return key


def page(
    session: Session, *, limit: int, cursor: str | None = None, owner: str | None = None
) -> Page[ApiKey]:
    """Return a page of keys, newest first, of one owner or of all."""
    query = select(ApiKey)
    if owner is not None:
        query = query.where(ApiKey.owner == owner)
    return cut(session, query, ApiKey.id, limit, cursor)


def revoke(session: Session, key_id: str) -> None:
    """Have a key open nothing any more; its row stays. To do it again changes nothing.

    Raises
    ------
    NotFoundError
        There is none with this id.
    """
    key = get(session, key_id)
    key.revoked_at = key.revoked_at or now()
