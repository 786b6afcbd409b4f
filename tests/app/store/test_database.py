"""Two ways in: readers never wait for a writer, writers wait for each other."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import DatabaseError, OperationalError

from app.store import database as database_module
from app.store.database import Database, database_clock
from app.store.tables import Dataset
from tests.app.store.rows import OWNER, add_dataset, race


def count(session):
    return len(session.scalars(select(Dataset.id)).all())


def delete_and_fail(database):
    with database.writing() as session:
        session.execute(text("DELETE FROM datasets"))
        raise ZeroDivisionError


def test_a_writing_session_commits_at_its_end_and_not_after_an_error(database):
    add_dataset(database)
    with pytest.raises(ZeroDivisionError):
        delete_and_fail(database)
    with database.reading() as session:
        assert count(session) == 1


def test_a_reading_session_cannot_write(database):
    add_dataset(database)
    with pytest.raises(DatabaseError), database.reading() as session:
        session.execute(text("DELETE FROM datasets"))


def test_a_reader_is_not_held_up_by_a_writer(database, connect, database_url):
    other = connect(database_url)
    with database.writing() as session:
        session.execute(text("DELETE FROM datasets"))
        started = time.monotonic()
        for reader in (database, other):
            with reader.reading() as reading:
                assert count(reading) == 0
        assert time.monotonic() - started < 1


def test_on_sqlite_a_writer_takes_the_lock_before_its_first_statement(sqlite_url, connect):
    first, second = connect(sqlite_url), connect(sqlite_url)
    with first.writing() as session:
        session.execute(text("SELECT 1"))
        with second.writer.connect() as impatient:
            impatient.connection.cursor().execute("PRAGMA busy_timeout = 0")
            with pytest.raises(OperationalError, match="locked"):
                impatient.execute(text("SELECT 1"))


def test_writers_that_read_first_lose_no_update(database, database_url, connect):
    add_dataset(database)
    add_one = text("UPDATE datasets SET rows = :rows")

    def act(_):
        mine = connect(database_url)
        for _ in range(10):
            with mine.writing() as session:
                rows = session.scalar(select(Dataset.rows).with_for_update())
                session.execute(add_one, {"rows": rows + 1})

    assert race(4, act) == [None] * 4
    with database.reading() as session:
        assert session.scalar(select(Dataset.rows)) == 3 + 4 * 10


def test_who_falls_silent_in_a_transaction_holds_nobody_up_for_ever(
    postgres_url, connect, monkeypatch
):
    """A worker that is frozen, or cut off from the database, in the midst of a transaction."""
    monkeypatch.setattr(database_module, "IDLE_SECONDS", 0.2)
    silent, other = connect(postgres_url), connect(postgres_url)
    add_dataset(other)
    rename = text("UPDATE datasets SET name = :name")

    def fall_silent():
        with silent.writing() as session:
            session.execute(rename, {"name": "silent"})
            with other.writing() as another:
                another.execute(rename, {"name": "other"})
            session.execute(rename, {"name": "too late"})

    with pytest.raises(OperationalError):
        fall_silent()
    with silent.reading() as session:
        assert session.scalar(select(Dataset.name)) == "other"


def test_the_clock_tells_the_time_to_the_millisecond(database):
    with database.reading() as session:
        told = session.scalar(select(database_clock()))
        assert abs(told - time.time()) < 1
        time.sleep(0.01)
        assert 0.005 < session.scalar(select(database_clock())) - told < 1


def test_on_sqlite_a_commit_of_anybody_is_noticed(sqlite_url, connect):
    watcher, other = connect(sqlite_url), connect(sqlite_url)
    seen = watcher.changed()
    assert watcher.changed() == seen
    for writer in (other, watcher):
        add_dataset(writer)
        assert watcher.changed() != seen
        seen = watcher.changed()


def test_postgresql_cannot_tell_whether_anything_was_committed(postgres_url, connect):
    assert connect(postgres_url).changed() is None


def test_a_file_that_cannot_be_opened_is_looked_at_and_there_refused(tmp_path, connect):
    database = connect(f"sqlite:///{tmp_path}/nowhere/chainrule.db")
    assert database.changed() is None
    with pytest.raises(OperationalError):
        database.ping()


def test_threads_that_ask_at_once_whether_anything_changed_ask_one_connection(sqlite_url, connect):
    watcher, opened = connect(sqlite_url), []
    event.listen(watcher.reader, "connect", lambda *_: opened.append(1))
    assert len(set(race(8, lambda _: watcher.changed()))) == 1
    assert len(opened) == 1


def test_all_that_a_reading_session_reads_is_of_one_moment(database, connect, database_url):
    other = connect(database_url)
    with database.reading() as session:
        assert count(session) == 0
        add_dataset(other)
        assert count(session) == 0
    with database.reading() as session:
        assert count(session) == 1


def test_times_come_back_in_utc(database):
    add_dataset(database)
    with database.reading() as session:
        created = session.scalar(select(Dataset.created_at))
    assert created.utcoffset().total_seconds() == 0
    assert abs(created.timestamp() - time.time()) < 60


def test_a_database_can_be_used_again_after_it_was_disposed(database):
    database.ping()
    database.changed()
    database.dispose()
    database.ping()
    assert add_dataset(database).owner == OWNER


def test_a_postgresql_that_is_not_there_is_refused_soon(connect):
    with pytest.raises(OperationalError):
        connect("postgresql://127.0.0.1:1/nothing").ping()


def test_foreign_keys_hold(database):
    with pytest.raises(DatabaseError), database.writing() as session:
        session.execute(text("INSERT INTO artifact_chunks VALUES ('art_none', 0, '')"))


def test_the_driver_is_psycopg():
    database = Database("postgresql://somewhere/db")
    assert database.writer.url.drivername == "postgresql+psycopg"
    database.dispose()
