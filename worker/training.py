"""One attempt at a training: load, train, record, finish."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property
from typing import Any

from sqlalchemy.orm import Session

from app.store import checkpoints, jobs, names, trained_models
from app.store.errors import CorruptArtifactError, LostClaimError
from app.store.jobs import Claim, Signal
from engine.checkpoint import dump_model
from engine.data.formats.stored import StoredRows, read_table
from engine.data.table import InputColumn
from engine.errors import CheckpointError, DivergedError, NoRoomError, UnsettledError
from engine.fitting import Fitting, fit, fit_from_disk
from engine.model import Model
from engine.spec import ResolvedSpec, ValidationDataset
from engine.training import Progress, StopReason
from worker.attempt import Attempt, Surroundings
from worker.fingerprint import fingerprint
from worker.lease import Lease

log = logging.getLogger(__name__)

DIVERGED_ADVICE = (
    "try a learning rate ten times smaller, or look for outliers in the target; "
    "the curve up to there is kept"
)
DISK_ADVICE = "submit it again once the worker has more, or use fewer rows or features"
UNSETTLED_ADVICE = (
    "what does not settle teaches nothing; try a learning rate ten times smaller, more "
    "`max_iterations`, also with a `damping` of 0.9, or a larger `tolerance`; "
    "the curve up to there is kept"
)
CHECKPOINT_ADVICE = "the saved state cannot be gone on from; submit the job again"
TIME_ADVICE = "use fewer epochs, a smaller network, or `training.stop.max_seconds`"

WRITING_SHARE = 0.05
"""The most of a training's time that its checkpoints take, by leaving some out."""


class OutOfTimeError(Exception):
    """The job has trained for as long as one may."""


class Training(Attempt):
    """One attempt at one training.

    Parameters are those of `Attempt`.
    """

    def __init__(self, surroundings: Surroundings, claim: Claim, lease: Lease) -> None:
        super().__init__(surroundings, claim, lease)
        self._points: list[dict[str, Any]] = []
        self._fingerprints: list[dict[str, Any]] = []
        self._checkpoint_epoch, self._writing_seconds = 0, 0.0

    @cached_property
    def _spec(self) -> ResolvedSpec:
        spec = {name: value for name, value in self._claim.spec.items() if name != "dataset"}
        return ResolvedSpec.model_validate(spec)

    def _failure(self, error: Exception) -> tuple[str, str]:
        match error:
            case DivergedError():
                return "diverged", f"{error}; {DIVERGED_ADVICE}"
            case UnsettledError():
                return "unsettled", f"{error}; {UNSETTLED_ADVICE}"
            case CheckpointError() | CorruptArtifactError():
                return "checkpoint_damaged", f"{error}; {CHECKPOINT_ADVICE}"
            case NoRoomError():
                return "out_of_disk", f"{error}; {DISK_ADVICE}"
            case OutOfTimeError():
                limit = f"a job may train for {self._settings.job_seconds:g} seconds"
                return "out_of_time", f"{limit}; {TIME_ADVICE}; the curve up to there is kept"
        return super()._failure(error)

    def _record_rest(self, session: Session) -> None:
        jobs.record_points(session, self._claim, self._points)

    def _work(self) -> None:
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
        saved, led_here = self._read(lambda session: checkpoints.load(session, self._claim.job_id))
        fitting = self._fit(saved)
        mine = fingerprint()
        self._fingerprints = led_here if led_here[-1:] == [mine] else [*led_here, mine]
        self._checkpoint_epoch = fitting.epoch

        def begin(session: Session) -> None:
            jobs.truncate_curve(session, self._claim, fitting.epoch)
            jobs.begin(session, self._claim, self._fingerprints, fitting.prepared.notes)

        self._write(begin)
        return fitting

    def _fit(self, saved: bytes | None) -> Fitting:
        """Prepare to train, with the rows where the spec wants them."""
        spec = self._spec
        with ExitStack() as files:
            path, other = files.enter_context(self._file(self._claim.dataset_id)), None
            if isinstance(spec.validation, ValidationDataset):
                other = files.enter_context(self._file(spec.validation.dataset))
            if spec.training.rows == "disk":
                validation = None if other is None else StoredRows(other)
                scratch = self._settings.scratch_folder
                return fit_from_disk(StoredRows(path), spec, scratch, validation, saved)
            table = read_table(path, spec.column_names)
            beside = None if other is None else read_table(other, spec.column_names)
            return fit(table, spec, beside, saved)

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
        model = fitting.model()
        outcome = fitting.outcome(model, self._metrics_of(fitting.best_epoch), self._lease.progress)
        metrics, data = outcome.metrics, dump_model(model)

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
            publication = self._publish(session, model_id)
            if outcome.notes:
                jobs.write(session, self._claim, notes=list(outcome.notes))
            jobs.succeed(session, self._claim, model_id, metrics, stopped, publication)
            return model_id

        log.info("succeeded", extra={"model": self._write(write), "metrics": metrics})

    def _publish(self, session: Session, model_id: str) -> dict[str, Any] | None:
        """Give the model the name that its job asks for, if it may have it."""
        asked, claim = self._claim.publish, self._claim
        if asked is None:
            return None
        return asdict(names.publish(session, claim.owner, model_id, claim.job_id, **asked))

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
