"""Checks: each yields what it finds, and none can hold up the others.

A check that raises or does not come to an end has found its dependency wrong;
what it yielded before stands. Each has a thread of its own, which is left
behind if it hangs: a client library may wait for longer than anyone wants to.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app import redaction
from app.config import Settings

CHECK_SECONDS = 5.0


class State(StrEnum):
    """How something is."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """What was found.

    Parameters
    ----------
    name : str
        Of what was looked at.
    state : State
    fact : str
    advice : str
        What to do; empty where nothing is to be done.
    """

    name: str
    state: State
    fact: str
    advice: str = ""


@dataclass(frozen=True)
class Check:
    """Something to look at.

    Parameters
    ----------
    name : str
    look : callable
        Yields findings; whatever it raises is a finding, too.
    advice : str
        What to do when it raises or hangs.
    """

    name: str
    look: Callable[[Settings], Iterator[Finding]]
    advice: str


def ok(name: str, fact: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(name, State.OK, fact)


def examine(
    checks: Sequence[Check], settings: Settings, seconds: float = CHECK_SECONDS
) -> list[Finding]:
    """Do all checks at once; return what was found after so many seconds at most, in order."""
    examinations = [_Examination(check, settings) for check in checks]
    deadline = time.monotonic() + seconds
    return [found for each in examinations for found in each.result(deadline, seconds)]


class _Examination:
    """A check that is being done."""

    def __init__(self, check: Check, settings: Settings) -> None:
        self._check, self._settings = check, settings
        self._found: list[Finding] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for finding in self._check.look(self._settings):
                self._found.append(finding)
        except Exception as error:  # noqa: BLE001 - each client library has its own family of errors
            self._found.append(self._wrong(redaction.of(self._settings)(_words(error))))

    def result(self, deadline: float, seconds: float) -> list[Finding]:
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            return [*self._found, self._wrong(f"no answer within {seconds:g} s")]
        return self._found

    def _wrong(self, fact: str) -> Finding:
        return Finding(self._check.name, State.WRONG, fact, self._check.advice)


def _words(error: Exception) -> str:
    """Return an error in one line; what SQLAlchemy adds below the first is for programmers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
