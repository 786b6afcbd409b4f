"""One attempt at a batch prediction: every row of a dataset through a model, part by part."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.store import artifacts, datasets, jobs, predictions, trained_models, uploads
from app.store.errors import LostClaimError, NotFoundError
from app.store.jobs import Signal
from app.store.seals import sealed
from app.store.tables import new_id
from engine.checkpoint import load_model
from engine.data.formats.written import TableWriter
from engine.model import Model
from engine.scoring import Decision, answers
from worker.attempt import Attempt

log = logging.getLogger(__name__)

MODEL_ADVICE = "submit it again with another model"


class Prediction(Attempt):
    """One attempt at one batch prediction.

    What is predicted goes into an Arrow file, a part, which is stored as often as a training is
    saved; another attempt goes on behind the parts that there are. In the end they become one
    file of the format that was asked for.
    """

    _folder: Path

    def _work(self) -> None:
        asked = self._claim.spec
        model = self._model(asked["model"])
        decision = Decision(asked["probabilities"], asked["top_k"], asked["threshold"])
        dataset = self._read(
            lambda session: datasets.get(session, self._claim.owner, self._claim.dataset_id)
        )
        self._parts, self._total = list(self._claim.parts), dataset.rows
        self._done = self._stored = sum(part["rows"] for part in self._parts)
        self._began, self._skipped = time.monotonic(), self._done
        with (
            uploads.folder(self._scratch()) as self._folder,
            self._storage.local(dataset.location, check=True) as file,
        ):
            rows = answers(model, file, decision, self._done)
            while self._done < self._total:
                signal = self._predict_part(rows)
                if signal is not Signal.GO or self._stopping():
                    self._leave(signal)
                    return
            self._finish(asked["format"])

    def _scratch(self) -> Path:
        folder = self._settings.uploads_folder
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _model(self, model_id: str) -> Model:
        def read(session: Session) -> bytes:
            row = trained_models.get(session, self._claim.owner, model_id)
            return artifacts.read(session, row.artifact_id)

        return load_model(self._read(read))

    def _predict_part(self, rows: Any) -> Signal:
        """Predict until a part is to be stored, and store it; return what is asked meanwhile."""
        signal = Signal.GO
        path = self._folder / "part.arrow"
        with TableWriter(path, "arrow") as part:
            for self._done, columns in rows:
                part.write(columns)
                self._lease.progress()
                signal = self._report(signal)
                if signal is not Signal.GO or self._is_part_due() or self._stopping():
                    break
        if signal is not Signal.CANCEL and self._done > self._stored:
            self._store_part(path)
        return signal

    def _report(self, signal: Signal) -> Signal:
        now = time.monotonic()
        if now - self._beat_at < self._settings.heartbeat_seconds and self._done < self._total:
            return signal
        self._beat_at = now
        rate = (self._done - self._skipped) / max(now - self._began, 1e-9)

        def write(session: Session) -> Signal:
            return jobs.heartbeat(
                session,
                self._claim,
                self._settings.lease_seconds,
                quotas=self._quotas,
                epoch=self._done,
                fraction=self._done / self._total,
                eta_seconds=(self._total - self._done) / rate,
                samples_per_second=rate,
            )

        heard = self._write(write)
        if heard is Signal.LOST:
            raise LostClaimError(self._claim.job_id, self._claim.attempt)
        return heard

    def _is_part_due(self) -> bool:
        return time.monotonic() - self._checkpoint_at >= self._settings.checkpoint_seconds

    def _store_part(self, path: Path) -> None:
        location = sealed(new_id(f"{self._claim.job_id}_part"), path)
        self._storage.put(path, location)
        parts = [*self._parts, {"location": location, "rows": self._done - self._stored}]
        try:
            self._write(lambda session: predictions.keep_parts(session, self._claim, parts))
        except LostClaimError:
            self._storage.delete(location)
            raise
        self._parts, self._stored = parts, self._done
        self._checkpoint_at = time.monotonic()

    def _finish(self, file_format: str) -> None:
        """Make one file of the parts, and end."""
        path = self._folder / f"result.{file_format}"
        with TableWriter(path, file_format) as result:  # type: ignore[arg-type]  # as validated
            for part in self._parts:
                with self._storage.local(part["location"], check=True) as file:
                    for _ in result.append(file):
                        self._lease.progress()
        location = sealed(new_id(f"{self._claim.job_id}_result"), path)
        self._storage.put(path, location)
        made = {"location": location, "bytes": path.stat().st_size, "rows": self._total}
        try:
            self._write(lambda session: predictions.succeed(session, self._claim, made))
        except LostClaimError:
            self._storage.delete(location)
            raise
        self._delete_parts()
        log.info("succeeded", extra={"rows": self._total})

    def _leave(self, signal: Signal) -> None:
        """Stop before the end: cancelled, or put aside behind the parts that there are."""
        if signal is Signal.CANCEL:
            self._write(lambda session: jobs.finish_cancelled(session, self._claim))
            self._delete_parts()
        else:
            self._write(lambda session: jobs.requeue(session, self._claim))
        log.info("cancelled" if signal is Signal.CANCEL else "put back into the queue")

    def _delete_parts(self) -> None:
        for part in self._parts:
            self._storage.delete(part["location"])

    def _failure(self, error: Exception) -> tuple[str, str]:
        if isinstance(error, NotFoundError):
            return "model_lost", f"{error}; {MODEL_ADVICE}"
        return super()._failure(error)
