"""Pruning deletes what nobody needs and nothing else, also beside a service that works."""

from __future__ import annotations

import os
import statistics
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from app import cli, prune
from app.config import Settings
from app.store import datasets, uploads
from app.store.blobs import Storage
from app.store.tables import Job, TrainedModel, new_id, now
from tests import servers
from tests.app.store.rows import OWNER, add_dataset, add_job, race, succeed, take

HOUR = 3600
MONTH = timedelta(days=30)
OTHERS = ("notes.txt", "table_of_contents.arrow")


@pytest.fixture
def settings(tmp_path, database_url):
    return Settings(home=tmp_path / "home", database_url=database_url)


@pytest.fixture
def storage(settings):
    return Storage(settings.resolved_storage_url)


@pytest.fixture
def put(storage, settings, tmp_path):
    """Put a file of eight bytes into the storage's folder, so many seconds old; return its name."""
    source = tmp_path / "source"
    source.write_bytes(b"contents")

    def one(name=None, age=2 * HOUR):
        name = name or f"{new_id('table')}.arrow"
        storage.put(source, name)
        path, then = Path(settings.resolved_storage_url) / name, time.time() - age
        os.utime(path, (then, then))
        return name

    return one


def sweep(settings, database, older_than=MONTH, *, models=False, dry_run=False):
    swept = prune.sweep(settings, database, older_than, models=models, dry_run=dry_run)
    return {each.name: (each.count, each.bytes) for each in swept if each.count}


def end_jobs(database, dataset, count, days=40):
    for _ in range(count):
        succeed(database, take(database, add_job(database, dataset)))
    with database.writing() as session:
        session.execute(update(Job).values(finished_at=now() - timedelta(days=days)))


def count(database, table):
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(table))


def test_a_service_that_is_clean_stays_as_it_is(settings, database, put):
    add_dataset(database, location=put())
    assert sweep(settings, database) == {}


def test_files_without_a_row_go_once_they_are_an_hour_old(settings, database, storage, put):
    kept = {put(), put(age=HOUR - 60), *map(put, OTHERS)}
    first = min(kept - set(OTHERS))
    add_dataset(database, location=first)
    for name in kept - set(OTHERS) - {first}:
        os.utime(Path(settings.resolved_storage_url) / name)
    put(), put(".incoming-abc_1"), put(new_id("probe"))
    assert sweep(settings, database) == {"files without a row": (3, 24)}
    assert {file.name for file in storage.files()} == kept


def test_a_file_that_gets_its_row_after_it_was_listed_stays(
    settings, database, storage, put, monkeypatch
):
    name = put()
    look = datasets.referred

    def late(*_):
        add_dataset(database, location=name)
        monkeypatch.setattr(datasets, "referred", look)
        return set()

    monkeypatch.setattr(datasets, "referred", late)
    assert sweep(settings, database) == {}
    assert storage.exists(name)


def test_uploads_that_broke_off_go_and_those_under_way_stay(settings, database):
    home = settings.uploads_folder
    (home / "dead").mkdir(parents=True)
    (home / "dead" / "upload").write_bytes(b"12345")
    with uploads.folder(home) as alive:
        for folder in (alive, home / "dead"):
            os.utime(folder, (0, 0))
        assert sweep(settings, database) == {"uploads that broke off": (1, 5)}
        assert list(home.iterdir()) == [alive]


def test_a_dry_run_says_the_same_and_deletes_nothing(settings, database, put):
    end_jobs(database, add_dataset(database), 3)
    put()
    said = sweep(settings, database, models=True, dry_run=True)
    assert said == {"jobs and their models": (3, 21), "files without a row": (1, 8)}
    assert sweep(settings, database, models=True, dry_run=True) == said
    assert sweep(settings, database, models=True) == said
    assert sweep(settings, database, models=True) == {}


def test_without_an_age_no_job_goes(settings, database, put):
    end_jobs(database, add_dataset(database), 3, days=9999)
    put()
    assert set(sweep(settings, database, None)) == {"files without a row"}
    assert count(database, Job) == 3


def test_two_at_once_share_the_work_and_count_everything_once(
    settings, database_url, connect, database, put
):
    end_jobs(database, add_dataset(database), 210)
    for _ in range(20):
        put()
    swept = race(2, lambda _: sweep(settings, connect(database_url)))
    kinds = ("jobs", "files without a row")
    totals = [sum(each.get(kind, (0, 0))[0] for each in swept) for kind in kinds]
    assert totals == [210 - count(database, Job), 20]
    sweep(settings, database)
    assert count(database, Job) == 0
    assert count(database, TrainedModel) == 210


def test_writers_hardly_wait_for_it(settings, database_url, connect, database):
    end_jobs(database, add_dataset(database), 600)
    over, waits = threading.Event(), []

    def write():
        own = connect(database_url)
        while not over.is_set():
            begin = time.monotonic()
            add_dataset(own)
            waits.append(time.monotonic() - begin)

    writer = threading.Thread(target=write)
    writer.start()
    assert sweep(settings, connect(database_url)) == {"jobs": (600, 0)}
    over.set()
    writer.join()
    assert len(waits) > 3
    assert statistics.median(waits) < 1.5


def test_after_each_batch_it_rests_for_as_long_as_the_batch_took():
    def remove(batch):
        time.sleep(0.1)  # what a batch takes
        return batch

    begin = time.monotonic()
    found = [(number, 1) for number in range(300)]
    assert prune._sweep("rows", found, remove, dry_run=False) == prune.Swept("rows", 300, 300)
    assert time.monotonic() - begin >= 0.4


def test_orphans_in_s3_go_as_well(database, database_url, s3_server, monkeypatch, tmp_path):
    for name, value in servers.s3_bucket(s3_server, "prune").items():
        monkeypatch.setenv(name, value)
    settings = Settings(home=tmp_path, database_url=database_url, storage_url="s3://prune/data")
    storage, source = Storage(settings.storage_url), tmp_path / "source"
    source.write_bytes(b"contents")
    kept, lost = (f"{new_id('table')}.arrow" for _ in range(2))
    for name in (kept, lost):
        storage.put(source, name)
    add_dataset(database, location=kept)
    assert sweep(settings, database) == {}
    monkeypatch.setattr(prune, "ORPHAN_SECONDS", -60.0)
    assert sweep(settings, database) == {"files without a row": (1, 8)}
    assert [file.name for file in storage.files()] == [kept]
    storage.delete(kept)


@pytest.mark.usefixtures("own_logs")
@pytest.mark.parametrize(
    ("arguments", "days", "left"),
    [
        ([], None, 2),
        ([], "30", 1),
        (["--older-than", "30d"], None, 1),
        (["--older-than", "1h"], "30", 0),
        (["--older-than", "52w"], "30", 2),
        (["--older-than", "30d", "--dry-run"], None, 2),
    ],
)
def test_the_command_takes_the_age_from_its_option_or_else_the_setting(
    monkeypatch, database_url, database, tmp_path, capsys, arguments, days, left
):
    dataset = add_dataset(database)
    end_jobs(database, dataset, 1)
    recent = add_job(database, dataset)
    succeed(database, take(database, recent))
    with database.writing() as session:
        a_day_ago = {"finished_at": now() - timedelta(days=1)}
        session.execute(update(Job).where(Job.id == recent.id).values(a_day_ago))
    monkeypatch.setenv("CHAINRULE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CHAINRULE_DATABASE_URL", database_url)
    if days:
        monkeypatch.setenv("CHAINRULE_RETENTION_DAYS", days)
    assert cli.main(["prune", *arguments]) == 0
    assert count(database, Job) == left
    said = capsys.readouterr().out
    assert ("would be deleted" in said) == ("--dry-run" in arguments)
    assert ("No job was looked at" in said) == (arguments == [] and days is None)
    with database.reading() as session:
        assert datasets.get(session, OWNER, dataset.id)
