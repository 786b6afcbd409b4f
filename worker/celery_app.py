"""The Celery application of a worker: ``celery --app worker.celery_app worker``."""

from __future__ import annotations

import logging
import os
import signal
from typing import Any

from celery import bootsteps, signals
from celery.worker import state

from app import logs
from app.config import Settings
from app.dispatch import TRAIN, celery, embedded
from worker.reconciler import Reconciler

settings = Settings()
app = celery(settings)
app.conf.imports = ["worker.tasks"]


class ReconcilerStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Runs the reconciler beside the consumer, and tells the children when the worker ends."""

    requires = {"celery.worker.components:Pool"}

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._reconciler = Reconciler(settings, _ring, _backlog, embedded=embedded(settings))
        signals.worker_shutting_down.connect(lambda **_: _tell_children(), weak=False)

    def start(self, _parent: Any) -> None:
        """Start with the worker."""
        self._reconciler.start()

    def stop(self, _parent: Any) -> None:
        """Stop with the worker."""
        self._reconciler.stop()


app.steps["worker"].add(ReconcilerStep)


def _ring(job_id: str) -> None:
    app.send_task(TRAIN, [job_id], task_id=job_id, retry=False)


def _backlog() -> int:
    """Count the messages that no worker has taken yet."""
    with app.connection_for_read() as connection:
        queue = connection.default_channel.queue_declare(app.conf.task_default_queue, passive=True)
        return int(queue.message_count)


def _tell_children() -> None:
    """Ask the children that train to put their jobs back; SIGTERM reaches the parent alone."""
    for request in state.active_requests:
        os.kill(request.worker_pid, signal.SIGUSR2)


@signals.setup_logging.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def _log(**_options: Any) -> None:
    logs.configure("worker", settings.log_level, settings.log_format)
    logging.captureWarnings(capture=True)
