"""The Celery application of a worker: ``celery --app worker.celery_app worker``."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Any

from celery import bootsteps, signals
from celery.utils.log import get_multiprocessing_logger
from celery.worker import state

from app import logs
from app.config import Settings
from app.dispatch import TRAIN, celery, embedded
from worker.reconciler import Reconciler

settings = Settings()
app = celery(settings)
app.conf.imports = ["worker.tasks"]

PUT_BACK = signal.SIGURG
"""Asks a child to put its job back. A child that does not listen yet ignores it, where SIGUSR1 or
SIGUSR2 would end it; in the embedded mode billiard takes those two for itself as well."""

ASK_SECONDS = 0.1


class ReconcilerStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Runs the reconciler beside the consumer."""

    requires = {"celery.worker.components:Pool"}

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        end = partial(_end, parent)
        self._reconciler = Reconciler(settings, _ring, _backlog, end, embedded=embedded(settings))

    def start(self, _parent: Any) -> None:
        """Start with the worker."""
        self._reconciler.start()

    def stop(self, _parent: Any) -> None:
        """Stop with the worker."""
        self._reconciler.stop()


def _ring(job_id: str) -> None:
    app.send_task(TRAIN, [job_id], task_id=job_id, retry=False)


def _backlog() -> int:
    """Count the messages that no worker has taken yet.

    To ask only passively is refused: a Redis list that is empty does not exist.
    """
    with app.connection_for_read() as connection:
        queue = connection.default_channel.queue_declare(app.conf.task_default_queue)
        return int(queue.message_count)


def _end(parent: Any, process: int) -> None:
    if process in _processes(parent.pool):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _processes(pool: Any) -> list[int]:
    """Return the numbers of the processes that train."""
    with suppress(AttributeError):  # the pool has not begun, or has ended
        return list(pool.info["processes"])
    return []


class ShutdownStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Asks the children to put their jobs back once the worker is to end.

    SIGTERM reaches the parent alone, which would wait for the jobs. It asks
    until it ends: a child that has just been started does not listen yet.
    """

    requires = {"celery.worker.components:Pool"}

    def start(self, parent: Any) -> None:
        """Begin to look whether the worker is to end."""
        threading.Thread(target=self._run, args=[parent.pool], name="shutdown", daemon=True).start()

    def _run(self, pool: Any) -> None:
        while True:
            time.sleep(ASK_SECONDS)
            if state.should_stop is not None:
                self._ask(pool)

    def _ask(self, pool: Any) -> None:
        for process in _processes(pool):
            with suppress(ProcessLookupError):
                os.kill(process, PUT_BACK)


app.steps["worker"].update([ReconcilerStep, ShutdownStep])


@signals.setup_logging.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def _log(**_options: Any) -> None:
    logs.configure("worker", settings)
    pool = get_multiprocessing_logger()
    pool.handlers.clear()
    pool.propagate = True
    pool.setLevel(logging.WARNING)
    for echo in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(echo).setLevel(logging.WARNING)  # the runner says the same under job_id
