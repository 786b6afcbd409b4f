"""Rates: how often something may be done, counted in the database, so that all processes share it.

A rate is a bucket that holds what may be done within a minute and fills evenly. Of each only one
number is kept, when it will be full again: the generic cell rate algorithm (ITU-T I.371, annex A).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, case, select
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
    clock, pause = database_clock(), policy.pause_seconds
    used_from = case((RateLimit.full_at > clock, RateLimit.full_at), else_=clock)
    statement = (
        insert_into(session, RateLimit)
        .values(policy=policy.name, subject=subject, full_at=clock + pause)
        .on_conflict_do_update(
            index_elements=["policy", "subject"],
            set_={"full_at": used_from + pause},
            where=RateLimit.full_at - clock <= WINDOW_SECONDS - pause / 2,
        )
        .returning(RateLimit.full_at - clock)
    )
    full_in_seconds = session.scalar(statement)
    if full_in_seconds is None:
        return replace(look(session, policy, subject), is_refused=True)
    return Standing(policy, full_in_seconds)


def look(session: Session, policy: Policy, subject: str) -> Standing:
    """Say how it stands, and whether once more would be too often."""
    mine = (RateLimit.policy == policy.name, RateLimit.subject == subject)
    full_in_seconds = session.scalar(select(RateLimit.full_at - database_clock()).where(*mine))
    standing = Standing(policy, full_in_seconds or 0.0)
    return replace(standing, is_refused=standing.left < 1)


def full() -> ColumnElement[bool]:
    """Say which are full, and as good as absent."""
    return RateLimit.full_at < database_clock()
