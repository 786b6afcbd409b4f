"""The reconciler: rings for jobs that nobody looked at, and takes over from workers that died.

Every worker process has one. Beside a broker it heals what the broker lost;
in the embedded mode, where there is no broker, it is the only one who rings,
looks more often, and is woken by every commit to the SQLite file.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from sqlalchemy.orm import Session

from app.config import Settings
from app.dispatch import ALIVE
from app.store import jobs
from app.store.database import Database
from app.store.lifecycle import JobStatus
from app.store.quotas import Quotas
from worker.lease import host_name, retries

log = logging.getLogger(__name__)

AT_ONCE = 100
LOOK_SECONDS = 0.02
"""How often the embedded mode asks whether anything was committed; asking takes microseconds."""

POLL_SECONDS = 0.1
"""The same for a database that cannot tell whether anything was committed."""

RING_AGAIN_REAPS = 2
RING_AGAIN_BUSY_SECONDS = 600.0
"""A job that nobody claimed for so long is rung for again: soon, after so many looks for silent
workers, where the broker holds no message any more; rarely where it only has to wait for its
turn."""


SLOW_SECONDS = 2.0
"""A database that takes longer to say who works, and who is dead, was away."""


Answer = TypeVar("Answer")


class Reconciler(threading.Thread):
    """A thread that keeps the queue true to the database.

    Parameters
    ----------
    settings : Settings
    ring : callable
        Sends the doorbell's message for a job id.
    backlog : callable
        Counts the messages that no worker has taken yet.
    end : callable
        Ends a training process of this worker, by its number; does nothing to any other.
    embedded : bool
        Whether there is no broker, so that new jobs are looked for here.
    """

    def __init__(
        self,
        settings: Settings,
        ring: Callable[[str], None],
        backlog: Callable[[], int],
        end: Callable[[int], None],
        *,
        embedded: bool,
    ) -> None:
        super().__init__(name="reconciler", daemon=True)
        self._settings, self._embedded = settings, embedded
        self._ring, self._backlog, self._end = ring, backlog, end
        self._patience = 0.0 if embedded else self._ring_again_seconds()
        self._over = threading.Event()
        self._host, self._retries = host_name(), retries(settings)
        self._quotas = Quotas.of(settings)
        self._looked_at = time.monotonic()
        self._reap_from = self._looked_at

    def _ring_again_seconds(self) -> float:
        return RING_AGAIN_REAPS * self._settings.reap_seconds

    def stop(self) -> None:
        """Have the thread end soon."""
        self._over.set()

    def run(self) -> None:
        """Reap and ring until stopped.

        A database or a broker that does not answer is asked again later; each
        client library has its own family of errors, and none may end the
        thread, for then what the broker loses stays lost.
        """
        database = Database(self._settings.resolved_database_url)
        try:
            while not self._over.is_set():
                try:
                    self.look(database)
                    self._ring_until(database, time.monotonic() + self._settings.reap_seconds)
                except Exception:
                    log.exception("the database or the broker does not answer; trying again")
                    self._over.wait(self._settings.reap_seconds)
        finally:
            database.dispose()

    def look(self, database: Database) -> None:
        """Bury workers that are dead and reap leases that ran out.

        After a time in which the database did not answer, leases have run out
        that nobody could renew; their workers get the time to do it.
        """
        begin = time.monotonic()
        self.bury(database)
        now, lease = time.monotonic(), self._settings.lease_seconds
        if now - begin > SLOW_SECONDS or now - self._looked_at > self._unseen_seconds():
            log.warning("the database was away; leases may run on for %g s", lease)
            self._reap_from = now + lease
        self._looked_at = now
        if now >= self._reap_from:
            self.reap(database)

    def _unseen_seconds(self) -> float:
        """Return how long a pause between two looks is without anything wrong."""
        return self._settings.reap_seconds + self._settings.lease_seconds / 4

    def bury(self, database: Database) -> None:
        """Take over from training processes of this machine that are dead, without waiting."""
        with database.reading() as session:
            names = jobs.workers(session, self._host)
        for worker in names:
            if not _is_alive(int(worker.removeprefix(self._host))):
                with database.writing() as session:
                    self._say(
                        "the training process died", jobs.bury(session, worker, self._retries)
                    )

    def reap(self, database: Database) -> None:
        """Put jobs whose worker fell silent back into the queue, or fail them.

        A process of this worker that is frozen, or hangs where no thread of it
        gets a turn, would never be free for another job; so it ends. A database
        that was away for the length of this transaction counts as away.
        """
        begin = time.monotonic()
        with database.writing() as session:
            silent = jobs.overdue(session, self._host)
            lost = jobs.reap(session, self._retries)
            if time.monotonic() - begin > SLOW_SECONDS:
                session.rollback()
                return
        self._say("the worker fell silent", lost)
        for worker in silent:
            self._end(int(worker.removeprefix(self._host)))

    def _say(self, what: str, lost: Sequence[tuple[str, JobStatus]]) -> None:
        for job_id, status in lost:
            log.warning(what, extra={"job_id": job_id, "status": status})

    def _ring_until(self, database: Database, deadline: float) -> None:
        seen = database.changed()
        self.ring(database)
        with suppress(OSError):  # another user's file, or no place to write
            ALIVE.touch()
        if not self._embedded:
            self._over.wait(deadline - time.monotonic())
            return
        pause = LOOK_SECONDS if seen is not None else POLL_SECONDS
        while not self._over.wait(pause) and time.monotonic() < deadline:
            now = database.changed()
            if now is None or now != seen:
                seen = now
                self.ring(database)

    def ring(self, database: Database) -> None:
        """Ring for every queued job that is due.

        In the embedded mode that is at first every one: the messages of the
        process before ended with it.
        """
        patience, self._patience = self._patience, self._ring_again_seconds()
        with database.reading() as session:
            if not self._due(session, 1, patience):
                return
        patience = RING_AGAIN_BUSY_SECONDS if self._ask(self._backlog) else patience
        with database.writing() as session:
            due = self._due(session, AT_ONCE, patience)
            jobs.mark_rung(session, due)
        for job_id in due:
            self._ask(self._ring, job_id)

    def _due(self, session: Session, limit: int, patience: float) -> Sequence[str]:
        return jobs.due(session, limit=limit, ring_again_seconds=patience, quotas=self._quotas)

    def _ask(self, broker: Callable[..., Answer], *arguments: str) -> Answer:
        """Ask the broker; however long it takes, that is no time without the database."""
        begin = time.monotonic()
        try:
            return broker(*arguments)
        finally:
            self._looked_at += time.monotonic() - begin


def _is_alive(process: int) -> bool:
    """Tell whether a process of this machine runs; a zombie only waits for its parent to look."""
    with suppress(OSError):  # it is gone, or this system has no such files
        _name, _, rest = Path(f"/proc/{process}/stat").read_text().rpartition(")")
        return rest.split()[0] != "Z"
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's by now, or another user's worker
        pass
    return True
