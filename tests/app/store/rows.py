"""Rows to put, and ways to act on them at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.store import datasets, jobs, trained_models
from app.store.database import Database
from app.store.jobs import Claim
from app.store.lifecycle import JobStatus
from app.store.tables import Dataset, Job

OWNER = "ada"


def add_dataset(database: Database, owner: str = OWNER, **changes: Any) -> Dataset:
    described = {"name": "iris.csv", "format": "csv", "sha256": "00", "location": "00.arrow"}
    described["stored_bytes"] = 700
    with database.writing() as session:
        facts = {"rows": 3, "bytes": 99, "columns": [], **described, **changes}
        return datasets.add(session, owner=owner, **facts)


def add_job(database: Database, dataset: Dataset, **changes: Any) -> Job:
    described = {"spec": {"dataset": dataset.id}, "epochs": 5, "name": None, "metadata": None}
    with database.writing() as session:
        facts = {**described, **changes}
        return jobs.submit(session, owner=dataset.owner, dataset_id=dataset.id, **facts)


def take(
    database: Database, job: Job, lease_seconds: float = 30, worker: str = "worker:1"
) -> Claim:
    with database.writing() as session:
        claim = jobs.claim(session, job.id, worker, lease_seconds)
    assert claim is not None
    return claim


def add_model(session: Session, claim: Claim) -> str:
    return trained_models.add(
        session,
        owner=claim.owner,
        job_id=claim.job_id,
        task="classification",
        inputs=[],
        outputs=["species"],
        classes=["setosa"],
        metrics={},
        parameters=1,
        data=b"weights",
    )


def succeed(database: Database, claim: Claim) -> str:
    """End a job with a model; return the model's id."""
    with database.writing() as session:
        model_id = add_model(session, claim)
        jobs.succeed(session, claim, model_id, {"train_loss": 0.1}, "epochs")
    return model_id


def look(database: Database, job_id: str) -> Job:
    with database.reading() as session:
        return jobs.get(session, OWNER, job_id)


def force(database: Database, job: Job, status: JobStatus) -> None:
    """Set a status past all rules, to begin from there."""
    with database.writing() as session:
        session.execute(update(Job).where(Job.id == job.id).values(status=status))


def race(runners: int, act: Callable[[int], Any]) -> list[Any]:
    """Run ``act`` in threads that start together; return what each returned or raised."""
    start = threading.Barrier(runners)

    def run(number: int) -> Any:
        start.wait()
        try:
            return act(number)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            return error

    with ThreadPoolExecutor(runners) as pool:
        return list(pool.map(run, range(runners)))
