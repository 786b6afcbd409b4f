"""Rates: how often something may be done, counted in the database, so that all processes share it.

A rate is a bucket that holds what may be done within a minute and fills evenly. Of each only one
number is kept, when it will be full again: the generic cell rate algorithm (ITU-T I.371, annex A).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Executable, Float, bindparam, case, select
from sqlalchemy.orm import Session

from app.store.database import database_clock, insert_into
from app.store.tables import RateLimit

WINDOW_SECONDS = 60


@dataclass(frozen=True)
class Policy:
    """How often something may be done.

    Parameters
    ----------
    name : str
    per_minute : int
        So often at once, and again so often in each minute after that.
    """

    name: str
    per_minute: int

    @property
    def pause_seconds(self) -> float:
        """How long it takes until one more may be done."""
        return WINDOW_SECONDS / self.per_minute


@dataclass(frozen=True)
class Standing:
    """How much of a rate a subject has left.

    Parameters
    ----------
    policy : Policy
    full_in_seconds : float
        When all of it is there again; 0 or less if it is.
    is_refused : bool
        Whether what was asked for was too much.
    """

    policy: Policy
    full_in_seconds: float
    is_refused: bool = False

    def after(self, seconds: float) -> Standing:
        """Return how it stands when nothing was done for so long."""
        return replace(self, full_in_seconds=self.full_in_seconds - seconds)

    @property
    def left(self) -> int:
        """How often it may be done now; half of one counts as one, for the clock is rounded."""
        free_seconds = WINDOW_SECONDS - max(self.full_in_seconds, 0.0)
        return max(math.floor(free_seconds / self.policy.pause_seconds + 0.5), 0)

    @property
    def retry_seconds(self) -> int:
        """After how many seconds it may be done once more."""
        return max(math.ceil(self.full_in_seconds + self.policy.pause_seconds - WINDOW_SECONDS), 1)


def take(session: Session, policy: Policy, subject: str) -> Standing:
    """Do it once more, unless that is too often: in one statement, so of a race nobody gets more.

    What is refused writes nothing.
    """
    mine = {"policy": policy.name, "subject": subject, "pause": policy.pause_seconds}
    take_one, look = _statements(session.get_bind().dialect.name)
    full_in_seconds = session.scalar(take_one, mine)
    if full_in_seconds is not None:
        return Standing(policy, full_in_seconds)
    return Standing(policy, session.scalar(look, mine) or 0.0, is_refused=True)


@cache
def _statements(dialect: str) -> tuple[Executable, Executable]:
    """Return the statements of `take`, made once, for every request needs them."""
    table, clock = RateLimit.__table__, database_clock()
    pause, full_at = bindparam("pause", type_=Float), RateLimit.__table__.c.full_at
    mine: dict[str, Any] = {name: bindparam(name) for name in ("policy", "subject")}
    full_in = full_at - clock
    take_one = (
        insert_into(dialect, table)
        .values(**mine, full_at=clock + pause)
        .on_conflict_do_update(
            index_elements=list(mine),
            set_={"full_at": case((full_at > clock, full_at), else_=clock) + pause},
            where=full_in <= WINDOW_SECONDS - pause / 2,
        )
        .returning(full_in)
    )
    return take_one, select(full_in).where(*(table.c[name] == mine[name] for name in mine))


def is_full() -> ColumnElement[bool]:
    """Say which are full, and as good as absent."""
    return RateLimit.full_at < database_clock()
