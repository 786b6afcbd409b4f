"""Tenants: every query for a caller starts here, from what belongs to them.

This is the first wall between owners. The second is PostgreSQL's: in a session
that `Database` opens for an owner row-level security hides what is not theirs,
whatever the query says.
"""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.store.errors import NotFoundError
from app.store.tables import Dataset, Job, ModelName, TrainedModel

Row = TypeVar("Row", Dataset, Job, ModelName, TrainedModel)

_KINDS = {Dataset: "dataset", Job: "job", ModelName: "name", TrainedModel: "model"}


def belonging_to(owner: str, table: type[Row]) -> Select[Row]:
    """Return the query for all of the owner's rows, to narrow further."""
    return select(table).where(table.owner == owner)


def get(
    session: Session,
    owner: str,
    table: type[Row],
    row_id: str,
    *,
    lock: bool = False,
    hold: bool = False,
) -> Row:
    """Return one of the owner's rows.

    Until the transaction ends nobody else changes it if it is locked, and
    nobody removes it if it is held.

    Raises
    ------
    NotFoundError
        There is none with this id, or it is somebody else's, which looks the same.
    """
    query = belonging_to(owner, table).where(table.id == row_id)
    if lock or hold:
        query = query.with_for_update(read=hold)
    row = session.scalar(query)
    if row is None:
        raise NotFoundError(_KINDS[table], row_id)
    return row
