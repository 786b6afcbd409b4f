"""Datasets belong to their owner, and stay while a live job needs them."""

from __future__ import annotations

import pytest

from app.store import datasets, jobs
from app.store.errors import ConflictError, CursorError, NotFoundError
from app.store.lifecycle import LIVE, TERMINAL
from tests.app.store.rows import OWNER, add_dataset, add_job, force, look, race


def page(database, limit=50, cursor=None, owner=OWNER):
    with database.reading() as session:
        return datasets.page(session, owner, limit=limit, cursor=cursor)


def remove(database, dataset):
    with database.writing() as session:
        return datasets.remove(session, dataset.owner, dataset.id)


def test_a_dataset_comes_back_as_it_was_added(database):
    columns = [{"name": "größe", "type": "number", "min": -1.5, "top": [["a", 2]]}]
    dataset = add_dataset(database, columns=columns, bytes=3 * 2**31)
    with database.reading() as session:
        found = datasets.get(session, OWNER, dataset.id)
    assert found.columns == columns
    assert found.bytes == 3 * 2**31
    assert found.id.startswith("ds_")


def test_somebody_elses_dataset_is_not_found(database, dataset):
    for act in (datasets.get, datasets.remove):
        with pytest.raises(NotFoundError), database.writing() as session:
            act(session, "charles", dataset.id)
    assert page(database, owner="charles").items == []


def test_pages_run_from_the_newest_to_the_oldest_without_gap_or_repeat(database):
    added = [add_dataset(database).id for _ in range(5)]
    add_dataset(database, owner="charles")
    found, cursor = [], None
    for size in (2, 2, 1):
        part = page(database, limit=2, cursor=cursor)
        assert len(part.items) == size
        found += [dataset.id for dataset in part.items]
        cursor = part.next_cursor
    assert cursor is None
    assert found == added[::-1]


def test_a_full_last_page_has_no_next(database):
    for _ in range(2):
        add_dataset(database)
    assert page(database, limit=2).next_cursor is None


@pytest.mark.parametrize("cursor", ["", "x", "!!!", "é", "ZHNfMDE", "AAAA", "a" * 5000])
def test_a_cursor_that_is_not_ours_is_refused(database, cursor):
    with pytest.raises(CursorError):
        page(database, cursor=cursor)


@pytest.mark.parametrize("status", sorted(LIVE))
def test_a_dataset_that_a_live_job_uses_cannot_be_deleted(database, dataset, job, status):
    force(database, job, status)
    with pytest.raises(ConflictError, match=job.id):
        remove(database, dataset)


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_a_job_that_has_ended_outlives_its_dataset(database, dataset, job, status):
    force(database, job, status)
    assert remove(database, dataset) == dataset.location
    found = look(database, job.id)
    assert found.dataset_id is None
    assert found.spec["dataset"] == dataset.id


def test_of_a_submit_and_a_delete_that_race_one_is_refused(database, database_url, connect):
    for _ in range(10):
        dataset = add_dataset(database)

        def act(number, dataset=dataset):
            mine = connect(database_url)
            return add_job(mine, dataset) if number else remove(mine, dataset)

        removed, job = race(2, act)
        if isinstance(job, Exception):
            assert isinstance(job, NotFoundError)
        else:
            assert isinstance(removed, ConflictError)
            with database.writing() as session:
                jobs.request_cancel(session, OWNER, job.id)
