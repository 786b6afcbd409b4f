"""The lease of a job: renewed from a thread of its own, as long as the training gets on."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from app.config import Settings
from app.store import jobs
from app.store.database import UNAVAILABLE, Database
from app.store.jobs import Claim, Retries

log = logging.getLogger(__name__)

RENEWALS = 4
"""How often a lease is renewed before it would end."""


def host_name() -> str:
    """Name the machine, or the container, whose process numbers are known here."""
    with suppress(OSError):  # there are no namespaces
        return f"{socket.gethostname()}:{PROCESSES.stat().st_ino}:"
    return f"{socket.gethostname()}:"


PROCESSES = Path("/proc/self/ns/pid")
"""The namespace of process numbers: containers may share a host name."""


def worker_name() -> str:
    """Name this process for the lease, so that an operator can find it."""
    return f"{host_name()}{os.getpid()}"


class Lease(threading.Thread):
    """Renews a claim while a dataset is read, or one step takes long, in a ``with`` block.

    It does not go on for ever: a training that says nothing for
    `Settings.stall_seconds` gives the job back and ends its process, for a thread that
    hangs cannot be ended alone.

    Parameters
    ----------
    database : Database
    claim : Claim
    settings : Settings
    """

    def __init__(self, database: Database, claim: Claim, settings: Settings) -> None:
        super().__init__(name="lease", daemon=True)
        self._database, self._claim, self._settings = database, claim, settings
        self._over = threading.Event()
        self._progress_at = time.monotonic()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._over.set()

    def progress(self) -> None:
        """Say that the training gets on."""
        self._progress_at = time.monotonic()

    def run(self) -> None:
        """Renew until the block ends."""
        pause = self._settings.lease_seconds / RENEWALS
        while not self._over.wait(pause):
            try:
                self._renew()
            except UNAVAILABLE as error:
                log.warning("the lease could not be renewed: %s", error)
                self.progress()  # who waits for the database does not hang

    def _renew(self) -> None:
        stalled = time.monotonic() - self._progress_at > self._settings.stall_seconds
        with self._database.writing() as session:
            if stalled:
                jobs.give_up(session, self._claim, retries(self._settings))
            else:
                jobs.heartbeat(session, self._claim, self._settings.lease_seconds)
        if stalled:
            log.error("no progress for %g s; ending the process", self._settings.stall_seconds)
            os.kill(os.getpid(), signal.SIGKILL)


def retries(settings: Settings) -> Retries:
    """Return how often a job is tried again."""
    return Retries(settings.max_attempts, settings.backoff_seconds)
