"""The accounts of a storm: a history that the database keeps, and what must hold at the end."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app import prune
from app.config import Settings
from app.store.blobs import Storage
from app.store.database import UNAVAILABLE, Database, database_clock
from app.store.lifecycle import LIVE, MOVES, TERMINAL, JobStatus
from app.store.tables import (
    Artifact,
    Checkpoint,
    CurvePoint,
    Dataset,
    IdempotencyKey,
    Job,
    TrainedModel,
)
from tests.e2e.storm.fleet import Fleet
from tests.e2e.storm.ledger import Entry, Ledger

EXPLAINED = {"worker_lost", "worker_crashed"}
"""What a job may fail of whose workers were killed too often."""

LOOK_SECONDS = 0.2
LATE_SECONDS = 60.0
"""How long a lease may have run out before a job is taken from its worker: there may be nobody to
do it while all workers are down or frozen, and after the database was away another lease has to
pass."""

WATCHED = ("status", "attempt", "epoch", "cancel_requested", "pause_requested")
NOTED = ("status", "attempt", "epoch", "failures", "cancel_requested", "pause_requested")


@dataclass(frozen=True)
class Step:
    """One change of a job, as the database saw it.

    Parameters
    ----------
    job : str
    former, status : JobStatus
    attempt, epoch, failures : int
    cancel_requested, pause_requested : bool
    lease_owner : str or None
    at : float
        In seconds since 1970.
    """

    job: str
    former: JobStatus
    status: JobStatus
    attempt: int
    epoch: int
    failures: int
    cancel_requested: bool
    pause_requested: bool
    lease_owner: str | None
    at: float

    @property
    def is_claim(self) -> bool:
        """Whether a worker took the job with it."""
        return self.status is JobStatus.RUNNING is not self.former

    def __str__(self) -> str:
        asked = [name for name in ("cancel", "pause") if getattr(self, f"{name}_requested")]
        return (
            f"{self.at:.3f} {self.former} -> {self.status}, attempt {self.attempt}, "
            f"epoch {self.epoch}, failures {self.failures}, {self.lease_owner or 'no lease'}"
            + (f", asked to {' and '.join(asked)}" if asked else "")
        )


def keep_history(database: Database) -> None:
    """Have the database write down every change of a job from now on, whoever makes it."""
    columns = ("job_id", "former", *NOTED, "lease_owner", "at")
    clock = "(julianday('now') - 2440587.5) * 86400.0"
    if not database.is_sqlite:
        clock = "EXTRACT(EPOCH FROM clock_timestamp())"
    values = ("NEW.id", "OLD.status", *(f"NEW.{name}" for name in NOTED), "NEW.lease_owner", clock)
    note = f"INSERT INTO storm_history ({', '.join(columns)}) VALUES ({', '.join(values)});"  # noqa: S608 - our own names
    changed = " OR ".join(f"OLD.{name} <> NEW.{name}" for name in WATCHED)
    when = f"AFTER UPDATE ON jobs FOR EACH ROW WHEN ({changed})"
    number = "BIGSERIAL" if not database.is_sqlite else "INTEGER"
    statements = [
        f"CREATE TABLE storm_history (number {number} PRIMARY KEY, job_id TEXT, former TEXT, "
        "status TEXT, attempt INTEGER, epoch INTEGER, failures INTEGER, cancel_requested BOOLEAN, "
        "pause_requested BOOLEAN, lease_owner TEXT, at DOUBLE PRECISION)"
    ]
    if database.is_sqlite:
        statements += [f"CREATE TRIGGER storm_note {when} BEGIN {note} END"]
    else:
        statements += [
            "CREATE FUNCTION storm_note() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN {note} RETURN NULL; END $$",
            f"CREATE TRIGGER storm_note {when} EXECUTE FUNCTION storm_note()",
        ]
    with database.writing() as session:
        for statement in statements:
            session.connection().exec_driver_sql(statement)


def history(session: Session) -> dict[str, list[Step]]:
    """Return every change of every job, in order."""
    columns = ", ".join(("job_id", "former", *NOTED, "lease_owner", "at"))
    rows = session.execute(text(f"SELECT {columns} FROM storm_history ORDER BY number"))  # noqa: S608 - our own names
    steps: dict[str, list[Step]] = defaultdict(list)
    for job, former, status, *rest in rows:
        steps[job].append(Step(job, JobStatus(former), JobStatus(status), *rest))
    return steps


def check_history(steps: Sequence[Step], ledger: Ledger) -> None:
    """See that one job's changes are those that its life allows."""
    before = None
    has_moved_on = False
    for step in steps:
        for what in _broken_by(step, before):
            ledger.blame(f"{what} at {step.at:.3f}", step.job)
        goes_back = before is not None and step.epoch < before.epoch
        if goes_back and has_moved_on:
            ledger.blame(f"went back to epoch {step.epoch} at {step.at:.3f}", step.job)
        moves_on = before is not None and step.epoch != before.epoch
        has_moved_on = not step.is_claim and (has_moved_on or moves_on)
        before = step


def _broken_by(step: Step, before: Step | None) -> Iterator[str]:
    former, attempt = (before.status, before.attempt) if before else (JobStatus.QUEUED, 0)
    if step.former is not former:
        yield f"was {former} and then {step.former}"
    if step.status is not step.former and step.status not in MOVES[step.former]:
        yield f"moved from {step.former} to {step.status}"
    if (step.lease_owner is not None) is not (step.status is JobStatus.RUNNING):
        yield f"{step.status} with the lease of {step.lease_owner}"
    if step.attempt != attempt + step.is_claim:
        yield f"attempt {attempt} became {step.attempt}"


class Monitor(threading.Thread):
    """Looks at the database during the storm: no curve has a gap, no lease is long over.

    Parameters
    ----------
    database : Database
    ledger : Ledger
    """

    def __init__(self, database: Database, ledger: Ledger) -> None:
        super().__init__(name="monitor", daemon=True)
        self._database, self._ledger = database, ledger
        self._over = threading.Event()
        self.looks, self.latest_seconds = 0, 0.0

    def stop(self) -> None:
        """End after the next look."""
        self._over.set()

    def run(self) -> None:
        """Look until told to stop; a database that is down is looked at later."""
        while not self._over.wait(LOOK_SECONDS):
            with suppress(*UNAVAILABLE), self._database.reading() as session:
                self._look_at_curves(session)
                self._look_at_leases(session)
                self.looks += 1

    def _look_at_curves(self, session: Session) -> None:
        whole = (func.count() == func.max(CurvePoint.epoch), func.min(CurvePoint.epoch) == 1)
        broken = (
            select(CurvePoint.job_id).group_by(CurvePoint.job_id).having(~(whole[0] & whole[1]))
        )
        for job in session.scalars(broken):
            self._ledger.blame("a curve with a gap", job)

    def _look_at_leases(self, session: Session) -> None:
        late = database_clock() - Job.lease_expires
        for job, seconds in session.execute(
            select(Job.id, late).where(Job.status == JobStatus.RUNNING)
        ):
            self.latest_seconds = max(self.latest_seconds, seconds)
            if seconds > LATE_SECONDS:
                self._ledger.blame(f"running with a lease over for {LATE_SECONDS:g} s", job)


def moving(session: Session) -> Counter[str]:
    """Count the jobs that wait or run."""
    statuses = LIVE - {JobStatus.PAUSED}
    counted = select(Job.status, func.count()).where(Job.status.in_(statuses)).group_by(Job.status)
    return Counter({str(status): number for status, number in session.execute(counted)})


def check_jobs(session: Session, ledger: Ledger) -> Counter[str]:
    """Find every job that was submitted; count them by their ends."""
    by_name: dict[str | None, list[Job]] = defaultdict(list)
    for job in session.scalars(select(Job)):
        by_name[job.name].append(job)
    ends: Counter[str] = Counter()
    for entry in ledger.entries():
        found = by_name.pop(entry.key, [])
        for other in found[1:]:
            ledger.blame(f"is there beside {found[0].id} under one key", other.id)
        ends[_end_of(entry, found[0] if found else None, ledger)] += 1
    for name, unknown in by_name.items():
        ledger.blame(f"nobody submitted the job {name!r}", unknown[0].id)
    return ends


def _end_of(entry: Entry, job: Job | None, ledger: Ledger) -> str:
    """Return how a job ended, which has to fit with what its clients asked and saw."""
    if job is None:
        if entry.job is not None and not entry.delete_asked:
            ledger.blame("was accepted and is lost", entry.job)
        return f"{entry.end}, deleted" if entry.delete_asked else "cut off and not accepted"
    if entry.job not in (None, job.id):
        ledger.blame(f"was answered, and {job.id} is there", entry.job)
    entry.job = job.id
    if job.status not in TERMINAL:
        ledger.blame(f"is {job.status} in the end", job.id)
    if entry.end not in (None, job.status):
        ledger.blame(f"was {entry.end} and is {job.status}", job.id)
    if job.status is JobStatus.CANCELLED and not entry.cancel_asked:
        ledger.blame("is cancelled and nobody asked for it", job.id)
    if job.error_code not in (None, *EXPLAINED):
        ledger.blame(f"failed: {job.error_code}: {job.error_detail}", job.id)
    return f"{job.status} / {job.error_code}" if job.error_code else str(job.status)


def check_paused(session: Session, ledger: Ledger) -> list[str]:
    """Return the jobs that are paused; each must have been asked to."""
    asked = {entry.key for entry in ledger.entries() if entry.pause_asked}
    paused = session.execute(select(Job.id, Job.name).where(Job.status == JobStatus.PAUSED)).all()
    for job, name in paused:
        if name not in asked:
            ledger.blame("is paused and nobody asked for it", job)
    return [job for job, _ in paused]


def check_rests(fleet: Fleet, database: Database, ledger: Ledger) -> str:
    """Prune, as an operator would once the rests are old enough; then nothing may be left over.

    The service has ended: a request whose client gave up may still come to its end.

    A key whose request was cut off may stay in flight: it can be taken again after a minute.

    Returns
    -------
    str
        What was pruned, and how many such keys there are.
    """
    with patch.dict("os.environ", fleet.environment), patch.object(prune, "ORPHAN_SECONDS", 0.0):
        settings = Settings()
        swept = list(prune.sweep(settings, database, None, models=False, dry_run=False))
        stored = {file.name for file in Storage(settings.resolved_storage_url).files()}
    with database.reading() as session:
        used = set(session.scalars(select(TrainedModel.artifact_id)))
        used |= set(session.scalars(select(Checkpoint.artifact_id)))
        if left := set(session.scalars(select(Artifact.id))) - used:
            ledger.blame(f"{len(left)} artifacts are neither a model's nor a checkpoint's")
        done = select(Checkpoint.job_id).join(Job).where(Job.status == JobStatus.SUCCEEDED)
        if left := session.scalars(done).all():
            ledger.blame(f"checkpoints of jobs that succeeded: {left}")
        if left := session.scalars(select(Job.id).where(Job.lease_owner.is_not(None))).all():
            ledger.blame(f"leases of jobs that ended: {left}")
        named = set(session.scalars(select(Dataset.location)))
        in_flight = select(func.count()).where(IdempotencyKey.status.is_(None))
        cut_off = session.scalar(in_flight)
    if stored != named:
        ledger.blame(f"files without a dataset: {stored - named}; without a file: {named - stored}")
    if left := list(settings.uploads_folder.glob("*")):
        ledger.blame(f"rests of uploads: {left}")
    pruned = ", ".join(f"{each.count} {each.name}" for each in swept if each.count) or "nothing"
    return f"{pruned}; {cut_off} idempotency keys still in flight"


def check_integrity(fleet: Fleet, ledger: Ledger) -> None:
    """Have SQLite look at every page of its file, once nobody uses it."""
    if fleet.postgres is not None:
        return
    with closing(sqlite3.connect(Path(fleet.home) / "chainrule.db")) as connection:
        for pragma in ("integrity_check", "foreign_key_check"):
            found = connection.execute(f"PRAGMA {pragma}").fetchall()
            if found not in ([("ok",)], []):
                ledger.blame(f"{pragma}: {found[:3]}")


def lines_about(logs: Path, job: str) -> list[str]:
    """Return what the logs say of a job."""
    lines = [line for file in sorted(logs.glob("*.err")) for line in file.read_text().splitlines()]
    return sorted(
        (line for line in lines if job in line and '"method":"GET"' not in line), key=_time
    )


def _time(line: str) -> str:
    found = re.search(r'"time": ?"([^"]+)"', line)
    return found[1] if found else ""
