"""Jobs: what a caller asks of them, what a worker does with them, and what keeps the queue moving.

Every change of status is one guarded UPDATE that names the states it may
leave, so of two that race one wins. What a worker writes is guarded by its
attempt as well: a worker that was thought lost and comes back cannot write
over the one that has the job now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from sqlalchemy import ColumnElement, delete, func, insert, or_, select, true, update
from sqlalchemy.orm import Session, aliased

from app.store import artifacts, datasets, tenants
from app.store.database import database_clock
from app.store.errors import ConflictError, IllegalMoveError, LostClaimError, NotFoundError
from app.store.lifecycle import LIVE, TERMINAL, JobKind, JobStatus, sources_of
from app.store.pages import Page, cut
from app.store.quotas import (
    UNLIMITED,
    Quotas,
    admit_job,
    charge,
    held_back,
    may_run_another,
    training_seconds,
)
from app.store.tables import Checkpoint, CurvePoint, Job, new_id, now

MEMORY_ADVICE = "use a smaller network or batch, or fewer rows, and submit it again"


@dataclass(frozen=True)
class Loss:
    """How a worker was lost.

    Parameters
    ----------
    code : str
        What the job says if it fails of it.
    what : str
        The same in words.
    """

    code: str
    what: str


SILENT = Loss("worker_lost", "the worker stopped answering")
CRASHED = Loss("worker_crashed", "the training process died, most likely out of memory,")
STALLED = Loss("stalled", "the training made no progress for too long,")


@dataclass(frozen=True)
class Retries:
    """How often a job is tried again after a lost worker.

    Parameters
    ----------
    max_attempts : int
        Lost workers after which it fails.
    backoff_seconds : float
        It is tried again at once after the first loss, then later by so much after each.
    """

    max_attempts: int
    backoff_seconds: float


class Signal(StrEnum):
    """What a worker hears when it reports."""

    GO = "go"
    CANCEL = "cancel"
    PAUSE = "pause"
    LOST = "lost"
    """The job ended or went to another worker: write nothing more."""


@dataclass(frozen=True)
class Claim:
    """A worker's right to a job, as long as it renews its lease.

    Parameters
    ----------
    job_id, owner, dataset_id : str
    kind : JobKind
    attempt : int
        The fencing number: every write of this claim names it.
    worker : str
        Who holds the claim.
    spec : dict
        The resolved spec.
    traceparent : str or None
        The trace that the job was submitted in.
    checkpoint_seconds, checkpoint_epochs : float or None, int or None
        How often its caller wants it saved.
    publish : dict or None
        What its model is to be called, and what has to be better for it.
    model_id : str or None
        The model that a batch prediction asks.
    parts : list of dict
        The files that its rows so far are in, each with `location` and `rows`.
    """

    job_id: str
    owner: str
    dataset_id: str
    kind: JobKind
    attempt: int
    worker: str
    spec: dict[str, Any]
    traceparent: str | None
    checkpoint_seconds: float | None
    checkpoint_epochs: int | None
    publish: dict[str, Any] | None
    model_id: str | None
    parts: list[dict[str, Any]]


# What a caller asks.


def submit(
    session: Session,
    *,
    owner: str,
    dataset_id: str,
    spec: dict[str, Any],
    epochs: int,
    name: str | None,
    metadata: dict[str, Any] | None,
    validation_dataset_id: str | None = None,
    priority: int = 0,
    checkpoint_seconds: float | None = None,
    checkpoint_epochs: int | None = None,
    publish: dict[str, Any] | None = None,
    traceparent: str | None = None,
    multiply_adds: int | None = None,
    quotas: Quotas = UNLIMITED,
) -> Job:
    """Queue a job.

    Raises
    ------
    NotFoundError
        The owner has no such dataset.
    QuotaSpentError
        The owner may not queue one more now.
    """
    admit_job(session, owner, quotas)
    dataset, validation = datasets.hold(session, owner, dataset_id), None
    if validation_dataset_id is not None:
        validation = datasets.hold(session, owner, validation_dataset_id)
    job = Job(
        id=new_id("job"),
        owner=owner,
        dataset_id=dataset_id,
        dataset_sha256=dataset.sha256,
        validation_dataset_id=validation_dataset_id,
        validation_dataset_sha256=validation.sha256 if validation is not None else None,
        spec=spec,
        epochs=epochs,
        name=name,
        job_metadata=metadata,
        multiply_adds=multiply_adds,
        traceparent=traceparent,
        priority=priority,
        checkpoint_seconds=checkpoint_seconds,
        checkpoint_epochs=checkpoint_epochs,
        publish=publish,
        queued_at=database_clock(),
    )
    session.add(job)
    session.flush()
    return job


def get(
    session: Session,
    owner: str,
    job_id: str,
    kind: JobKind = JobKind.TRAINING,
    *,
    lock: bool = False,
) -> Job:
    """Return a job, if asked for locked until the transaction ends.

    Raises
    ------
    NotFoundError
        There is none of this kind with this id, or it is somebody else's.
    """
    job = tenants.get(session, owner, Job, job_id, lock=lock)
    if job.kind is not kind:
        raise NotFoundError("job", job_id)
    return job


def page(
    session: Session,
    owner: str,
    *,
    limit: int,
    cursor: str | None,
    kind: JobKind = JobKind.TRAINING,
    status: JobStatus | None = None,
    dataset: str | None = None,
    name: str | None = None,
) -> Page[Job]:
    """Return a page of the owner's jobs, newest first, of those that match."""
    query = tenants.belonging_to(owner, Job).where(Job.kind == kind)
    for column, wanted in ((Job.status, status), (Job.dataset_id, dataset), (Job.name, name)):
        if wanted is not None:
            query = query.where(column == wanted)
    return cut(session, query, Job.id, limit, cursor)


def request_cancel(session: Session, owner: str, job_id: str) -> Job:
    """Cancel a job that waits, or ask the worker of one that runs to stop.

    Raises
    ------
    IllegalMoveError
        It has ended already.
    """
    return _stop(session, owner, job_id, JobStatus.CANCELLED, cancel_requested=True)


def request_pause(session: Session, owner: str, job_id: str) -> Job:
    """Put a job aside that waits, or ask the worker of one that runs to put it aside.

    Raises
    ------
    IllegalMoveError
        It is paused already or has ended.
    """
    return _stop(session, owner, job_id, JobStatus.PAUSED, pause_requested=True)


def _stop(session: Session, owner: str, job_id: str, target: JobStatus, **request: bool) -> Job:
    """Ask the worker if there is one, else move the job at once; nobody claims it in between."""
    tenants.get(session, owner, Job, job_id, lock=True)
    held = (Job.status == JobStatus.RUNNING, Job.lease_expires >= database_clock())
    asked = _change(session, Job.id == job_id, *held, **request)
    return asked or move(session, job_id, target)


def resume(session: Session, owner: str, job_id: str) -> Job:
    """Queue a paused job again, or take back a pause that its worker has not heard of yet.

    Raises
    ------
    IllegalMoveError
        It is not paused, and nobody asked for it.
    """
    tenants.get(session, owner, Job, job_id, lock=True)
    asked = (Job.status == JobStatus.RUNNING, Job.pause_requested.is_(True))
    goes_on = _change(session, Job.id == job_id, *asked, pause_requested=False)
    paused = Job.status == JobStatus.PAUSED
    return goes_on or move(session, job_id, JobStatus.QUEUED, paused)


def remove(session: Session, owner: str, job_id: str) -> None:
    """Delete a job with its curve and checkpoint; its model stays.

    Raises
    ------
    ConflictError
        It is live.
    """
    job = tenants.get(session, owner, Job, job_id, lock=True)
    if job.status in LIVE:
        raise ConflictError("job", f"{job_id} is {job.status}; cancel it first")
    _discard_checkpoint(session, job_id)
    session.execute(delete(Job).where(Job.id == job_id))


def _discard_checkpoint(session: Session, job_id: str) -> None:
    """Delete what a job could go on from, if it has that."""
    state = session.scalar(
        delete(Checkpoint).where(Checkpoint.job_id == job_id).returning(Checkpoint.artifact_id)
    )
    if state is not None:
        artifacts.remove(session, state)


def curve(
    session: Session, job_id: str, since: int | None = None, limit: int | None = None
) -> Sequence[CurvePoint]:
    """Return the first ``limit`` points of a job's curve, of those after epoch ``since``."""
    points = select(CurvePoint).where(CurvePoint.job_id == job_id).order_by(CurvePoint.epoch)
    if since is not None:
        points = points.where(CurvePoint.epoch > since)
    return session.scalars(points.limit(limit)).all()


# How a job moves.


def move(
    session: Session,
    job_id: str,
    target: JobStatus,
    *conditions: ColumnElement[bool],
    **values: Any,
) -> Job:
    """Move a job to ``target``, or refuse.

    Raises
    ------
    IllegalMoveError
        It is in no state that leads there, or does not meet ``conditions``.
    """
    job = _move(session, target, Job.id == job_id, *conditions, **values)
    if job is None:
        now_is = session.scalar(select(Job.status).where(Job.id == job_id))
        raise IllegalMoveError(job_id, str(now_is), target)
    return job


def _move(
    session: Session, target: JobStatus, *conditions: ColumnElement[bool], **values: Any
) -> Job | None:
    leads_there = Job.status.in_(sources_of(target))
    arrived = {"status": target, **_upon(target), **values}
    return _change(session, leads_there, *conditions, **arrived)


def _upon(target: JobStatus) -> dict[str, Any]:
    """Return what a job sheds when it enters a status."""
    if target is JobStatus.RUNNING:
        return {}
    idle: dict[str, Any] = {"lease_owner": None, "lease_expires": None, "eta_seconds": None}
    idle["pause_requested"] = False
    if target is JobStatus.QUEUED:
        return {**idle, "queued_at": database_clock(), "run_after": None, "rung_at": None}
    return {**idle, "finished_at": now()} if target in TERMINAL else idle


def _change(session: Session, *conditions: ColumnElement[bool], **values: Any) -> Job | None:
    """Change the one job that meets the conditions, visibly; return it, or None."""
    values = {"version": Job.version + 1, **values}
    statement = update(Job).where(*conditions).values(values).returning(Job)
    return session.scalars(statement, execution_options=_FRESH).one_or_none()


_FRESH = {"synchronize_session": False, "populate_existing": True}
"""The row as the database returns it is the truth, also for objects that the session holds."""


# What a worker does.


def next_due(session: Session, quotas: Quotas = UNLIMITED) -> str | None:
    """Return the queued job whose turn it is, locked, if there is one.

    Those of the highest priority come first, among them those of the owner
    who was served the longest ago, so that nobody waits behind all of
    another's; among them the one that waits the longest. Those of an owner who
    may not have another run now are passed over.
    """
    while (found := _first_waiting(session, quotas)) is not None:
        job_id, owner = found
        if may_run_another(session, owner, quotas):
            return job_id
    return None


def _first_waiting(session: Session, quotas: Quotas) -> tuple[str, str] | None:
    other = aliased(Job)
    last_served = select(func.max(other.claimed_at)).where(other.owner == Job.owner)
    turn = (
        Job.priority.desc(),
        last_served.scalar_subquery().asc().nulls_first(),
        Job.queued_at,
        Job.id,
    )
    waiting = select(Job.id, Job.owner).where(*_WAITING, *held_back(session, quotas))
    first = waiting.order_by(*turn).limit(1).with_for_update(of=Job, skip_locked=True)
    found = session.execute(first).one_or_none()
    return (found.id, found.owner) if found is not None else None


_WAITING = (
    Job.status == JobStatus.QUEUED,
    or_(Job.run_after.is_(None), Job.run_after <= database_clock()),
)


def claim(session: Session, job_id: str, worker: str, lease_seconds: float) -> Claim | None:
    """Take a queued job; None when it is not queued, so that a doubled message does nothing."""
    job = _move(
        session,
        JobStatus.RUNNING,
        Job.id == job_id,
        *_WAITING,
        attempt=Job.attempt + 1,
        lease_owner=worker,
        lease_expires=database_clock() + lease_seconds,
        claimed_at=database_clock(),
        started_at=func.coalesce(Job.started_at, now()),
    )
    if job is None:
        return None
    return Claim(
        job_id=job.id,
        owner=job.owner,
        dataset_id=cast(str, job.dataset_id),  # a live job has one
        kind=job.kind,
        attempt=job.attempt,
        worker=worker,
        spec=job.spec,
        traceparent=job.traceparent,
        checkpoint_seconds=job.checkpoint_seconds,
        checkpoint_epochs=job.checkpoint_epochs,
        publish=job.publish,
        model_id=job.model_id,
        parts=job.parts or [],
    )


def heartbeat(
    session: Session,
    claim: Claim,
    lease_seconds: float,
    *,
    quotas: Quotas = UNLIMITED,
    epoch: int | None = None,
    fraction: float | None = None,
    eta_seconds: float | None = None,
    samples_per_second: float | None = None,
    metrics: dict[str, float] | None = None,
) -> Signal:
    """Renew the lease, write the progress that is given, and hear what is asked.

    The time since the lease was last renewed counts as training. A job whose owner's time is used
    up is put aside, and waits.
    """
    times = select(database_clock(), database_clock() + lease_seconds - Job.lease_expires)
    held = session.execute(times.where(*_held(claim)).with_for_update()).one_or_none()
    if held is None:
        return Signal.LOST
    now, since_renewal = held
    charge(session, claim.owner, claim.worker, now, max(since_renewal, 0.0))
    progress = {
        "epoch": epoch,
        "fraction": fraction,
        "eta_seconds": eta_seconds,
        "samples_per_second": samples_per_second,
        "metrics": metrics,
    }
    given = {name: value for name, value in progress.items() if value is not None}
    job = _change(
        session,
        *_held(claim),
        lease_expires=database_clock() + lease_seconds,
        version=Job.version + (1 if given else 0),
        **given,
    )
    if job is None:
        return Signal.LOST
    if job.cancel_requested:
        return Signal.CANCEL
    limit = quotas.training_seconds
    is_spent = limit is not None and training_seconds(session, claim.owner) >= limit
    return Signal.PAUSE if job.pause_requested or is_spent else Signal.GO


def record_points(session: Session, claim: Claim, points: Sequence[dict[str, Any]]) -> None:
    """Add points to the curve, each a dict of `CurvePoint`'s columns but the job.

    To do it again, when it is not known whether it was done, changes nothing.
    """
    hold(session, claim)
    if points:
        truncate_curve(session, claim, points[0]["epoch"] - 1)
        rows = [{"job_id": claim.job_id, **point} for point in points]
        session.execute(insert(CurvePoint), rows)


def truncate_curve(session: Session, claim: Claim, epoch: int) -> None:
    """Drop the points after ``epoch``, from where the training goes on."""
    hold(session, claim)
    later = (CurvePoint.job_id == claim.job_id, CurvePoint.epoch > epoch)
    session.execute(delete(CurvePoint).where(*later))


def begin(
    session: Session, claim: Claim, fingerprints: list[dict[str, Any]], notes: Sequence[str] = ()
) -> None:
    """Say what the numbers come from and what was noticed, before the first is written."""
    write(session, claim, fingerprints=fingerprints, notes=list(notes))


def write(session: Session, claim: Claim, **values: Any) -> None:
    """Change columns of a running job that its claim still holds."""
    if _change(session, *_held(claim), **values) is None:
        raise LostClaimError(claim.job_id, claim.attempt)


def succeed(
    session: Session,
    claim: Claim,
    model_id: str,
    metrics: dict[str, float],
    stop_reason: str | None,
    publication: dict[str, Any] | None = None,
) -> None:
    """End a job with its model, and the rule that ended its training; its checkpoint goes."""
    values: dict[str, Any] = {
        "model_id": model_id,
        "metrics": metrics,
        "stop_reason": stop_reason,
        "publication": publication,
        "fraction": 1.0,
    }
    end(session, claim, JobStatus.SUCCEEDED, **values)
    _discard_checkpoint(session, claim.job_id)


def fail(session: Session, claim: Claim, code: str, detail: str) -> None:
    """End a job with what went wrong and what would do."""
    end(session, claim, JobStatus.FAILED, error_code=code, error_detail=detail)


def finish_cancelled(session: Session, claim: Claim) -> None:
    """End a job as its caller asked."""
    end(session, claim, JobStatus.CANCELLED)


def requeue(session: Session, claim: Claim) -> None:
    """Give a job back unfinished: to the queue, or to where its caller asked for meanwhile."""
    for target, asked in _ASKED:
        if _move(session, target, *_held(claim), asked) is not None:
            return
    raise LostClaimError(claim.job_id, claim.attempt)


_ASKED: tuple[tuple[JobStatus, ColumnElement[bool]], ...] = (
    (JobStatus.CANCELLED, Job.cancel_requested.is_(True)),
    (JobStatus.PAUSED, Job.pause_requested.is_(True)),
    (JobStatus.QUEUED, true()),
)
"""Where an unfinished job goes: the first whose condition holds."""


def hold(session: Session, claim: Claim) -> None:
    """Make sure that the claim holds until the transaction ends.

    Raises
    ------
    LostClaimError
        The job ended or went to another attempt. So does every function here
        that writes for a claim; only `heartbeat` answers `Signal.LOST`.
    """
    if session.scalar(select(Job.id).where(*_held(claim)).with_for_update()) is None:
        raise LostClaimError(claim.job_id, claim.attempt)


def _held(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    return (
        Job.id == claim.job_id,
        Job.attempt == claim.attempt,
        Job.status == JobStatus.RUNNING,
    )


def end(session: Session, claim: Claim, target: JobStatus, **values: Any) -> None:
    """End a running job, with what came of it."""
    if _move(session, target, *_held(claim), **values) is None:
        raise LostClaimError(claim.job_id, claim.attempt)


# What keeps the queue moving.


def due(
    session: Session, *, limit: int, ring_again_seconds: float, quotas: Quotas = UNLIMITED
) -> Sequence[str]:
    """Return queued jobs that nobody rang for, or not lately; those that wait longest first."""
    unheard = or_(Job.rung_at.is_(None), Job.rung_at < database_clock() - ring_again_seconds)
    waiting = select(Job.id).where(*_WAITING, *held_back(session, quotas), unheard)
    return session.scalars(waiting.order_by(Job.queued_at, Job.id).limit(limit)).all()


def mark_rung(session: Session, job_ids: Sequence[str]) -> None:
    """Remember that the doorbell rings for these now."""
    session.execute(update(Job).where(Job.id.in_(job_ids)).values(rung_at=database_clock()))


def reap(session: Session, retries: Retries) -> list[tuple[str, JobStatus]]:
    """Take every job from a worker whose lease ran out; return where each of them went."""
    return _lose(session, SILENT, retries, Job.lease_expires < database_clock())


def workers(session: Session, host: str) -> Sequence[str]:
    """Return all who hold a lease and whose name begins with ``host``."""
    held = select(Job.lease_owner).where(Job.status == JobStatus.RUNNING).distinct()
    names = session.scalars(held.where(Job.lease_owner.startswith(host, autoescape=True)))
    return [name for name in names if name is not None]


def overdue(session: Session, host: str) -> Sequence[str]:
    """Return those among `workers` whose lease ran out; nobody renews it in this transaction."""
    late = select(Job.lease_owner).where(
        Job.status == JobStatus.RUNNING,
        Job.lease_expires < database_clock(),
        Job.lease_owner.startswith(host, autoescape=True),
    )
    return [name for name in session.scalars(late.with_for_update()) if name is not None]


def bury(session: Session, worker: str, retries: Retries) -> list[tuple[str, JobStatus]]:
    """Take every job from a worker that is known to be dead; return where each of them went."""
    return _lose(session, CRASHED, retries, Job.lease_owner == worker)


def give_up(session: Session, claim: Claim, retries: Retries) -> None:
    """Give a job back that makes no progress, as if the worker were lost."""
    _lose(session, STALLED, retries, *_held(claim))


def _lose(
    session: Session, loss: Loss, retries: Retries, *conditions: ColumnElement[bool]
) -> list[tuple[str, JobStatus]]:
    """Count a lost worker for running jobs; return where each of them went.

    One over which too many workers were lost fails; the others go where
    `requeue` would send them.
    """
    failures = Job.failures + 1
    error = {
        "error_code": loss.code,
        "error_detail": f"{loss.what} {retries.max_attempts} times; {MEMORY_ADVICE}",
    }
    pause = {"run_after": database_clock() + retries.backoff_seconds * Job.failures}
    upon: dict[JobStatus, dict[str, Any]] = {JobStatus.FAILED: error, JobStatus.QUEUED: pause}
    cancelled, *others = _ASKED
    lost: list[tuple[str, JobStatus]] = []
    too_often = (JobStatus.FAILED, failures >= retries.max_attempts)
    for target, condition in (cancelled, too_often, *others):
        changes = {"status": target, "failures": failures, "version": Job.version + 1}
        statement = (
            update(Job)
            .where(Job.status == JobStatus.RUNNING, *conditions, condition)
            .values({**changes, **_upon(target), **upon.get(target, {})})
            .returning(Job.id)
        )
        found = session.scalars(statement, execution_options={"synchronize_session": False})
        lost += [(job_id, target) for job_id in found]
    return lost
