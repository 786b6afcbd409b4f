"""The life of one job in a worker: claim, load, train, record, finish. No Celery in here."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from app import logs
from app.config import Settings
from app.store import checkpoints, datasets, jobs, trained_models
from app.store.blobs import Storage
from app.store.database import Database
from app.store.errors import CorruptArtifactError, LostClaimError
from app.store.jobs import Claim, Signal
from engine.checkpoint import dump_model
from engine.data.formats import read_table
from engine.data.table import InputColumn, Table
from engine.errors import CheckpointError, DivergedError, EngineError
from engine.fitting import Fitting, fit
from engine.spec import ResolvedSpec, ValidationDataset
from engine.training import Progress, StopReason

log = logging.getLogger(__name__)

DIVERGED_ADVICE = (
    "try a learning rate ten times smaller, or look for outliers in the target; "
    "the curve up to there is kept"
)
MEMORY_ADVICE = "use a smaller network or batch, or fewer rows"
DATASET_ADVICE = "upload it again, and submit the job with it"
CHECKPOINT_ADVICE = "the saved state cannot be gone on from; submit the job again"


def worker_name() -> str:
    """Name this process for the lease, so that an operator can find it."""
    return f"{socket.gethostname()}:{os.getpid()}"


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

    def run(self, job_id: str) -> None:
        """Run a job unless another worker has it; a message that comes twice does nothing."""
        with logs.bound(job_id=job_id):
            try:
                self._run(job_id)
            except LostClaimError:
                log.warning("another worker has the job; leaving it")
            except (OperationalError, PoolTimeoutError):
                log.exception("the database does not answer; the job waits, or its lease runs out")

    def _run(self, job_id: str) -> None:
        if self.stopping():
            log.info("asked to end; another worker will take it")
            return
        with self.database.writing() as session:
            claim = jobs.claim(session, job_id, worker_name(), self.settings.lease_seconds)
        if claim is None:
            log.info("nothing to claim")
            return
        with logs.bound(traceparent=claim.traceparent):
            log.info("claimed", extra={"attempt": claim.attempt})
            Attempt(self, claim).run()


class Attempt:
    """One attempt at one job.

    Parameters
    ----------
    runner : Runner
    claim : Claim
    """

    def __init__(self, runner: Runner, claim: Claim) -> None:
        self._settings, self._database = runner.settings, runner.database
        self._storage, self._stopping = runner.storage, runner.stopping
        self._claim = claim
        self._points: list[dict[str, Any]] = []
        self._beat_at = self._checkpoint_at = time.monotonic()

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
        OperationalError or TimeoutError of SQLAlchemy
            The database does not answer.
        """
        try:
            self._train()
        except (LostClaimError, OperationalError, PoolTimeoutError):
            raise
        except DivergedError as error:
            self._fail("diverged", f"{error}; {DIVERGED_ADVICE}")
        except (CheckpointError, CorruptArtifactError) as error:
            self._fail("checkpoint_damaged", f"{error}; {CHECKPOINT_ADVICE}")
        except EngineError as error:
            self._fail("invalid_data", str(error))
        except FileNotFoundError:
            self._fail("dataset_lost", f"the dataset's file is gone; {DATASET_ADVICE}")
        except MemoryError:
            self._fail("out_of_memory", f"the worker's memory is too small; {MEMORY_ADVICE}")
        except Exception:
            log.exception("job failed")
            self._fail("internal", "the worker failed; its log says more under the job id")

    def _fail(self, code: str, detail: str) -> None:
        """End the job, with the curve up to there."""
        log.warning("failed: %s", detail, extra={"code": code})
        with self._database.writing() as session:
            jobs.record_points(session, self._claim, self._points)
            jobs.fail(session, self._claim, code, detail)

    def _train(self) -> None:
        """Train to the end, or until told to stop."""
        fitting, stopped = self._load(), None
        for progress in fitting.run():
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
        with self._database.reading() as session:
            saved = checkpoints.load(session, self._claim.job_id)
        fitting = fit(table, self._spec, validation, saved)
        with self._database.writing() as session:
            jobs.truncate_curve(session, self._claim, fitting.epoch)
        return fitting

    def _table(self, dataset_id: str) -> Table:
        with self._database.reading() as session:
            dataset = datasets.get(session, self._claim.owner, dataset_id)
        with self._storage.local(dataset.location) as file:
            return read_table(file, self._spec.columns)

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
        due = now - self._checkpoint_at >= self._settings.checkpoint_seconds
        with self._database.writing() as session:
            signal = jobs.heartbeat(
                session,
                self._claim,
                self._settings.lease_seconds,
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
        self._points.clear()
        return signal

    def _save(self, session: Session, fitting: Fitting) -> None:
        checkpoints.save(session, self._claim, fitting.save(), fitting.epoch, fitting.step)
        self._checkpoint_at = time.monotonic()

    def _finish(self, fitting: Fitting, stopped: StopReason | None) -> None:
        """Keep the best network as a model, and end the job, in one transaction."""
        model, metrics = fitting.model(), self._metrics_of(fitting.best_epoch)
        data = dump_model(model)
        with self._database.writing() as session:
            model_id = trained_models.add(
                session,
                owner=self._claim.owner,
                job_id=self._claim.job_id,
                task=self._spec.task,
                inputs=[_input(column) for column in model.inputs],
                outputs=list(model.outputs),
                classes=list(model.classes) if model.classes is not None else None,
                metrics=metrics,
                parameters=model.network.parameters.size,
                data=data,
            )
            jobs.succeed(session, self._claim, model_id, metrics, stopped)
        log.info("succeeded", extra={"model": model_id, "metrics": metrics})

    def _metrics_of(self, epoch: int) -> dict[str, float]:
        """Return what was measured after the epoch whose weights are kept."""
        with self._database.reading() as session:
            point = next(p for p in jobs.curve(session, self._claim.job_id, epoch - 1))
            losses = {"train_loss": point.train_loss, "validation_loss": point.validation_loss}
            measured = {**losses, **point.metrics, "best_epoch": float(epoch)}
        return {name: value for name, value in measured.items() if value is not None}

    def _leave(self, signal: Signal, fitting: Fitting) -> None:
        """Stop before the end: cancelled, or put aside with all that is needed to go on."""
        with self._database.writing() as session:
            if signal is Signal.CANCEL:
                jobs.finish_cancelled(session, self._claim)
            else:
                jobs.record_points(session, self._claim, self._points)
                self._save(session, fitting)
                jobs.requeue(session, self._claim)
        log.info("cancelled" if signal is Signal.CANCEL else "put back into the queue")


def _metrics(points: list[dict[str, Any]]) -> dict[str, float] | None:
    """Return the newest figures for the job's resource; None leaves them as they are."""
    if not points:
        return None
    newest = points[-1]
    losses = {name: newest[name] for name in ("train_loss", "validation_loss")}
    measured = {**losses, **newest["metrics"]}
    return {name: value for name, value in measured.items() if value is not None}


def _input(column: InputColumn) -> dict[str, Any]:
    described: dict[str, Any] = {"name": column.name, "type": column.type}
    if column.type == "category":
        described["levels"] = list(column.levels)
    if column.shape:
        described["shape"] = list(column.shape)
    return described
