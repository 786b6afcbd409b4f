"""Pages of a list, newest first. A cursor is the last id of the page before, made opaque."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.store.errors import CursorError

Row = TypeVar("Row")

ID = re.compile(r"[a-z]+_[0-9a-f]{32}")


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Part of a list.

    Parameters
    ----------
    items : sequence of rows
    next_cursor : str or None
        Where the next page begins; None on the last.
    """

    items: Sequence[Row]
    next_cursor: str | None


def cut(
    session: Session,
    query: Select[Row],
    key: InstrumentedAttribute[str],
    limit: int,
    cursor: str | None,
) -> Page[Row]:
    """Cut the page after ``cursor`` out of what ``query`` finds."""
    if cursor is not None:
        query = query.where(key < _decode(cursor))
    rows = session.scalars(query.order_by(key.desc()).limit(limit + 1)).all()
    more = len(rows) > limit
    return Page(rows[:limit], _encode(getattr(rows[limit - 1], key.key)) if more else None)


def _encode(last: str) -> str:
    return urlsafe_b64encode(last.encode()).decode().rstrip("=")


def _decode(cursor: str) -> str:
    try:
        last = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except ValueError as error:
        raise CursorError(cursor) from error
    if not ID.fullmatch(last):
        raise CursorError(cursor)
    return last
