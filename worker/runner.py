"""The life of one job in a worker: claim, load, train, record, finish. No Celery in here."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from app import logs, redaction
from app.config import Settings
from app.store import blobs, checkpoints, datasets, jobs, trained_models
from app.store.blobs import Storage
from app.store.database import UNAVAILABLE, Database
from app.store.errors import CorruptArtifactError, CorruptFileError, LostClaimError
from app.store.jobs import MEMORY_ADVICE, Claim, Signal
from app.store.quotas import Quotas
from engine.checkpoint import dump_model
from engine.data.formats.stored import read_table
from engine.data.table import InputColumn, Table
from engine.errors import CheckpointError, DivergedError, EngineError
from engine.fitting import Fitting, fit
from engine.model import Model
from engine.spec import ResolvedSpec, ValidationDataset
from engine.training import Progress, StopReason
from worker.fingerprint import fingerprint
from worker.lease import Lease, worker_name

log = logging.getLogger(__name__)

DIVERGED_ADVICE = (
    "try a learning rate ten times smaller, or look for outliers in the target; "
    "the curve up to there is kept"
)
DATASET_ADVICE = "upload it again, and submit the job with it"
CHECKPOINT_ADVICE = "the saved state cannot be gone on from; submit the job again"


TIME_ADVICE = "use fewer epochs, a smaller network, or `training.stop.max_seconds`"

AGAIN_SECONDS = 0.5
"""The pause before a database that does not answer is asked again."""

WRITING_SHARE = 0.05
"""The most of a training's time that its checkpoints take, by leaving some out."""


T = TypeVar("T")


class OutOfTimeError(Exception):
    """The job has trained for as long as one may."""


@dataclass
class Runner:
    """Runs jobs one after another.

    Parameters
    ----------
    settings : Settings
    database : Database
    storage : Storage
    stopping : callable
        Returns whether the process is asked to end; then the job goes back to the queue.
    """

    settings: Settings
    database: Database
    storage: Storage
    stopping: Callable[[], bool]

    def run(self) -> None:
        """Run the job whose turn it is, if there is one: a message too many does nothing.

        Where a job may have to wait for others of its owner, its message may have come while it
        had to. So whoever has ended a job takes another.
        """
        if self.stopping():
            log.info("asked to end; another worker will take the job")
            return
        try:
            while (claim := self._claim()) is not None:
                self._run(claim)
                if not self.quotas.hold_jobs_back or self.stopping():
                    break
        except UNAVAILABLE:
            log.exception("the database does not answer; a worker will find the job later")

    @cached_property
    def quotas(self) -> Quotas:
        """How much each owner may have."""
        return Quotas.of(self.settings)

    def _claim(self) -> Claim | None:
        with self.database.writing() as session:
            job_id = jobs.next_due(session, self.quotas)
            if job_id is None:
                return None
            return jobs.claim(session, job_id, worker_name(), self.settings.lease_seconds)

    def _run(self, claim: Claim) -> None:
        with logs.bound(job_id=claim.job_id, traceparent=claim.traceparent):
            log.info("claimed", extra={"attempt": claim.attempt})
            try:
                with Lease(self.database, claim, self.settings) as lease:
                    Attempt(self, claim, lease).run()
            except LostClaimError:
                log.warning("another worker has the job; leaving it")


class Attempt:
    """One attempt at one job.

    Parameters
    ----------
    runner : Runner
    claim : Claim
    lease : Lease
    """

    def __init__(self, runner: Runner, claim: Claim, lease: Lease) -> None:
        self._settings, self._database = runner.settings, runner.database
        self._quotas = runner.quotas
        self._storage, self._stopping = runner.storage, runner.stopping
        self._claim, self._lease = claim, lease
        self._points: list[dict[str, Any]] = []
        self._fingerprints: list[dict[str, Any]] = []
        self._beat_at = self._checkpoint_at = time.monotonic()
        self._checkpoint_epoch, self._writing_seconds = 0, 0.0

    @cached_property
    def _spec(self) -> ResolvedSpec:
        spec = {name: value for name, value in self._claim.spec.items() if name != "dataset"}
        return ResolvedSpec.model_validate(spec)

    def run(self) -> None:
        """Train, and record whatever comes of it.

        A ``MemoryError`` that leaves a task ends Celery's main process, and
        with it every worker that takes the job next; so it ends here.

        Raises
        ------
        LostClaimError
            The job ended or went to another attempt; nothing more was written.
        One of `UNAVAILABLE`
            The database does not answer, and the process is asked to end.
        """
        failure = None
        try:
            self._train()
        except (LostClaimError, *UNAVAILABLE):
            raise
        except Exception as error:  # noqa: BLE001 - `_failure` logs what it does not know
            failure = self._failure(error)
        # By now the error is gone, and with it the training's memory, which its frames had held.
        if failure is not None:
            self._fail(*failure)

    def _failure(self, error: Exception) -> tuple[str, str]:
        """Return the code of what went wrong, and what to say of it."""
        match error:
            case DivergedError():
                return "diverged", f"{error}; {DIVERGED_ADVICE}"
            case CheckpointError() | CorruptArtifactError():
                return "checkpoint_damaged", f"{error}; {CHECKPOINT_ADVICE}"
            case EngineError():
                return "invalid_data", str(error)
            case CorruptFileError():
                return "dataset_damaged", f"{error}; {DATASET_ADVICE}"
            case FileNotFoundError():
                return "dataset_lost", f"the dataset's file is gone; {DATASET_ADVICE}"
            case MemoryError():
                limit = f"more than {self._settings.job_memory_bytes:,} bytes of memory"
                return "out_of_memory", f"it would take {limit}; {MEMORY_ADVICE}"
            case OutOfTimeError():
                limit = f"a job may train for {self._settings.job_seconds:g} seconds"
                return "out_of_time", f"{limit}; {TIME_ADVICE}; the curve up to there is kept"
        log.error("job failed", exc_info=error)
        return "internal", "the worker failed; its log says more under the job id"

    def _fail(self, code: str, detail: str) -> None:
        """End the job, with the curve up to there."""
        detail = redaction.of(self._settings)(detail)
        log.warning("failed: %s", detail, extra={"code": code})

        def write(session: Session) -> None:
            jobs.record_points(session, self._claim, self._points)
            jobs.fail(session, self._claim, code, detail)

        self._write(write)

    def _read(self, act: Callable[[Session], T]) -> T:
        return self._insist(self._database.reading, act)

    def _write(self, act: Callable[[Session], T]) -> T:
        return self._insist(self._database.writing, act)

    def _insist(
        self, begin: Callable[[], AbstractContextManager[Session]], act: Callable[[Session], T]
    ) -> T:
        """Act in one transaction, and again until the database has answered.

        Nothing is computed meanwhile: a worker that cannot renew its lease
        stops by itself. Should another have the job by then, ``act`` says so.
        """
        while True:
            try:
                with begin() as session:
                    return act(session)
            except UNAVAILABLE as error:
                if self._stopping():
                    raise
                log.warning("the database does not answer; the training waits: %s", error)
                time.sleep(AGAIN_SECONDS)

    def _train(self) -> None:
        """Train to the end, or until told to stop."""
        fitting, stopped = self._load(), None
        for progress in fitting.run():
            self._lease.progress()
            signal, stopped = self._report(progress, fitting), progress.stopped
            if self._must_leave(signal, progress):
                self._leave(signal, fitting)
                return
        self._finish(fitting, stopped)

    def _must_leave(self, signal: Signal, progress: Progress) -> bool:
        """Whether to stop before the end; training that has just ended is not put aside."""
        if progress.stopped is not None:
            return signal is Signal.CANCEL
        return signal is not Signal.GO or self._stopping()

    def _load(self) -> Fitting:
        """Go on from the newest checkpoint, or start."""
        table, validation = self._table(self._claim.dataset_id), None
        if isinstance(self._spec.validation, ValidationDataset):
            validation = self._table(self._spec.validation.dataset)
        saved, led_here = self._read(lambda session: checkpoints.load(session, self._claim.job_id))
        fitting = fit(table, self._spec, validation, saved)
        mine = fingerprint()
        self._fingerprints = led_here if led_here[-1:] == [mine] else [*led_here, mine]
        self._checkpoint_epoch = fitting.epoch

        def begin(session: Session) -> None:
            jobs.truncate_curve(session, self._claim, fitting.epoch)
            jobs.begin(session, self._claim, self._fingerprints, fitting.prepared.notes)

        self._write(begin)
        return fitting

    def _table(self, dataset_id: str) -> Table:
        dataset = self._read(lambda session: datasets.get(session, self._claim.owner, dataset_id))
        with self._storage.local(dataset.location) as file:
            blobs.check(file, dataset.location)
            return read_table(file, self._spec.column_names)

    def _report(self, progress: Progress, fitting: Fitting) -> Signal:
        """Keep what is new and hear what is asked, at most once a heartbeat.

        The first epoch and the last report are written at once, so that a
        caller sees a job begin and no point is lost.
        """
        if progress.point is not None:
            self._points.append(asdict(progress.point))
        now = time.monotonic()
        due = now - self._beat_at >= self._settings.heartbeat_seconds
        first = progress.point is not None and progress.epoch == 1
        if not (due or first or progress.stopped):
            return Signal.GO
        self._beat_at = now
        return self._beat(progress, fitting, now)

    def _beat(self, progress: Progress, fitting: Fitting, now: float) -> Signal:
        """Write points, checkpoint and progress, and renew the lease, in one transaction."""
        due = self._is_checkpoint_due(fitting, now)

        def write(session: Session) -> Signal:
            signal = jobs.heartbeat(
                session,
                self._claim,
                self._settings.lease_seconds,
                quotas=self._quotas,
                epoch=progress.epoch,
                fraction=progress.fraction,
                eta_seconds=progress.eta_seconds,
                samples_per_second=progress.samples_per_second,
                metrics=_metrics(self._points),
            )
            if signal is Signal.LOST:
                raise LostClaimError(self._claim.job_id, self._claim.attempt)
            jobs.record_points(session, self._claim, self._points)
            if due or signal is Signal.CANCEL:
                self._save(session, fitting)
            return signal

        signal = self._write(write)
        self._points.clear()
        if fitting.seconds > self._settings.job_seconds and progress.stopped is None:
            raise OutOfTimeError
        return signal

    def _is_checkpoint_due(self, fitting: Fitting, now: float) -> bool:
        """Whether to save: as often as the caller or the settings say, but not all of the time."""
        claim, since = self._claim, now - self._checkpoint_at
        if since * WRITING_SHARE < self._writing_seconds:
            return False
        if claim.checkpoint_epochs is not None:
            return fitting.epoch - self._checkpoint_epoch >= claim.checkpoint_epochs
        return since >= (claim.checkpoint_seconds or self._settings.checkpoint_seconds)

    def _save(self, session: Session, fitting: Fitting) -> None:
        begin, claim = time.monotonic(), self._claim
        data = fitting.save()
        checkpoints.save(session, claim, data, fitting.epoch, fitting.step, self._fingerprints)
        self._checkpoint_at, self._checkpoint_epoch = time.monotonic(), fitting.epoch
        self._writing_seconds = self._checkpoint_at - begin

    def _finish(self, fitting: Fitting, stopped: StopReason | None) -> None:
        """Keep the best network as a model, and end the job, in one transaction."""
        model, metrics = fitting.model(), self._metrics_of(fitting.best_epoch)
        data = dump_model(model)

        def write(session: Session) -> str:
            jobs.hold(session, self._claim)
            model_id = trained_models.add(
                session,
                owner=self._claim.owner,
                job_id=self._claim.job_id,
                task=self._spec.task,
                inputs=_inputs(model),
                outputs=list(model.outputs),
                classes=list(model.classes) if model.classes is not None else None,
                sequence=model.sequence.model_dump() if model.sequence is not None else None,
                metrics=metrics,
                parameters=model.network.parameters.size,
                data=data,
            )
            jobs.succeed(session, self._claim, model_id, metrics, stopped)
            return model_id

        log.info("succeeded", extra={"model": self._write(write), "metrics": metrics})

    def _metrics_of(self, epoch: int) -> dict[str, float]:
        """Return what was measured after the epoch whose weights are kept."""
        point, *_ = self._read(lambda session: jobs.curve(session, self._claim.job_id, epoch - 1))
        losses = {"train_loss": point.train_loss, "validation_loss": point.validation_loss}
        measured = {**losses, **point.metrics, "best_epoch": float(epoch)}
        return {name: value for name, value in measured.items() if value is not None}

    def _leave(self, signal: Signal, fitting: Fitting) -> None:
        """Stop before the end: cancelled, or put aside with all that is needed to go on."""

        def write(session: Session) -> None:
            if signal is Signal.CANCEL:
                jobs.finish_cancelled(session, self._claim)
            else:
                jobs.record_points(session, self._claim, self._points)
                self._save(session, fitting)
                jobs.requeue(session, self._claim)

        self._write(write)
        log.info("cancelled" if signal is Signal.CANCEL else "put back into the queue")


def _metrics(points: list[dict[str, Any]]) -> dict[str, float] | None:
    """Return the newest figures for the job's resource; None leaves them as they are."""
    if not points:
        return None
    newest = points[-1]
    losses = {name: newest[name] for name in ("train_loss", "validation_loss")}
    measured = {**losses, **newest["metrics"]}
    return {name: value for name, value in measured.items() if value is not None}


def _inputs(model: Model) -> list[dict[str, Any]]:
    """Describe the columns that a model takes, and what becomes of each."""
    return [
        _input(column) | {"preprocessing": said}
        for column, said in zip(model.inputs, model.features.describe(), strict=True)
    ]


def _input(column: InputColumn) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": column.name,
        "type": column.type,
        "required": column.required,
    }
    if column.levels:
        described["levels"] = list(column.levels)
    if column.shape:
        described["shape"] = list(column.shape)
    return described
