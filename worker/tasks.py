"""The tasks that a message can ask for."""

from __future__ import annotations

import resource
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from celery import signals
from threadpoolctl import threadpool_limits

from app.dispatch import TRAIN
from app.store.blobs import Storage
from app.store.database import Database
from worker.celery_app import PUT_BACK, app, settings
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
    storage = Storage(settings.resolved_storage_url)
    _runners[:] = [Runner(settings, database, storage, stopping=lambda: bool(_asked))]


def limit_memory(more_bytes: int) -> None:
    """Have an allocation fail that takes the process so much beyond what it has now.

    A MemoryError can be caught and the job be told; the kernel's OOM killer
    takes whom it likes. Where there is no such limit, nothing is set.
    """
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + more_bytes
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


@app.task(name=TRAIN)  # type: ignore[untyped-decorator]  # Celery ships no types
def train(job_id: str) -> None:  # noqa: ARG001 - any job that waits will do; the id is for the log
    """Train the job whose turn it is: the message says that there is one."""
    _runners[0].run()
