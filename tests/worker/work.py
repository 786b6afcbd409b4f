"""Work for a runner, what happens beside it, and what came of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select, text

from app.store import artifacts, jobs
from app.store.blobs import Storage
from app.store.database import Database
from app.store.jobs import Retries
from app.store.seals import sealed
from app.store.tables import Base, Checkpoint, CurvePoint, Dataset, Job, TrainedModel
from engine.data.formats.ingestion import ingest
from engine.data.profiling import ColumnProfile
from engine.resolution import resolve
from engine.spec import PARAMETER_BUDGET, ResolvedSpec, TrainingSpec
from tests.app.store.rows import add_dataset, add_job

IRIS = Path(__file__).parents[2] / "examples" / "data" / "iris.csv"
SMALL = {"layers": [{"type": "dense", "units": 8}]}
EPOCHS = 12
HIDDEN = {"job_id", "seconds"}


def add_table(database: Database, storage: Storage, file: Path, scratch: Path) -> Dataset:
    """Add a CSV file as a dataset, as an upload does."""
    arrow = scratch / "table.arrow"
    table = ingest(file, "csv", arrow)
    location = sealed("table", arrow)
    storage.put(arrow, location)
    columns = [dataclasses.asdict(column) for column in table.columns]
    return add_dataset(database, rows=table.rows, columns=columns, location=location)


def resolved(dataset: Dataset, **spec: Any) -> ResolvedSpec:
    """Decide what a spec leaves open, as a submission does."""
    asked = {"target": "species", "network": SMALL, "training": {"epochs": EPOCHS}, **spec}
    columns = [ColumnProfile(**column) for column in dataset.columns]
    wanted = TrainingSpec.model_validate(asked)
    return resolve(wanted, columns, dataset.rows, PARAMETER_BUDGET, columns)


def queue(database: Database, dataset: Dataset, **spec: Any) -> str:
    """Queue a job of a few small epochs, unless asked for others; return its id."""
    decided = resolved(dataset, **spec)
    stored = {"dataset": dataset.id, **decided.model_dump(mode="json")}
    return add_job(database, dataset, spec=stored, epochs=decided.training.epochs).id


@dataclass
class Beside:
    """What happens beside a runner: acts at one of its reports, or at each, and may ask it to stop.

    It is the runner's question whether to stop, which comes before the claim
    and after every report that is not the last.
    """

    act: Callable[[], object]
    at: int | None = None
    report: int = -1

    def __call__(self) -> bool:
        self.report += 1
        due = self.report == self.at if self.at is not None else self.report > 0
        return due and bool(self.act())


class Killed(BaseException):
    """The process is gone: nothing that would run after this does."""


def kill() -> None:
    raise Killed


def expire(database: Database) -> None:
    """Let every lease run out."""
    with database.writing() as session:
        session.execute(text("UPDATE jobs SET lease_expires = 0 WHERE status = 'running'"))


def reap(database: Database, max_attempts: int = 3) -> None:
    with database.writing() as session:
        jobs.reap(session, Retries(max_attempts, 0))


def curve(database: Database, job: str) -> list[dict[str, Any]]:
    """Return a job's points without the seconds, which no two runs share."""
    names = [column.name for column in CurvePoint.__table__.columns if column.name not in HIDDEN]
    with database.reading() as session:
        points = jobs.curve(session, job)
        return [{name: getattr(point, name) for name in names} for point in points]


def weights(database: Database, job: Job) -> bytes:
    """Return the bytes of the model that a job left."""
    with database.reading() as session:
        model = session.get_one(TrainedModel, job.model_id)
        return artifacts.read(session, model.artifact_id)


def rows(database: Database) -> dict[str, list[Any]]:
    """Return all that is stored, to compare with later."""
    with database.reading() as session:
        return {
            table.name: [tuple(found) for found in session.execute(select(table))]
            for table in Base.metadata.sorted_tables
        }


def saved(database: Database, job: str) -> tuple[int, bytes]:
    """Return the epoch of a job's checkpoint and its bytes."""
    with database.reading() as session:
        checkpoint = session.get_one(Checkpoint, job)
        return checkpoint.epoch, artifacts.read(session, checkpoint.artifact_id)
