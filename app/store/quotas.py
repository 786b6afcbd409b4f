"""Quotas: how much one owner may have, and how much they have.

What is there is counted when it matters, from the rows themselves, so that no counter can go
wrong. Whoever adds to it locks the owner first, until the transaction ends, so that of those who
race each counts what the others have added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session, aliased

from app.config import Settings
from app.store.database import database_clock, insert_into
from app.store.errors import QuotaError, QuotaSpentError
from app.store.lifecycle import JobStatus
from app.store.tables import Dataset, Job, TrainingUsage

HOUR_SECONDS = 3600

WINDOW_HOURS = 24
"""Training counts in the hour in which it was done, and in so many after that."""

WAITING = (JobStatus.QUEUED, JobStatus.PAUSED)

LOCKS = 0x6F776E72
"""The class of the advisory locks that stand for owners on PostgreSQL: "ownr"."""


@dataclass(frozen=True)
class Quotas:
    """How much each owner may have; None is as much as they like.

    Parameters
    ----------
    datasets : int or None
    dataset_bytes : int or None
        Of their files in the storage.
    queued_jobs : int or None
        That are queued or paused.
    running_jobs : int or None
    training_seconds : float or None
        Within a day, of all jobs together.
    """

    datasets: int | None = None
    dataset_bytes: int | None = None
    queued_jobs: int | None = None
    running_jobs: int | None = None
    training_seconds: float | None = None

    @classmethod
    def of(cls, settings: Settings) -> Quotas:
        """Return those that the operator has set."""
        return cls(
            datasets=settings.owner_datasets,
            dataset_bytes=settings.owner_dataset_bytes,
            queued_jobs=settings.owner_queued_jobs,
            running_jobs=settings.owner_running_jobs,
            training_seconds=settings.owner_training_seconds,
        )

    @property
    def hold_jobs_back(self) -> bool:
        """Whether a job may have to wait although a worker is free."""
        return self.running_jobs is not None or self.training_seconds is not None


UNLIMITED = Quotas()


@dataclass(frozen=True)
class Usage:
    """How much an owner has, as in `Quotas`."""

    datasets: int
    dataset_bytes: int
    queued_jobs: int
    running_jobs: int
    training_seconds: float


def usage(session: Session, owner: str) -> Usage:
    """Count what an owner has."""
    return Usage(
        datasets=_datasets(session, owner),
        dataset_bytes=_dataset_bytes(session, owner),
        queued_jobs=_jobs(session, owner, *WAITING),
        running_jobs=_jobs(session, owner, JobStatus.RUNNING),
        training_seconds=training_seconds(session, owner),
    )


def _datasets(session: Session, owner: str) -> int:
    return _count(session, select(func.count()).where(Dataset.owner == owner))


def _dataset_bytes(session: Session, owner: str) -> int:
    return _count(session, select(func.sum(Dataset.stored_bytes)).where(Dataset.owner == owner))


def _jobs(session: Session, owner: str, *statuses: JobStatus) -> int:
    mine = select(func.count()).where(Job.owner == owner, Job.status.in_(statuses))
    return _count(session, mine)


def _count(session: Session, query: Select[Any]) -> int:
    return int(session.scalar(query) or 0)


def training_seconds(session: Session, owner: str) -> float:
    """Return how long the owner's jobs have trained within the last day."""
    recent = TrainingUsage.hour >= _oldest_hour(session)
    total = select(func.sum(TrainingUsage.seconds)).where(TrainingUsage.owner == owner, recent)
    return session.scalar(total) or 0.0


def _oldest_hour(session: Session) -> int:
    now = session.scalars(select(database_clock())).one()
    return int(now // HOUR_SECONDS) - WINDOW_HOURS


# What is refused.


def check_dataset(session: Session, owner: str, quotas: Quotas, more_bytes: int) -> None:
    """Refuse one more dataset whose file has so many bytes.

    Raises
    ------
    QuotaError
        It would be one too many, or too large.
    """
    if quotas.datasets is not None:
        count = _datasets(session, owner) + 1
        if count > quotas.datasets:
            raise QuotaError("datasets with this one", count, quotas.datasets, DELETE)
    if quotas.dataset_bytes is not None:
        size = _dataset_bytes(session, owner) + more_bytes
        if size > quotas.dataset_bytes:
            what = "bytes of datasets with this one, as they are stored"
            raise QuotaError(what, size, quotas.dataset_bytes, DELETE)


DELETE = "delete datasets that are of no more use"


def admit_dataset(session: Session, owner: str, quotas: Quotas, more_bytes: int) -> None:
    """Refuse like `check_dataset`, and keep the owner from adding others until this one is."""
    if quotas.datasets is not None or quotas.dataset_bytes is not None:
        lock(session, owner)
        check_dataset(session, owner, quotas, more_bytes)


def admit_job(session: Session, owner: str, quotas: Quotas) -> None:
    """Refuse one more job, and keep the owner from adding others until this one is there.

    Raises
    ------
    QuotaSpentError
        As many wait as may, or the owner's jobs have trained for as long as they may.
    """
    if quotas.queued_jobs is not None:
        lock(session, owner)
        count = _jobs(session, owner, *WAITING) + 1
        if count > quotas.queued_jobs:
            advice = "wait until one has begun, or cancel one"
            raise QuotaSpentError("waiting jobs with this one", count, quotas.queued_jobs, advice)
    limit = quotas.training_seconds
    if limit is not None and (spent := training_seconds(session, owner)) >= limit:
        what, advice = f"seconds of training within {WINDOW_HOURS} hours", "try again in an hour"
        raise QuotaSpentError(what, round(spent, 1), limit, advice)


def lock(session: Session, owner: str) -> None:
    """Be the only one, until the transaction ends, who adds to what the owner has.

    Nothing else is locked while this is waited for, but rows that nobody waits for who has it.
    """
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer at a time
        session.execute(select(func.pg_advisory_xact_lock(LOCKS, func.hashtext(owner))))


# What waits.


def held_back(session: Session, quotas: Quotas) -> Iterator[ColumnElement[bool]]:
    """Yield what must hold for a waiting job, so that its owner has not all that they may."""
    if quotas.running_jobs is not None:
        other = aliased(Job)
        running = select(other.owner).where(other.status == JobStatus.RUNNING)
        busy = running.group_by(other.owner).having(func.count() >= quotas.running_jobs)
        yield Job.owner.not_in(busy)
    if quotas.training_seconds is not None:
        recent = select(TrainingUsage.owner).where(TrainingUsage.hour >= _oldest_hour(session))
        total = func.sum(TrainingUsage.seconds)
        spent = recent.group_by(TrainingUsage.owner).having(total >= quotas.training_seconds)
        yield Job.owner.not_in(spent)


def may_run_another(session: Session, owner: str, quotas: Quotas) -> bool:
    """Whether one more of the owner's jobs may run; of those who race each is told the truth."""
    if quotas.running_jobs is None:
        return True
    lock(session, owner)
    return _jobs(session, owner, JobStatus.RUNNING) < quotas.running_jobs


def charge(session: Session, owner: str, worker: str, now: float, seconds: float) -> None:
    """Count training of a process up to ``now``, by the database's clock."""
    row = {"owner": owner, "hour": int(now // HOUR_SECONDS), "worker": worker}
    statement = insert_into(session.get_bind().dialect.name, TrainingUsage).values(
        **row, seconds=seconds
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=list(row), set_={"seconds": TrainingUsage.seconds + seconds}
        )
    )


def is_old() -> ColumnElement[bool]:
    """Say what counts no more."""
    return TrainingUsage.hour < database_clock() / HOUR_SECONDS - (WINDOW_HOURS + 1)
