"""A rate lets so many through and no more, whoever counts, and fills evenly again."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, text, update

from app.store import rates, retention
from app.store.rates import Policy, Standing
from app.store.tables import RateLimit
from tests.app.store.rows import race

FIVE = Policy("requests", 5)


def take(database, policy=FIVE, subject="ada"):
    with database.writing() as session:
        return rates.take(session, policy, subject)


def let_pass(database, seconds):
    """Set the clock forward, as far as rates can tell."""
    with database.writing() as session:
        session.execute(update(RateLimit).values(full_at=RateLimit.full_at - seconds))


def test_so_many_go_at_once_and_then_none(database):
    standings = [take(database) for _ in range(7)]
    assert [standing.is_refused for standing in standings] == [False] * 5 + [True] * 2
    assert [standing.left for standing in standings] == [4, 3, 2, 1, 0, 0, 0]
    assert standings[-1].full_in_seconds == pytest.approx(60, abs=5)
    assert standings[-1].retry_seconds in range(7, 13)


@pytest.mark.parametrize(("seconds", "more"), [(4, 0), (13, 1), (25, 2), (10_000, 5)])
def test_it_fills_evenly_and_not_beyond_its_size(database, seconds, more):
    for _ in range(5):
        take(database)
    let_pass(database, seconds)  # and a second or so for the test itself
    assert [take(database).is_refused for _ in range(more + 1)] == [False] * more + [True]


def test_what_is_refused_costs_nothing(database):
    for _ in range(50):
        refused = take(database)
    assert refused.full_in_seconds <= 60


def test_each_subject_and_each_policy_has_its_own(database):
    assert not take(database, subject="charles").is_refused
    assert not take(database, Policy("failed-logins", 5)).is_refused
    answers = [take(database) for _ in range(6)]
    assert [answer.is_refused for answer in answers] == [False] * 5 + [True]
    assert answers[-1].full_in_seconds > 30


def test_of_processes_that_race_so_many_get_through_as_may(database_url, connect):
    own = [connect(database_url) for _ in range(4)]

    def act(number):
        return [take(own[number], Policy("requests", 20)).is_refused for _ in range(15)]

    refused = [each for answers in race(4, act) for each in answers]
    assert refused.count(False) in (20, 21)  # another one may have come back meanwhile


def test_a_rate_of_a_thousand_a_second_is_told_as_exactly(database):
    policy = Policy("requests", 60_000)
    assert take(database, policy).left in (59_999, 60_000)
    let_pass(database, -59.99)
    assert 0 <= take(database, policy).left < 1000
    let_pass(database, -10)
    assert take(database, policy).is_refused


@pytest.mark.parametrize(
    ("full_in_seconds", "left", "retry_seconds"),
    [(-5, 5, 1), (0, 5, 1), (12, 4, 1), (48, 1, 1), (50, 1, 2), (55, 0, 7), (60, 0, 12)],
)
def test_what_is_left_and_when_there_is_more(full_in_seconds, left, retry_seconds):
    standing = Standing(FIVE, full_in_seconds)
    assert (standing.left, standing.retry_seconds) == (left, retry_seconds)
    assert standing.after(3) == Standing(FIVE, full_in_seconds - 3)


def test_rates_of_which_nothing_is_used_are_pruned(database):
    take(database, subject="long ago")
    let_pass(database, 100)
    take(database, subject="now")
    kind = retention.full_rates()
    with database.writing() as session:
        assert kind.find(session) == [(("requests", "long ago"), 0)]
        assert kind.remove(session, [("requests", "long ago"), ("requests", "now")]) == [
            ("requests", "long ago")
        ]
        assert session.scalar(select(func.count()).select_from(RateLimit)) == 1


def test_on_postgresql_they_are_not_logged(postgres_url, connect):
    persistence = text("SELECT relpersistence FROM pg_class WHERE relname = 'rate_limits'")
    with connect(postgres_url).reading() as session:
        assert session.scalars(persistence).all() == ["u"]
