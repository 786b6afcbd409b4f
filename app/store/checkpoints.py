"""Checkpoints: the newest state of a job's training, to go on from after a pause or a crash."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, insert
from sqlalchemy.orm import Session

from app.store import artifacts, jobs
from app.store.jobs import Claim
from app.store.tables import Checkpoint


def save(
    session: Session,
    claim: Claim,
    data: bytes | memoryview,
    epoch: int,
    step: int,
    fingerprints: list[dict[str, Any]],
) -> None:
    """Keep a state in place of the one before.

    Raises
    ------
    LostClaimError
        Another attempt has the job.
    """
    jobs.hold(session, claim)
    artifact_id = artifacts.write(session, claim.owner, data)
    former = session.scalar(
        delete(Checkpoint)
        .where(Checkpoint.job_id == claim.job_id)
        .returning(Checkpoint.artifact_id)
    )
    if former is not None:
        artifacts.remove(session, former)
    session.execute(
        insert(Checkpoint).values(
            job_id=claim.job_id,
            artifact_id=artifact_id,
            epoch=epoch,
            step=step,
            attempt=claim.attempt,
            fingerprints=fingerprints,
        )
    )


def load(session: Session, job_id: str) -> tuple[bytes | None, list[dict[str, Any]]]:
    """Return the newest state and what led to it; None when nothing was saved yet."""
    checkpoint = session.get(Checkpoint, job_id)
    if checkpoint is None:
        return None, []
    return artifacts.read(session, checkpoint.artifact_id), checkpoint.fingerprints
