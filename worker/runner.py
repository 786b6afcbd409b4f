"""Jobs in a worker: claim the one whose turn it is, and work on it. No Celery in here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from app import logs
from app.config import Settings
from app.store import jobs
from app.store.blobs import Storage
from app.store.database import UNAVAILABLE, Database
from app.store.errors import LostClaimError
from app.store.jobs import Claim
from app.store.lifecycle import JobKind
from app.store.quotas import Quotas
from worker.attempt import Attempt, Surroundings
from worker.lease import Lease, worker_name
from worker.prediction import Prediction
from worker.training import Training

log = logging.getLogger(__name__)

ATTEMPTS: dict[JobKind, type[Attempt]] = {
    JobKind.TRAINING: Training,
    JobKind.PREDICTION: Prediction,
}


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

    @cached_property
    def _surroundings(self) -> Surroundings:
        return Surroundings(self.settings, self.quotas, self.database, self.storage, self.stopping)

    def _run(self, claim: Claim) -> None:
        with logs.bound(job_id=claim.job_id, traceparent=claim.traceparent):
            log.info("claimed", extra={"attempt": claim.attempt})
            try:
                with Lease(self.database, claim, self.settings) as lease:
                    ATTEMPTS[claim.kind](self._surroundings, claim, lease).run()
            except LostClaimError:
                log.warning("another worker has the job; leaving it")
