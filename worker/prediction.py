"""One attempt at a batch prediction: every row of a dataset through a model, part by part."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from sqlalchemy.orm import Session

from app.store import artifacts, datasets, jobs, predictions, trained_models, uploads
from app.store.errors import LostClaimError, NotFoundError
from app.store.jobs import Claim, Signal
from app.store.seals import sealed
from app.store.tables import new_id
from engine.checkpoint import load_model
from engine.data.formats.written import TableWriter, WrittenFormat
from engine.model import Model
from engine.scoring import Decision, answers
from worker.attempt import Attempt, Surroundings
from worker.lease import Lease

log = logging.getLogger(__name__)

Answers = Iterator[tuple[int, dict[str, NDArray[Any]]]]

MODEL_ADVICE = "submit it again with another model"


class Prediction(Attempt):
    """One attempt at one batch prediction.

    What is predicted goes into an Arrow file, a part, which is stored as often as a training is
    saved; another attempt goes on behind the parts that there are. In the end they become one
    file of the format that was asked for. Parameters are those of `Attempt`.
    """

    def __init__(self, surroundings: Surroundings, claim: Claim, lease: Lease) -> None:
        super().__init__(surroundings, claim, lease)
        self._parts = list(claim.parts)
        self._stored = self._done = self._skipped = sum(part["rows"] for part in self._parts)
        self._began = time.monotonic()

    def _work(self) -> None:
        asked = self._claim.spec
        model = self._model(asked["model"])
        decision = Decision(asked["probabilities"], asked["top_k"], asked["threshold"])
        dataset = self._read(
            lambda session: datasets.get(session, self._claim.owner, self._claim.dataset_id)
        )
        with (
            uploads.folder(self._scratch()) as folder,
            self._storage.local(dataset.location, check=True) as file,
        ):
            rows = answers(model, file, decision, self._done)
            while self._done < dataset.rows:
                signal = self._predict_part(rows, dataset.rows, folder / "part.arrow")
                if signal is not Signal.GO or self._stopping():
                    self._leave(signal)
                    return
            self._finish(folder / f"result.{asked['format']}", asked["format"])

    def _scratch(self) -> Path:
        folder = self._settings.uploads_folder
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _model(self, model_id: str) -> Model:
        def read(session: Session) -> bytes:
            row = trained_models.get(session, self._claim.owner, model_id)
            return artifacts.read(session, row.artifact_id)

        return load_model(self._read(read))

    def _predict_part(self, rows: Answers, total: int, path: Path) -> Signal:
        """Predict until a part is to be stored, and store it; return what is asked meanwhile."""
        signal = Signal.GO
        with TableWriter(path, "arrow") as part:
            for self._done, columns in rows:
                part.write(columns)
                self._lease.progress()
                signal = self._report(total)
                if signal is not Signal.GO or self._is_part_due() or self._stopping():
                    break
        if signal is not Signal.CANCEL and self._done > self._stored:
            self._store_part(path)
        return signal

    def _report(self, total: int) -> Signal:
        """Write how far it is and hear what is asked, at most once a heartbeat."""
        now = time.monotonic()
        if now - self._beat_at < self._settings.heartbeat_seconds:
            return Signal.GO
        self._beat_at = now
        rate = (self._done - self._skipped) / max(now - self._began, 1e-9)

        def write(session: Session) -> Signal:
            return jobs.heartbeat(
                session,
                self._claim,
                self._settings.lease_seconds,
                quotas=self._quotas,
                epoch=self._done,
                fraction=self._done / total,
                eta_seconds=(total - self._done) / rate,
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

    def _finish(self, path: Path, file_format: WrittenFormat) -> None:
        """Make one file of the parts, and end."""
        with TableWriter(path, file_format) as result:
            for part in self._parts:
                with self._storage.local(part["location"], check=True) as file:
                    for _ in result.append(file):
                        self._lease.progress()
        location = sealed(new_id(f"{self._claim.job_id}_result"), path)
        self._storage.put(path, location)
        made = {"location": location, "bytes": path.stat().st_size, "rows": self._done}
        try:
            self._write(lambda session: predictions.succeed(session, self._claim, made))
        except LostClaimError:
            self._storage.delete(location)
            raise
        self._delete_parts()
        log.info("succeeded", extra={"rows": self._done})

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

    def _fail(self, code: str, detail: str) -> None:
        super()._fail(code, detail)
        self._delete_parts()

    def _record_rest(self, session: Session) -> None:
        predictions.keep_parts(session, self._claim, [])
