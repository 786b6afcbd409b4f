"""The tables in the database are the tables in the code, whoever comes first."""

from __future__ import annotations

import pytest
from alembic.util.exc import CommandError
from sqlalchemy import inspect, text

from app.store import datasets, migrate
from app.store.lifecycle import JobStatus
from app.store.tables import Base
from tests.app.store.rows import OWNER, add_dataset, add_job, force, look, race


def test_the_code_and_the_migrations_agree(database):
    migrate.check(database)
    assert migrate.is_current(database)


def test_a_table_that_was_changed_by_hand_is_noticed(database):
    with database.writing() as session:
        session.execute(text("ALTER TABLE jobs ADD COLUMN surprise INTEGER"))
    with pytest.raises(CommandError):
        migrate.check(database)


def test_up_and_down_and_up_again(empty_database_url, connect):
    database = connect(empty_database_url)
    assert not migrate.is_current(database)
    migrate.upgrade(database)
    migrate.downgrade(database, "base")
    assert inspect(database.reader).get_table_names() == ["alembic_version"]
    migrate.upgrade(database)
    tables = set(inspect(database.reader).get_table_names())
    assert tables == {*Base.metadata.tables, "alembic_version"}
    migrate.check(database)


def test_jobs_that_were_there_before_get_the_digests_of_their_datasets(empty_database_url, connect):
    database = connect(empty_database_url)
    migrate.upgrade(database)
    dataset, gone = (add_dataset(database, sha256=digest) for digest in ("aa", "bb"))
    job, older = add_job(database, dataset, validation_dataset_id=gone.id), add_job(database, gone)
    force(database, older, JobStatus.CANCELLED)
    force(database, job, JobStatus.CANCELLED)
    with database.writing() as session:
        datasets.remove(session, OWNER, gone.id)
    migrate.downgrade(database, "0005")
    migrate.upgrade(database)
    found = [look(database, each.id) for each in (job, older)]
    assert [each.dataset_sha256 for each in found] == ["aa", None]
    assert [each.validation_dataset_sha256 for each in found] == [None, None]


def test_processes_that_start_together_migrate_once(empty_database_url, connect):
    databases = [connect(empty_database_url) for _ in range(4)]
    assert race(4, lambda number: migrate.upgrade(databases[number])) == [None] * 4
    assert migrate.is_current(databases[0])


def test_weights_are_not_compressed_on_postgresql(postgres_url, connect):
    storage = text(
        "SELECT attstorage FROM pg_attribute "
        "WHERE attname = 'data' AND attrelid = CAST('artifact_chunks' AS regclass)"
    )
    with connect(postgres_url).reading() as session:
        assert session.scalars(storage).all() == ["e"]
