"""Equal uploads of one owner share a file, which lasts as long as one of them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from app import prune
from app.api import uploads
from tests import servers
from tests.app.api.callers import IRIS, KEYS, Caller, csv, each_database, parts, run
from tests.app.store.rows import race

TABLE = csv("a,b", "1,2", "3,4")
CHANGES = {
    "other bytes": {"data": csv("a,b", "1,2", "3,5")},
    "another format": {"kind": "text/tab-separated-values"},
    "other options": {"query": '?options={"header":false}'},
}


def files(caller):
    return [file.name for file in parts(caller.app).storage.files()]


def location(caller):
    [name] = files(caller)
    return Path(parts(caller.app).settings.resolved_storage_url) / name


def rows(caller, dataset):
    return caller.get(f"/v1/datasets/{dataset}/rows").json["data"]


def remove(caller, dataset):
    return caller.delete(f"/v1/datasets/{dataset}").status_code


@pytest.fixture
def readings(monkeypatch):
    """What was read into an Arrow file, one after another."""
    read, ingest = [], uploads.ingest
    monkeypatch.setattr(uploads, "ingest", lambda *given: read.append(given) or ingest(*given))
    return read


@each_database
def test_an_equal_upload_is_a_dataset_of_its_own_that_is_not_read_again(ada, readings):
    one, two = ada.send(TABLE).json, ada.send(TABLE, query="?name=again").json
    assert (len(readings), len(files(ada))) == (1, 1)
    assert one["id"] != two["id"]
    assert (one["name"], two["name"]) == ("untitled.csv", "again")
    described = set(one) - {"id", "name", "created_at"}
    assert {key: one[key] for key in described} == {key: two[key] for key in described}
    assert rows(ada, two["id"]) == rows(ada, one["id"]) == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert remove(ada, one["id"]) == 204
    assert rows(ada, two["id"]) == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert remove(ada, two["id"]) == 204
    assert files(ada) == []


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_another_upload_has_a_file_of_its_own(ada, readings, change):
    for upload in ({}, change):
        assert ada.send(**{"data": TABLE, **upload}).status_code == 201
    assert (len(readings), len(files(ada))) == (2, 2)


def test_another_owner_shares_nothing_and_cannot_tell(ada, charles, readings):
    for caller in (ada, charles):
        caller.dataset(TABLE)
    assert (len(readings), len(files(ada))) == (2, 2)


def test_each_counts_for_the_quota_as_if_it_were_alone(make_app):
    size = Caller(make_app(), KEYS["charles"]).send(TABLE).json["stored_bytes"]
    ada = Caller(make_app(owner_dataset_bytes=3 * size - 1), KEYS["ada"])
    first = ada.dataset(TABLE)
    ada.dataset(TABLE)
    assert ada.get("/v1/usage").json["dataset_bytes"]["used"] == 2 * size
    assert ada.send(TABLE).status_code == 403
    assert rows(ada, first)


@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(b"no"), Path.unlink])
def test_a_file_that_is_damaged_or_gone_is_not_shared(ada, readings, damage):
    ada.dataset(IRIS)
    damage(location(ada))
    again = [ada.dataset(IRIS) for _ in range(2)]
    assert len(readings) == 2
    assert [len(rows(ada, dataset)) for dataset in again] == [10, 10]


@each_database
def test_equal_uploads_at_once_end_up_with_one_file(make_app):
    callers = [Caller(make_app(), KEYS["ada"]) for _ in range(3)]
    for turn in range(3):
        table = csv("a", str(turn))
        sent = race(3, lambda number, table=table: callers[number].dataset(table))
        assert [rows(callers[0], dataset) for dataset in sent] == [[{"a": turn}]] * 3
        assert len(files(callers[0])) == turn + 1


@each_database
def test_an_upload_keeps_its_rows_while_the_only_equal_one_is_deleted(make_app):
    callers = [Caller(make_app(), KEYS["ada"]) for _ in range(2)]
    for turn in range(5):
        first = callers[0].dataset(TABLE)

        def act(number, first=first):
            return callers[number].dataset(TABLE) if number else remove(callers[0], first)

        removed, second = race(2, act)
        assert removed == 204
        assert rows(callers[0], second) == [{"a": 1, "b": 2}, {"a": 3, "b": 4}], turn
        assert len(files(callers[0])) == 1
        assert remove(callers[0], second) == 204
        assert files(callers[0]) == []


@each_database
def test_pruning_beside_takes_no_file_that_is_shared(ada, monkeypatch):
    monkeypatch.setattr(prune, "ORPHAN_SECONDS", 5.0)
    services, over = parts(ada.app), threading.Event()

    def sweep():
        while not over.is_set():
            list(
                prune.sweep(services.settings, services.database, None, models=False, dry_run=False)
            )

    dataset = ada.dataset(TABLE)
    os.utime(location(ada), (0, 0))  # old enough to be swept in any moment without a row
    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for _ in range(10):
            older, dataset = dataset, ada.dataset(TABLE)
            assert remove(ada, older) == 204
            assert len(rows(ada, dataset)) == 2
    finally:
        over.set()
        sweeper.join()
    assert len(files(ada)) == 1


def test_what_a_crash_before_the_file_is_deleted_leaves_is_swept_and_shared_with_nobody(
    ada, monkeypatch
):
    services = parts(ada.app)
    monkeypatch.setattr(type(services.storage), "delete", lambda *_: pytest.fail("as if killed"))
    first, second = ada.dataset(TABLE), ada.dataset(TABLE)
    assert remove(ada, first) == 204  # deletes no file
    with pytest.raises(pytest.fail.Exception):
        remove(ada, second)
    monkeypatch.undo()
    [left] = files(ada)
    assert rows(ada, ada.dataset(TABLE)) == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    monkeypatch.setattr(prune, "ORPHAN_SECONDS", -60.0)
    list(prune.sweep(services.settings, services.database, None, models=False, dry_run=False))
    assert left not in files(ada)
    assert len(files(ada)) == 1


def test_api_and_worker_on_two_hosts_share_nothing_but_database_and_s3(
    make_app, s3_server, monkeypatch, tmp_path
):
    for name, value in servers.s3_bucket(s3_server, "two-hosts").items():
        monkeypatch.setenv(name, value)
    one, other = (
        make_app(home=tmp_path / host, storage_url="s3://two-hosts/datasets")
        for host in ("one", "other")
    )
    ada = Caller(one, KEYS["ada"])
    dataset = ada.dataset()
    job = ada.job(dataset)
    run(other, job)
    assert ada.get(f"/v1/jobs/{job}").json["status"] == "succeeded"
    assert Caller(other, KEYS["ada"]).dataset() != dataset  # which shares the file
    [name] = files(ada)
    assert [path.name for path in (tmp_path / "other" / "cache").iterdir()] == [name]
    assert not (tmp_path / "one" / "cache").exists()
    ada.delete(f"/v1/datasets/{dataset}")
    assert files(ada) == [name]
