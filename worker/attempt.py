"""One attempt at a job: whatever comes of it is recorded, and whatever is written is fenced."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlalchemy.orm import Session

from app import redaction
from app.config import Settings
from app.store import datasets, jobs
from app.store.blobs import Storage
from app.store.database import UNAVAILABLE, Database
from app.store.errors import CorruptFileError, LostClaimError
from app.store.jobs import MEMORY_ADVICE, Claim
from app.store.quotas import Quotas
from engine.errors import EngineError
from worker.lease import Lease

log = logging.getLogger(__name__)

DATASET_ADVICE = "upload it again, and submit the job with it"

AGAIN_SECONDS = 0.5
"""The pause before a database that does not answer is asked again."""

T = TypeVar("T")


@dataclass(frozen=True)
class Surroundings:
    """What every attempt of a process works with.

    Parameters
    ----------
    settings : Settings
    quotas : Quotas
    database : Database
    storage : Storage
    stopping : callable
        Returns whether the process is asked to end; then the job goes back to the queue.
    """

    settings: Settings
    quotas: Quotas
    database: Database
    storage: Storage
    stopping: Callable[[], bool]


class Attempt(ABC):
    """One attempt at one job.

    Parameters
    ----------
    surroundings : Surroundings
    claim : Claim
    lease : Lease
    """

    def __init__(self, surroundings: Surroundings, claim: Claim, lease: Lease) -> None:
        self._settings, self._database = surroundings.settings, surroundings.database
        self._quotas = surroundings.quotas
        self._storage, self._stopping = surroundings.storage, surroundings.stopping
        self._claim, self._lease = claim, lease
        self._beat_at = self._checkpoint_at = time.monotonic()

    def run(self) -> None:
        """Work, and record whatever comes of it.

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
            self._work()
        except (LostClaimError, *UNAVAILABLE):
            raise
        except Exception as error:  # noqa: BLE001 - `_failure` logs what it does not know
            failure = self._failure(error)
        # By now the error is gone, and with it the work's memory, which its frames had held.
        if failure is not None:
            self._fail(*failure)

    @abstractmethod
    def _work(self) -> None:
        """Work to the end, or until told to stop."""

    def _failure(self, error: Exception) -> tuple[str, str]:
        """Return the code of what went wrong, and what to say of it."""
        match error:
            case EngineError():
                return "invalid_data", str(error)
            case CorruptFileError():
                return "dataset_damaged", f"{error}; {DATASET_ADVICE}"
            case FileNotFoundError():
                return "dataset_lost", f"the dataset's file is gone; {DATASET_ADVICE}"
            case MemoryError():
                limit = f"more than {self._settings.job_memory_bytes:,} bytes of memory"
                return "out_of_memory", f"it would take {limit}; {MEMORY_ADVICE}"
        log.error("job failed", exc_info=error)
        return "internal", "the worker failed; its log says more under the job id"

    def _fail(self, code: str, detail: str) -> None:
        """End the job, with what there is of it."""
        detail = redaction.of(self._settings)(detail)
        log.warning("failed: %s", detail, extra={"code": code})

        def write(session: Session) -> None:
            self._record_rest(session)
            jobs.fail(session, self._claim, code, detail)

        self._write(write)

    @abstractmethod
    def _record_rest(self, session: Session) -> None:
        """Write what was not written yet of a job that fails."""

    @contextmanager
    def _file(self, dataset_id: str) -> Iterator[Path]:
        """Give the kept file of a dataset for a while, once it is found to be whole."""
        dataset = self._read(lambda session: datasets.get(session, self._claim.owner, dataset_id))
        with self._storage.local(dataset.location, check=True) as file:
            yield file

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
                log.warning("the database does not answer; the work waits: %s", error)
                time.sleep(AGAIN_SECONDS)
