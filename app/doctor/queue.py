"""The queue: what waits, what runs without a worker, and whether there is a worker at all.

A lease that is held is the best sign of life: only a worker renews it. One
that has nothing to do is known by what it answers the broker or, without an
answer, by the file that its reconciler touches on this machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from sqlalchemy import Connection

from app import dispatch
from app.config import Settings
from app.doctor.checks import Finding, State, ok
from app.store import inspection
from app.store.inspection import Queue
from app.store.lifecycle import JobStatus

MISSED_LOOKS, GRACE_SECONDS = 3, 10.0
"""After so many a worker counts as gone, and a job without one as forgotten; a machine that is
busy gets some time more."""

START = "start a worker: `chainrule worker`, or `chainrule serve` on one machine"


def look(connection: Connection, settings: Settings) -> Iterator[Finding]:
    """Look at the jobs and at who works on them."""
    queue = inspection.queue(connection, _patience_seconds(settings))
    yield _jobs(queue)
    yield _workers(queue, settings)


def _patience_seconds(settings: Settings) -> float:
    return MISSED_LOOKS * settings.reap_seconds + GRACE_SECONDS


def _jobs(queue: Queue) -> Finding:
    fact = ", ".join(f"{queue.counts[s]} {s}" for s in JobStatus if s in queue.counts) or "none"
    if queue.oldest_seconds is not None:
        fact += f"; the oldest queued one waits for {queue.oldest_seconds:,.0f} s"
    if queue.overdue:
        fact += f"; {queue.overdue} running without a worker"
        return Finding("jobs", State.WRONG, fact, f"{START}; it takes them over")
    return ok("jobs", fact)


def _workers(queue: Queue, settings: Settings) -> Finding:
    sign = _sign_of_life(queue, settings)
    if sign is not None:
        return ok("workers", sign)
    waiting = JobStatus.QUEUED in queue.counts or queue.overdue
    fact = "no worker gives a sign of life" + (", and jobs wait" if waiting else "")
    return Finding("workers", State.WRONG if waiting else State.WARNING, fact, START)


def _sign_of_life(queue: Queue, settings: Settings) -> str | None:
    if queue.held:
        return f"{queue.held} jobs are held by a worker"
    names = [] if dispatch.embedded(settings) else dispatch.workers(settings)
    if names:
        return f"{', '.join(names)} answers the broker"
    return _touched(_patience_seconds(settings))


def _touched(patience_seconds: float) -> str | None:
    """Say when a worker of this machine last looked for jobs, if that is not too long ago."""
    try:
        age = time.time() - dispatch.ALIVE.stat().st_mtime
    except FileNotFoundError:
        return None
    fact = f"one on this machine looked for jobs {max(0.0, age):.0f} s ago"
    return fact if age < patience_seconds else None
