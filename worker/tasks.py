"""The tasks that a message can ask for."""

from __future__ import annotations

import signal
from typing import Any

from celery import signals
from threadpoolctl import threadpool_limits

from app.dispatch import TRAIN
from app.store.blobs import Storage
from app.store.database import Database
from worker.celery_app import PUT_BACK, app, settings
from worker.memory import limit_memory
from worker.runner import Runner

_runners: list[Runner] = []
_asked: list[int] = []
"""Signals that asked to put the job back. No Event: a handler that interrupts itself would wait
for its own lock."""


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def _begin(**_options: Any) -> None:
    """Connect in the child, so that no connection is shared with the parent."""
    signal.signal(PUT_BACK, lambda number, _frame: _asked.append(number))
    threadpool_limits(settings.blas_threads, user_api="blas")
    limit_memory(settings.job_memory_bytes)
    database = Database(settings.resolved_database_url)
    storage = Storage.of(settings)
    _runners[:] = [Runner(settings, database, storage, stopping=lambda: bool(_asked))]


@app.task(name=TRAIN)  # type: ignore[untyped-decorator]  # Celery ships no types
def train(job_id: str) -> None:  # noqa: ARG001 - any job that waits will do; the id is for the log
    """Train the job whose turn it is: the message says that there is one."""
    _runners[0].run()
