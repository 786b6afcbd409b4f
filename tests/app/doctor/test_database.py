"""The doctor tells every state of a database and its queue apart, and changes none."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import text, update

from app import dispatch
from app.config import Settings
from app.doctor import database as doctor
from app.doctor.checks import examine
from app.doctor.report import CHECKS
from app.store import inspection, migrate
from app.store.database import Database, database_clock
from app.store.tables import Job
from tests.app.store.rows import add_dataset, add_job, take

DATABASE = [check for check in CHECKS if check.name == "database"]


@pytest.fixture(autouse=True)
def no_worker(monkeypatch, tmp_path):
    monkeypatch.setattr(dispatch, "ALIVE", tmp_path / "alive")
    return tmp_path / "alive"


@pytest.fixture
def look(tmp_path):
    def at(url, **changes):
        settings = Settings(home=tmp_path / "home", database_url=url, **changes)
        return {each.name: each for each in examine(DATABASE, settings)}

    return at


def test_a_migrated_database_is_well(look, database_url):
    found = look(database_url)
    kind = "SQLite 3." if database_url.startswith("sqlite") else "PostgreSQL 1"
    assert found["database"].fact.startswith(kind)
    assert " ms" in found["database"].fact
    assert {name: each.state for name, each in found.items() if each.state != "ok"} == {
        "workers": "warning"
    }
    assert ("integrity" in found) == database_url.startswith("sqlite")


def test_a_database_without_tables_is_to_be_migrated(look, empty_database_url, connect):
    connect(empty_database_url).ping()
    found = look(empty_database_url)["migrations"]
    assert (found.state, found.fact) == ("wrong", "not migrated: no tables")
    assert "chainrule migrate" in found.advice


def test_a_file_that_is_not_there_is_to_be_made_and_is_not_made_by_looking(look, tmp_path):
    found = look(f"sqlite:///{tmp_path / 'none.db'}")
    assert {name: each.state for name, each in found.items()} == {"database": "wrong"}
    assert "chainrule migrate" in found["database"].advice
    assert not (tmp_path / "none.db").exists()


def test_a_database_that_is_behind_is_to_be_migrated(look, empty_database_url, connect):
    migrate.upgrade(connect(empty_database_url), "0002")
    found = look(empty_database_url)
    assert (found["migrations"].state, found["migrations"].fact) == ("wrong", "behind the code")
    assert "chainrule migrate" in found["migrations"].advice
    assert "jobs" not in found


def test_a_database_that_is_ahead_needs_the_newer_release(look, database_url, database):
    with database.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    found = look(database_url)["migrations"]
    assert found.state == "wrong"
    assert "ahead" in found.fact
    assert "release" in found.advice


def test_a_file_without_the_write_ahead_log_is_told_and_left_so(look, sqlite_url, tmp_path):
    file = tmp_path / "chainrule.db"
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    before = file.read_bytes()
    found = look(sqlite_url)
    assert found["database file"].state == "warning"
    assert "journal mode delete" in found["database file"].fact
    assert file.read_bytes() == before
    assert found["jobs"].state == "ok"


def test_a_file_on_a_network_is_wrong(look, sqlite_url, monkeypatch):
    monkeypatch.setattr(doctor, "network_file_system", lambda _: "nfs4")
    found = look(sqlite_url)["database file"]
    assert found.state == "wrong"
    assert "nfs4" in found.fact
    assert "PostgreSQL" in found.advice


def test_a_file_that_is_damaged_is_found_to_be(look, sqlite_url, tmp_path):
    file = tmp_path / "chainrule.db"
    with sqlite3.connect(file) as connection:
        [page_bytes] = connection.execute("PRAGMA page_size").fetchone()
        [root] = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'ix_jobs_owner_kind_id'"
        ).fetchone()
    connection.close()
    with file.open("r+b") as damaged:
        damaged.seek((root - 1) * page_bytes)
        damaged.write(b"\xff" * page_bytes)
    found = look(sqlite_url)["integrity"]
    assert found.state == "wrong"
    assert "backup" in found.advice


def test_a_file_that_is_no_database_is_wrong(look, tmp_path):
    (tmp_path / "text.db").write_text("no database " * 1000)
    found = look(f"sqlite:///{tmp_path / 'text.db'}")["database"]
    assert found.state == "wrong" or "not a database" in found.fact


def test_a_large_file_is_looked_at_for_no_longer_than_allowed(sqlite_url, monkeypatch):
    monkeypatch.setattr(inspection, "STEPS", 1)
    with inspection.connected(sqlite_url) as connection:
        assert inspection.quick_check(connection, -1) is None
        assert inspection.quick_check(connection, 10) == "ok"


def test_looking_cannot_write(database_url):
    with inspection.connected(database_url) as connection, pytest.raises(Exception, match="read"):  # noqa: B017, PT011 - each driver has its own
        connection.execute(text("DELETE FROM jobs"))


def test_a_database_that_cannot_be_reached_is_wrong_without_its_password(look):
    found = look("postgresql://ada:hunter2@127.0.0.1:1/chain")["database"]
    assert found.state == "wrong"
    assert "CHAINRULE_DATABASE_URL" in found.advice
    assert "hunter2" not in found.fact


def test_a_frozen_postgresql_does_not_hang_the_doctor(look, postgres_server, postgres_url):
    with psycopg.connect(postgres_server + "postgres") as connection:
        [backend] = connection.execute("SELECT pg_backend_pid()").fetchone()
        server = psutil.Process(backend).parent()
    server.suspend()
    begin = time.monotonic()
    try:
        found = look(postgres_url)["database"]
    finally:
        server.resume()
    assert found.state == "wrong"
    assert time.monotonic() - begin < 6


@pytest.mark.parametrize(("seconds", "state"), [(0, "ok"), (100, "warning"), (-100, "warning")])
def test_clocks_that_differ_are_told(look, database_url, monkeypatch, seconds, state):
    clock = inspection.clock
    monkeypatch.setattr(inspection, "clock", lambda connection: clock(connection) + seconds)
    found = look(database_url)["clock"]
    assert found.state == state
    assert f"{abs(seconds)}." in found.fact
    if seconds:
        assert ("ahead" if seconds > 0 else "behind") in found.fact


def test_the_queue_is_counted_and_its_oldest_job_named(look, database_url, database):
    dataset = add_dataset(database)
    jobs = [add_job(database, dataset) for _ in range(3)]
    with database.writing() as session:
        earlier = {"queued_at": database_clock() - 5000}
        session.execute(update(Job).where(Job.id == jobs[1].id).values(earlier))
    take(database, jobs[0])
    found = look(database_url)
    assert found["jobs"].state == "ok"
    waits = "2 queued, 1 running; the oldest queued one waits for 5,0"
    assert found["jobs"].fact.startswith(waits)
    assert found["workers"].state == "ok"  # it holds a lease


def test_jobs_that_wait_without_a_worker_are_wrong(look, database_url, database):
    add_job(database, add_dataset(database))
    found = look(database_url)["workers"]
    assert found.state == "wrong"
    assert "chainrule worker" in found.advice


@pytest.mark.parametrize(("age", "state"), [(1, "ok"), (3600, "wrong")])
def test_a_worker_that_looked_lately_is_alive(
    look, database_url, database, no_worker: Path, age, state
):
    add_job(database, add_dataset(database))
    no_worker.touch()
    os.utime(no_worker, (time.time() - age, time.time() - age))
    assert look(database_url)["workers"].state == state


def test_a_running_job_that_nobody_took_over_is_wrong(look, database_url, database):
    job = add_job(database, add_dataset(database))
    take(database, job)
    with database.writing() as session:
        session.execute(update(Job).values(lease_expires=database_clock() - 20))
    assert look(database_url)["jobs"].state == "ok"  # a worker takes it over in a moment
    with database.writing() as session:
        session.execute(update(Job).values(lease_expires=database_clock() - 60))
    found = look(database_url)
    assert found["jobs"].state == found["workers"].state == "wrong"
    assert "1 running without a worker" in found["jobs"].fact


def test_looking_leaves_a_file_as_it_is(look, sqlite_url, tmp_path):
    database = Database(sqlite_url)
    add_job(database, add_dataset(database))
    database.dispose()
    before = (tmp_path / "chainrule.db").read_bytes()
    look(sqlite_url)
    assert (tmp_path / "chainrule.db").read_bytes() == before
