"""The life of a job: which status may follow which.

::

    queued ──> running ──> succeeded
     │  ▲       │  │ └───> failed
     │  └───────┤  └─────> cancelled
     ▼          ▼
    paused <── running          paused and queued can be cancelled too
"""

from __future__ import annotations

from enum import StrEnum


class JobStatus(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobKind(StrEnum):
    """What a job does; both go through the same life."""

    TRAINING = "training"
    PREDICTION = "prediction"


MOVES: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset(
        {JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.FAILED, JobStatus.CANCELLED}
    ),
    JobStatus.RUNNING: frozenset(set(JobStatus) - {JobStatus.RUNNING}),
    JobStatus.PAUSED: frozenset({JobStatus.QUEUED, JobStatus.CANCELLED}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}
"""What each status may become. A running job is queued again when its worker ends or is lost."""

TERMINAL = frozenset(status for status, targets in MOVES.items() if not targets)
"""A job in one of these has ended for good."""

LIVE = frozenset(JobStatus) - TERMINAL
"""A job in one of these needs its dataset."""


def sources_of(target: JobStatus) -> frozenset[JobStatus]:
    """Return every status that may become ``target``."""
    return frozenset(source for source, targets in MOVES.items() if target in targets)
