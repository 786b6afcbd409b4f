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


ORIGIN = "what it was made of"


def share(database):
    """Add a dataset to the file of an equal one, if there is one."""
    with database.writing() as session:
        twin = datasets.lasting_twin(session, OWNER, ORIGIN)
        if twin is None:
            return None
        named = {"name": "again.csv", "format": "csv", "bytes": 99, "sha256": "00"}
        return datasets.add(session, owner=OWNER, origin=ORIGIN, **named, **vars(twin))


def test_a_file_is_given_up_with_the_last_dataset_that_it_belongs_to(database):
    first = add_dataset(database, origin=ORIGIN, sniffed={"delimiter": ";"})
    second = share(database)
    assert (second.location, second.sniffed) == (first.location, {"delimiter": ";"})
    assert remove(database, first) is None
    assert remove(database, second) == first.location
    assert share(database) is None


def test_of_several_the_newest_is_shared_and_never_somebody_elses(database):
    add_dataset(database, owner="charles", origin=ORIGIN, location="theirs.arrow")
    assert share(database) is None
    for location in ("old.arrow", "new.arrow"):
        add_dataset(database, origin=ORIGIN, location=location)
    assert share(database).location == "new.arrow"


def test_whoever_deletes_and_shares_at_once_the_file_goes_with_its_last_dataset(
    database, database_url, connect, thorough
):
    own = [connect(database_url) for _ in range(4)]
    for turn in range(200 if thorough else 15):
        two = [add_dataset(database, origin=ORIGIN, location=f"{turn}.arrow") for _ in range(2)]

        def act(number, two=two):
            return remove(own[number], two[number]) if number < 2 else share(own[number])

        removed = race(2 + turn % 3, act)[:2]
        left = page(database).items
        assert removed.count(f"{turn}.arrow") == (not left), (turn, removed)
        for dataset in left:
            assert dataset.location == f"{turn}.arrow"
            removed.append(remove(database, dataset))
        assert removed.count(f"{turn}.arrow") == 1
