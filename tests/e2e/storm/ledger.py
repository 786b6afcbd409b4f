"""What the clients know: which jobs were accepted, what was asked of each, what was seen."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True)
class Reference:
    """What a piece of work comes to when nothing happens to it.

    Parameters
    ----------
    weights : bytes
    points : list of dict
        The curve, without the seconds.
    predictions : list of dict
        Of the first rows of its dataset.
    """

    weights: bytes
    points: list[dict[str, Any]]
    predictions: list[dict[str, Any]]


@dataclass
class Entry:
    """A job that was submitted, as far as a client can tell.

    Parameters
    ----------
    key : str
        The Idempotency-Key, and the job's name.
    work : str
        Which of `WORK`.
    job : str or None
        The id, once it was answered.
    end : str or None
        The terminal status, once it was seen.
    cancel_asked, pause_asked, delete_asked, model_delete_asked : bool
        Whether somebody asked for it, or tried.
    """

    key: str
    work: str
    job: str | None = None
    end: str | None = None
    cancel_asked: bool = False
    pause_asked: bool = False
    delete_asked: bool = False
    model_delete_asked: bool = False


@dataclass
class Ledger:
    """The book of all clients of one storm.

    Parameters
    ----------
    datasets : dict of str to str
        Ids by name.
    references : dict of str to Reference
    instances : dict of str to list
        What is predicted, by dataset and target.
    """

    datasets: dict[str, str] = field(default_factory=dict)
    references: dict[str, Reference] = field(default_factory=dict)
    instances: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._violations: dict[str, str | None] = {}
        self.requests: Counter[str] = Counter()
        self.can_pause = True

    def enter(self, entry: Entry) -> None:
        """Note a job that is about to be submitted."""
        with self._lock:
            self._entries.append(entry)

    def entries(self) -> list[Entry]:
        """Return all jobs that were submitted, and perhaps accepted."""
        with self._lock:
            return list(self._entries)

    def count(self, outcome: str) -> None:
        """Count the outcome of a request."""
        with self._lock:
            self.requests[outcome] += 1

    def blame(self, what: str, job: str | None = None) -> None:
        """Note a broken promise, once."""
        with self._lock:
            self._violations.setdefault(f"{job}: {what}" if job else what, job)

    def violations(self) -> dict[str, str | None]:
        """Return every broken promise, and the job that it is about."""
        with self._lock:
            return dict(self._violations)


def comparable(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what differs between two runs of the same training: how long it took."""
    return [{key: point[key] for key in point if key != "seconds"} for point in points]
