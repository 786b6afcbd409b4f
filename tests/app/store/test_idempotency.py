"""Of the requests that come with one key, one is done."""

from __future__ import annotations

from collections import Counter

import pytest
from sqlalchemy import text

from app.store import idempotency
from app.store.errors import InFlightError, KeyReusedError
from app.store.idempotency import Stored
from tests.app.store.rows import OWNER, race


def begin(database, fingerprint="f", owner=OWNER):
    with database.writing() as session:
        return idempotency.begin(session, owner, "key", fingerprint, 24)


def finish(database):
    with database.writing() as session:
        idempotency.finish(session, OWNER, "key", 201, {"Location": "/v1/jobs/x"}, b"{}")


def age(database, seconds):
    with database.writing() as session:
        older = text("UPDATE idempotency_keys SET created_at = created_at - :seconds")
        session.execute(older, {"seconds": seconds})


def test_of_requests_that_race_one_is_done(database_url, connect):
    outcomes = race(16, lambda _: begin(connect(database_url)))
    kinds = Counter(type(outcome) for outcome in outcomes)
    assert kinds == {type(None): 1, InFlightError: 15}


def test_requests_that_race_for_a_key_within_one_transaction_answer_the_same(database_url, connect):
    def act(number):
        with connect(database_url).writing() as session:
            stored = idempotency.begin(session, OWNER, "key", "f", 24)
            if stored is None:
                idempotency.finish(session, OWNER, "key", 200 + number, {}, b"")
                return 200 + number
            return stored.status

    assert len(set(race(8, act))) == 1


def test_the_first_answer_is_given_again(database):
    assert begin(database) is None
    finish(database)
    assert begin(database) == Stored(201, {"Location": "/v1/jobs/x"}, b"{}")


def test_a_key_with_another_request_is_refused(database):
    begin(database)
    with pytest.raises(KeyReusedError):
        begin(database, fingerprint="other")
    finish(database)
    with pytest.raises(KeyReusedError):
        begin(database, fingerprint="other")


def test_a_key_that_was_given_back_can_be_taken_again(database):
    begin(database)
    with database.writing() as session:
        idempotency.abandon(session, OWNER, "key")
    assert begin(database) is None


def test_an_answer_cannot_be_given_back(database):
    begin(database)
    finish(database)
    with database.writing() as session:
        idempotency.abandon(session, OWNER, "key")
    assert begin(database) is not None


def test_a_request_that_was_cut_off_can_be_sent_again_after_a_minute(database):
    begin(database)
    age(database, 50)
    with pytest.raises(InFlightError):
        begin(database)
    age(database, 20)
    assert begin(database) is None
    with pytest.raises(InFlightError):
        begin(database)


def test_an_answer_is_kept_for_its_hours(database):
    begin(database)
    finish(database)
    age(database, 23.9 * 3600)
    assert begin(database) is not None
    age(database, 0.2 * 3600)
    assert begin(database, fingerprint="other") is None


def test_every_owner_has_keys_of_their_own(database):
    assert begin(database) is None
    assert begin(database, owner="charles", fingerprint="other") is None
