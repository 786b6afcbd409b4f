"""Retention: what may be deleted, and how, in transactions that keep nobody waiting.

Each `Kind` finds all that may go, which locks nothing, and removes a batch of
it. The batch is looked at again under lock: what another process deletes at
the same moment is left to it, and what is found to be in use stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, exists, func, literal, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.store import idempotency, quotas, rates
from app.store.lifecycle import TERMINAL
from app.store.tables import (
    Artifact,
    Checkpoint,
    CurvePoint,
    IdempotencyKey,
    Job,
    RateLimit,
    TrainedModel,
    TrainingUsage,
)

ROWS_AT_ONCE = 200
BYTES_AT_ONCE = 64 * 2**20
"""How much one transaction deletes: a part of a second on SQLite, where other writers wait."""

POINT_BYTES = 200
"""About what a point of a curve takes."""

Item = tuple[Any, int]
"""A row's key and its bytes."""


@dataclass(frozen=True)
class Kind:
    """One kind of thing that is deleted.

    Parameters
    ----------
    name : str
    find : callable
        Returns every item that may go.
    remove : callable
        Deletes those of the keys that still may go; returns the keys that it deleted.
    """

    name: str
    find: Callable[[Session], Sequence[Item]]
    remove: Callable[[Session, Sequence[Any]], Sequence[Any]]


def batches(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Cut what was found into parts for one transaction each; what is too large is alone."""
    batch: list[Item] = []
    size = 0
    for item in items:
        if batch and (len(batch) == ROWS_AT_ONCE or size + item[1] > BYTES_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item[1]
    if batch:
        yield batch


def ended_jobs(before: datetime, *, with_models: bool) -> Kind:
    """Jobs that ended earlier, with curve and checkpoint, and with their models if asked for."""
    old = (Job.status.in_(TERMINAL), Job.finished_at < before)

    def find(session: Session) -> Sequence[Item]:
        points = _sum_of(func.count() * POINT_BYTES, CurvePoint.job_id == Job.id)
        size = points + _kept(Checkpoint, Checkpoint.job_id == Job.id)
        if with_models:
            size = size + _kept(TrainedModel, TrainedModel.job_id == Job.id)
        return _items(session, select(Job.id, size).where(*old).order_by(Job.id))

    def remove(session: Session, keys: Sequence[Any]) -> Sequence[Any]:
        jobs = _lock(session, select(Job.id).where(Job.id.in_(keys), *old).order_by(Job.id))
        left = list(_take(session, Checkpoint, Checkpoint.job_id.in_(jobs)))
        models = select(TrainedModel.id).where(TrainedModel.job_id.in_(jobs))
        theirs = session.scalars(models).all() if with_models else []
        session.execute(delete(Job).where(Job.id.in_(jobs)))
        left += _take(session, TrainedModel, TrainedModel.id.in_(theirs))
        session.execute(delete(Artifact).where(Artifact.id.in_(left)))
        return jobs

    return Kind("jobs and their models" if with_models else "jobs", find, remove)


def expired_keys(hours: float) -> Kind:
    """Idempotency keys whose answers are no longer kept."""
    size = func.coalesce(func.length(IdempotencyKey.body), 0)
    key = (IdempotencyKey.owner, IdempotencyKey.key)
    return _rows("idempotency keys", key, idempotency.expired(hours), size)


def old_usage() -> Kind:
    """Training that counts for no quota any more."""
    key = (TrainingUsage.owner, TrainingUsage.hour, TrainingUsage.worker)
    return _rows("old counts of training", key, quotas.is_old(), literal(0))


def full_rates() -> Kind:
    """Rates of which nothing is used."""
    key = (RateLimit.policy, RateLimit.subject)
    return _rows("counts of requests", key, rates.is_full(), literal(0))


def _rows(
    name: str,
    columns: tuple[InstrumentedAttribute[Any], ...],
    condition: ColumnElement[bool],
    size: ColumnElement[int],
) -> Kind:
    """Rows that nothing belongs to, by the columns of their key."""
    key, table = tuple_(*columns), columns[0].class_

    def find(session: Session) -> Sequence[Item]:
        rows = session.execute(select(*columns, size).where(condition))
        return [(tuple(found), size) for *found, size in rows]

    def remove(session: Session, keys: Sequence[Any]) -> Sequence[Any]:
        mine = select(*columns).where(key.in_(keys), condition)
        rows = session.execute(mine.with_for_update(skip_locked=True))
        taken = [tuple(found) for found in rows]
        session.execute(delete(table).where(key.in_(taken)))
        return taken

    return Kind(name, find, remove)


def orphaned_artifacts(before: datetime) -> Kind:
    """Artifacts from earlier that no row refers to.

    They never will be referred to: an artifact is written in the transaction
    of the row that is to refer to it.
    """
    orphaned = (
        Artifact.created_at < before,
        ~exists().where(Checkpoint.artifact_id == Artifact.id),
        ~exists().where(TrainedModel.artifact_id == Artifact.id),
    )

    def find(session: Session) -> Sequence[Item]:
        query = select(Artifact.id, Artifact.bytes).where(*orphaned).order_by(Artifact.id)
        return _items(session, query)

    def remove(session: Session, keys: Sequence[Any]) -> Sequence[Any]:
        mine = select(Artifact.id).where(Artifact.id.in_(keys), *orphaned).order_by(Artifact.id)
        taken = _lock(session, mine)
        session.execute(delete(Artifact).where(Artifact.id.in_(taken)))
        return taken

    return Kind("artifacts without a row", find, remove)


def _items(session: Session, query: Select[Any, Any]) -> Sequence[Item]:
    return [(key, int(size)) for key, size in session.execute(query)]


def _lock(session: Session, query: Select[Any]) -> Sequence[Any]:
    """Lock what is found until the transaction ends, but for what somebody else has locked."""
    return session.scalars(query.with_for_update(skip_locked=True)).all()


def _take(
    session: Session,
    table: type[Checkpoint | TrainedModel],
    condition: ColumnElement[bool],
) -> Sequence[str]:
    """Delete rows that have an artifact; return the artifacts, which nobody needs any more."""
    statement = delete(table).where(condition).returning(table.artifact_id)
    return session.scalars(statement, execution_options={"synchronize_session": False}).all()


def _kept(table: type[Checkpoint | TrainedModel], condition: ColumnElement[bool]) -> Any:
    """Count the bytes that those rows keep, as a part of a SELECT."""
    return _sum_of(func.sum(Artifact.bytes), condition, Artifact.id == table.artifact_id)


def _sum_of(total: Any, *conditions: ColumnElement[bool]) -> Any:
    summed = select(func.coalesce(total, 0)).where(*conditions).correlate(Job)
    return summed.scalar_subquery()
