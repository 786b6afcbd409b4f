"""Batch predictions: jobs that ask a model about every row of a dataset.

What is predicted so far is in parts, each a file of the storage; in the end they become one.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store import datasets, jobs, trained_models
from app.store.database import database_clock
from app.store.errors import ConflictError
from app.store.jobs import Claim
from app.store.lifecycle import LIVE, JobKind, JobStatus
from app.store.quotas import UNLIMITED, Quotas, admit_job
from app.store.tables import Job, new_id

PREFIX = "bat"

FILE = re.compile(rf"(?P<job>{PREFIX}_[0-9a-f]{{32}})_(part|result)_[0-9a-f]{{32}}.*")
"""How the file of a batch prediction is called."""


def submit(
    session: Session,
    *,
    owner: str,
    model: str,
    dataset_id: str,
    asked: dict[str, Any],
    name: str | None,
    metadata: dict[str, Any] | None,
    priority: int = 0,
    traceparent: str | None = None,
    quotas: Quotas = UNLIMITED,
) -> Job:
    """Queue a batch prediction.

    Raises
    ------
    NotFoundError
        The owner has no such model or dataset.
    QuotaSpentError
        The owner may not queue one more now.
    """
    admit_job(session, owner, quotas)
    found = trained_models.get(session, owner, model, hold=True)
    dataset = datasets.hold(session, owner, dataset_id)
    job = Job(
        id=new_id(PREFIX),
        owner=owner,
        kind=JobKind.PREDICTION,
        dataset_id=dataset.id,
        dataset_sha256=dataset.sha256,
        spec={"model": found.id, "dataset": dataset.id, **asked},
        epochs=dataset.rows,
        name=name,
        job_metadata=metadata,
        traceparent=traceparent,
        priority=priority,
        model_id=found.id,
        queued_at=database_clock(),
    )
    session.add(job)
    session.flush()
    return job


def keep_parts(session: Session, claim: Claim, parts: list[dict[str, Any]]) -> None:
    """Remember the files that the rows so far are in; raises like `jobs.hold`."""
    jobs.write(session, claim, parts=parts)


def succeed(session: Session, claim: Claim, result: dict[str, Any]) -> None:
    """End a batch prediction with its file; its parts are of no more use."""
    jobs.end(
        session,
        claim,
        JobStatus.SUCCEEDED,
        result=result,
        parts=None,
        epoch=result["rows"],
        fraction=1.0,
    )


def files(job: Job) -> list[str]:
    """Return the names of a batch prediction's files in the storage."""
    parts = [part["location"] for part in job.parts or ()]
    return [*parts, *([job.result["location"]] if job.result is not None else ())]


def result_of(job: Job) -> dict[str, Any]:
    """Return what came of a batch prediction.

    Raises
    ------
    ConflictError
        It has not succeeded.
    """
    if job.result is None:
        raise ConflictError("batch prediction", f"{job.id} is {job.status}; it has no result")
    return job.result


def forget_parts(session: Session, job: Job) -> list[str]:
    """Let go of the parts of one that has ended without a result; return their files' names."""
    if job.status in LIVE or not job.parts:
        return []
    names, job.parts = [part["location"] for part in job.parts], None
    session.flush()
    return names


def referred(session: Session, names: Collection[str]) -> set[str]:
    """Return those of the storage's names that a batch prediction refers to."""
    owners = {name: match["job"] for name in names if (match := FILE.fullmatch(name))}
    found = session.scalars(select(Job).where(Job.id.in_(set(owners.values()))))
    kept = {name for job in found if job.status in LIVE or job.result for name in files(job)}
    return kept & set(names)
