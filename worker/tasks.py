"""The tasks that a message can ask for."""

from __future__ import annotations

import signal
import threading
from typing import Any

from celery import signals

from app.dispatch import TRAIN
from app.store.blobs import Storage
from app.store.database import Database
from worker.celery_app import app, settings
from worker.runner import Runner

_stopping = threading.Event()
_runners: list[Runner] = []


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def _begin(**_options: Any) -> None:
    """Connect in the child, so that no connection is shared with the parent."""
    signal.signal(signal.SIGUSR2, lambda *_: _stopping.set())
    database = Database(settings.resolved_database_url)
    storage = Storage(settings.resolved_storage_url)
    _runners[:] = [Runner(settings, database, storage, _stopping.is_set)]


@app.task(name=TRAIN)  # type: ignore[untyped-decorator]  # Celery ships no types
def train(job_id: str) -> None:
    """Train one job; the message is only its id."""
    _runners[0].run(job_id)
