"""Keys: what opens, for how long, and what is kept of them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, text

from app.store import keys
from app.store.errors import NotFoundError
from app.store.keys import Scope
from app.store.tables import ApiKey, now


def make(database, **facts):
    with database.writing() as session:
        return keys.create(session, **{"owner": "ada", "scopes": [Scope.READ], **facts})


def opens(database, token):
    with database.reading() as session:
        return keys.authenticate(session, token) is not None


def test_a_key_lets_its_owner_in_with_its_scopes(database):
    key, token = make(database, scopes=[Scope.PREDICT, Scope.READ, Scope.READ])
    with database.reading() as session:
        found = keys.authenticate(session, token)
    assert (found.id, found.owner, found.scopes) == (key.id, "ada", ["read", "predict"])


def test_two_keys_are_never_alike(database):
    assert len({make(database)[1] for _ in range(20)}) == 20


def test_of_the_secret_nothing_is_kept(database):
    _, token = make(database)
    secret = token.rpartition("_")[2]
    with database.reading() as session:
        rows = session.execute(text("SELECT * FROM api_keys")).all()
    assert len(rows) == 1
    assert secret not in repr(rows)
    assert secret[:16] not in repr(rows)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token[:-1],
        lambda token: token + "0",
        lambda token: token[:-1] + ("0" if token[-1] != "0" else "1"),
        lambda token: token.upper(),
        lambda token: " " + token,
        lambda token: token + "\n",
        lambda token: "key_" + "0" * 32 + token[36:],
        lambda token: token[:36],
        lambda token: token[37:],
        lambda _: "",
    ],
)
def test_what_is_not_quite_the_key_opens_nothing(database, spoil):
    _, token = make(database)
    assert opens(database, token)
    assert not opens(database, spoil(token))


def test_the_secret_of_one_key_does_not_fit_another(database):
    (_, mine), (_, other) = make(database), make(database)
    assert not opens(database, mine[:37] + other[37:])


def test_a_key_ends_when_it_was_to_end(database):
    _, over = make(database, expires_at=now() - timedelta(seconds=1))
    _, lasting = make(database, expires_at=now() + timedelta(hours=1))
    assert not opens(database, over)
    assert opens(database, lasting)


def test_a_revoked_key_opens_nothing_and_stays_known(database):
    key, token = make(database)
    for _ in range(2):
        with database.writing() as session:
            keys.revoke(session, key.id)
            first = session.get(ApiKey, key.id).revoked_at
        assert not opens(database, token)
    with database.reading() as session:
        assert keys.get(session, key.id).revoked_at == first
        assert keys.exist(session)
        assert [found.id for found in keys.page(session, limit=9).items] == [key.id]


def test_a_key_that_is_not_there_cannot_be_revoked(database):
    with database.writing() as session, pytest.raises(NotFoundError):
        keys.revoke(session, "key_x")


def test_before_the_first_key_there_is_none(database):
    with database.reading() as session:
        assert not keys.exist(session)


def test_keys_are_listed_newest_first_by_owner_and_by_page(database):
    made = [make(database, owner=owner)[0].id for owner in ("ada", "charles", "ada")]
    with database.reading() as session:
        first = keys.page(session, limit=2)
        rest = keys.page(session, limit=2, cursor=first.next_cursor)
        mine = keys.page(session, limit=9, owner="ada")
    assert [key.id for key in (*first.items, *rest.items)] == made[::-1]
    assert [key.id for key in mine.items] == [made[2], made[0]]


def test_its_use_is_noted_to_the_minute(database):
    key, _ = make(database)
    assert not keys.is_noted(key)
    with database.writing() as session:
        keys.note_use(session, key)
    with database.reading() as session:
        key = session.scalar(select(ApiKey))
    assert keys.is_noted(key)
    key.used_at -= timedelta(seconds=61)
    assert not keys.is_noted(key)
