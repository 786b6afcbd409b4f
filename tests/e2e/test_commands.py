"""The commands end when they are told to, leave no process behind, and say why they refuse."""

from __future__ import annotations

import signal
import time

import pytest

from app.store.blobs import Storage
from app.store.database import Database
from app.store.tables import Job
from tests.app.store.rows import look
from tests.e2e.services import END_SECONDS, IRIS, Caller, alive
from tests.waiting import wait_until
from tests.worker.work import add_table, queue

pytestmark = pytest.mark.e2e

ENDLESS = {"target": "species", "training": {"epochs": 1_000_000}}


@pytest.fixture
def call():
    """Call a service that a test started."""
    callers = []

    def open_one(command):
        caller = Caller(base_url=command.url, timeout=30)
        callers.append(caller)
        caller.wait_until_ready()
        return caller

    yield open_one
    for caller in callers:
        caller.close()


def stored(home, job):
    """Return a job as the database of a service that has ended has it."""
    database = Database(f"sqlite:///{home}/chainrule.db")
    try:
        with database.reading() as session:
            return session.get_one(Job, job)
    finally:
        database.dispose()


def test_with_the_default_settings_a_cancel_is_seen_within_two_seconds(start, call):
    caller = call(start("serve"))
    dataset = caller.upload()

    def is_quick():
        job = caller.submit(dataset, **ENDLESS)
        caller.wait_for_epoch(job, 2)
        return caller.seconds_to_cancel(job) <= 2

    assert any(is_quick() for _ in range(5))  # a busy machine may be late now and then


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_in_order_even_in_the_middle_of_a_job(start, call, tmp_path, number):
    serve = start("serve")
    caller = call(serve)
    job = caller.submit(caller.upload(), **ENDLESS)
    caller.wait_for_epoch(job, 1)
    assert len(alive(tmp_path)) > 4
    serve.tell(number)
    assert serve.wait() == 0
    assert alive(tmp_path) == []
    found = stored(tmp_path, job)
    assert (found.status, found.attempt, found.failures) == ("queued", 1, 0)
    assert serve.url in serve.printed.read_text()


def test_an_api_whose_parent_is_killed_leaves_the_port_to_the_next(start, call, tmp_path):
    assert start("migrate").wait() == 0
    first = start("api", CHAINRULE_API_WORKERS="2")
    caller = call(first)
    caller.wait_until_ready()
    assert len(alive(tmp_path)) > 1
    first.tell(signal.SIGKILL)
    wait_until(lambda: not alive(tmp_path), END_SECONDS)


def test_a_launcher_that_is_killed_takes_its_processes_with_it(start, call, tmp_path):
    serve = start("serve")
    caller = call(serve)
    job = caller.submit(caller.upload(), **ENDLESS)
    caller.wait_for_epoch(job, 1)
    serve.tell(signal.SIGKILL)
    wait_until(lambda: not alive(tmp_path), END_SECONDS)
    found = stored(tmp_path, job)
    assert (found.status, found.failures) == ("queued", 0)


@pytest.mark.rare
@pytest.mark.parametrize("broker", ["memory", "redis"])
def test_a_worker_that_is_to_end_while_its_child_does_not_listen_yet_ends_all_the_same(
    request, start, connect, sqlite_url, tmp_path, broker
):
    database, storage = connect(sqlite_url), Storage(str(tmp_path / "datasets"))
    dataset = add_table(database, storage, IRIS, tmp_path)
    job = queue(database, dataset, training={"epochs": 1_000_000})
    url = "memory://" if broker == "memory" else request.getfixturevalue("redis_url")
    worker = start("worker", CHAINRULE_BROKER_URL=url)
    worker.wait_for_output("ready.")
    wait_until(lambda: look(database, job).rung_at)
    time.sleep(0.2)  # for the message to reach the child, which takes a second to begin
    worker.tell(signal.SIGTERM)
    assert worker.wait() == 0
    assert (look(database, job).status, look(database, job).failures) == ("queued", 0)


def test_an_api_that_is_to_end_closes_its_streams_in_order(start, call):
    api = start("serve")
    caller = call(api)
    job = caller.submit(caller.upload(), **ENDLESS)
    with caller.stream("GET", f"/v1/jobs/{job}/events") as answer:
        told = answer.iter_lines()
        next(told)
        api.tell(signal.SIGTERM)
        assert list(told)[-1] == ""  # one that is cut off raises an error
    assert api.wait() == 0


def test_the_api_does_not_listen_to_strangers_without_keys(start):
    api = start("api", CHAINRULE_HOST="0.0.0.0")  # noqa: S104 - refused
    assert api.wait() == 2
    assert "CHAINRULE_API_KEYS" in api.logged.read_text()


def test_the_demo_reads_digits_and_leaves_no_process_behind(start, tmp_path):
    demo = start("demo")
    assert demo.wait(60) == 0
    said = demo.printed.read_text()
    [accuracy] = [line for line in said.splitlines() if "read correctly" in line]
    assert float(accuracy.split("%")[0]) >= 97
    assert "Traceback" not in demo.logged.read_text()
    assert alive(tmp_path) == []


@pytest.mark.rare
def test_a_demo_that_is_interrupted_twice_leaves_no_process_behind(start, tmp_path):
    demo = start("demo")
    demo.wait_for_output("is held out")
    demo.tell(signal.SIGINT)
    demo.wait_for_output("interrupted")
    demo.tell(signal.SIGINT)
    assert demo.wait() == 130
    assert demo.logged.read_text() == ""
    assert alive(tmp_path) == []
