"""The reconciler rings for jobs that nobody looks at, takes over from the dead, and survives."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress

import pytest
import redis
from amqp.exceptions import ChannelError
from kombu.exceptions import OperationalError
from sqlalchemy import update

from app.config import Settings
from app.store import jobs, migrate
from app.store.lifecycle import JobStatus
from app.store.tables import Job
from tests.app.store.rows import OWNER, add_dataset, add_job, look, take
from tests.waiting import PATIENCE_SECONDS, wait_until
from tests.worker.work import expire
from worker.lease import host_name
from worker.reconciler import SLOW_SECONDS, Reconciler

HOUR = 3600.0
BUSY_SECONDS = 3
"""What a machine that has more to do than it can may add to a bound."""


class Bell:
    """Remembers the jobs that it was rung for, and what is to happen at the next ring."""

    def __init__(self):
        self.rung, self.meanwhile = [], None
        self._changed = threading.Condition()

    def __call__(self, job_id):
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        with self._changed:
            self.rung.append(job_id)
            self._changed.notify_all()

    def wait_for(self, job_id):
        """Wait until it was rung for a job."""
        with self._changed:
            assert self._changed.wait_for(lambda: job_id in self.rung, PATIENCE_SECONDS)


@pytest.fixture
def bell():
    return Bell()


@pytest.fixture
def ended():
    """The processes that were to be ended."""
    return []


@pytest.fixture
def make_reconciler(bell, ended):
    """Make reconcilers that look at a database; those that were started end with the test."""
    made = []

    def make(backlog=0, embedded=False, **settings):
        told = Settings(**settings)
        made.append(Reconciler(told, bell, lambda: backlog, ended.append, embedded=embedded))
        return made[-1]

    yield make
    for thread in made:
        thread.stop()
        if thread.ident is not None:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()


def age(database, seconds):
    """Let so much time pass since the bell last rang."""
    with database.writing() as session:
        session.execute(update(Job).values(rung_at=Job.rung_at - seconds))


# Ringing.


def test_it_rings_once_for_every_queued_job_the_longest_waiting_first(
    database, dataset, bell, make_reconciler
):
    queued = [add_job(database, dataset).id for _ in range(3)]
    take(database, add_job(database, dataset))
    reconciler = make_reconciler()
    reconciler.ring(database)
    reconciler.ring(database)
    assert bell.rung == queued


@pytest.mark.parametrize(
    ("backlog", "seconds", "again"),
    [(0, 9, False), (0, 11, True), (1, 11, False), (1, 599, False), (1, 601, True)],
)
def test_it_rings_again_soon_where_the_message_is_gone_and_rarely_where_the_job_only_waits(
    database, job, bell, make_reconciler, backlog, seconds, again
):
    reconciler = make_reconciler(backlog=backlog)
    reconciler.ring(database)
    age(database, seconds)
    reconciler.ring(database)
    assert bell.rung == [job.id] * (1 + again)


def test_it_looks_again_sooner_where_it_looks_for_the_dead_more_often(
    database, job, bell, make_reconciler
):
    reconciler = make_reconciler(reap_seconds=1)
    reconciler.ring(database)
    age(database, 3)
    reconciler.ring(database)
    assert bell.rung == [job.id] * 2


def test_an_embedded_worker_begins_with_all_that_the_one_before_was_rung_for(
    database, job, bell, make_reconciler
):
    make_reconciler(embedded=True).ring(database)
    reconciler = make_reconciler(embedded=True)
    for _ in range(3):
        reconciler.ring(database)
    assert bell.rung == [job.id] * 2


# Taking over.


def test_a_job_whose_lease_ran_out_is_queued_and_rung_for(
    database, database_url, job, bell, make_reconciler
):
    take(database, job)
    expire(database)
    make_reconciler(database_url=database_url).start()
    bell.wait_for(job.id)
    found = look(database, job.id)
    assert (found.status, found.failures, found.lease_owner) == (JobStatus.QUEUED, 1, None)


def test_a_job_whose_lease_holds_is_left_alone(database, job, make_reconciler):
    take(database, job)
    make_reconciler().reap(database)
    assert look(database, job.id).status is JobStatus.RUNNING


def test_a_process_of_this_machine_that_fell_silent_is_ended_and_no_other(
    database, dataset, ended, make_reconciler
):
    silent, elsewhere, busy = (add_job(database, dataset) for _ in range(3))
    hold_by(database, silent, os.getpid())
    take(database, elsewhere)
    expire(database)
    hold_by(database, busy, os.getppid())
    make_reconciler().reap(database)
    assert ended == [os.getpid()]
    for job, status in ((silent, "queued"), (elsewhere, "queued"), (busy, "running")):
        assert look(database, job.id).status == status


def test_a_job_that_costs_worker_after_worker_fails(database, job, make_reconciler):
    reconciler = make_reconciler(max_attempts=3, backoff_seconds=0)
    for failures in (1, 2, 3):
        assert look(database, job.id).status is JobStatus.QUEUED
        take(database, job)
        expire(database)
        reconciler.reap(database)
        assert look(database, job.id).failures == failures
    found = look(database, job.id)
    assert (found.status, found.error_code) == (JobStatus.FAILED, "worker_lost")
    assert "stopped answering 3 times" in found.error_detail


def hold_by(database, job, process):
    """Have a process of this machine hold a job's lease."""
    with database.writing() as session:
        assert jobs.claim(session, job.id, f"{host_name()}{process}", HOUR)


def test_a_job_whose_process_is_dead_is_queued_without_waiting_for_its_lease(
    database, job, make_reconciler
):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    hold_by(database, job, dead.pid)
    make_reconciler().look(database)
    found = look(database, job.id)
    assert (found.status, found.failures) == (JobStatus.QUEUED, 1)


def test_a_job_whose_process_is_a_zombie_is_not_left_to_its_lease(database, job, make_reconciler):
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    hold_by(database, job, zombie.pid)
    make_reconciler().look(database)
    assert look(database, job.id).status is JobStatus.QUEUED
    zombie.wait()


def test_a_job_whose_process_lives_or_is_elsewhere_is_left_to_its_lease(
    database, dataset, make_reconciler
):
    here, there = add_job(database, dataset), add_job(database, dataset)
    hold_by(database, here, os.getpid())
    with database.writing() as session:
        jobs.claim(session, there.id, "elsewhere:1:999999", HOUR)
    make_reconciler().look(database)
    assert look(database, here.id).status is look(database, there.id).status is JobStatus.RUNNING


@pytest.mark.parametrize("moment", ["before", "after"])
def test_after_the_database_was_away_workers_get_the_time_to_renew(
    database, job, make_reconciler, monkeypatch, moment
):
    reconciler = make_reconciler(lease_seconds=2, heartbeat_seconds=1)
    take(database, job)
    expire(database)
    reading, slow_seconds = database.reading, 0.3
    monkeypatch.setattr("worker.reconciler.SLOW_SECONDS", slow_seconds)

    @contextmanager
    def away():
        if moment == "before":
            time.sleep(slow_seconds)
        with reading() as session:
            yield session
        if moment == "after":
            time.sleep(slow_seconds)

    with monkeypatch.context() as patch:
        patch.setattr(database, "reading", away)
        reconciler.look(database)
    reconciler.look(database)
    assert look(database, job.id).status is JobStatus.RUNNING

    def reaped():
        reconciler.look(database)
        return look(database, job.id).status is JobStatus.QUEUED

    wait_until(reaped)


@pytest.mark.parametrize("answer", [None, OperationalError("frozen")])
def test_a_broker_that_takes_its_time_keeps_nobody_from_being_reaped(
    database, dataset, job, bell, make_reconciler, answer
):
    reconciler = make_reconciler(lease_seconds=2, heartbeat_seconds=1, reap_seconds=0.1)
    take(database, job)
    expire(database)
    add_job(database, dataset)

    def be_slow():
        time.sleep(1)  # longer than a pause between two looks is without anything wrong
        if answer is not None:
            raise answer

    bell.meanwhile = be_slow
    with suppress(OperationalError):
        reconciler.ring(database)
    reconciler.look(database)
    assert look(database, job.id).status is JobStatus.QUEUED


def test_a_database_that_goes_away_while_leases_are_looked_at_costs_nobody_the_job(
    database, job, make_reconciler, connect, database_url
):
    reconciler = make_reconciler(lease_seconds=2, heartbeat_seconds=1)
    take(database, job)
    expire(database)
    begun = threading.Event()

    def be_slow():
        with connect(database_url).writing() as session:
            jobs.get(session, OWNER, job.id, lock=True)
            begun.set()
            time.sleep(SLOW_SECONDS + 0.2)  # longer than a database that is there takes

    slow = threading.Thread(target=be_slow)
    slow.start()
    begun.wait()
    reconciler.reap(database)
    slow.join()
    assert look(database, job.id).status is JobStatus.RUNNING
    reconciler.reap(database)
    assert look(database, job.id).status is JobStatus.QUEUED


def test_a_reconciler_that_was_frozen_reaps_nobody_at_once(database, job, make_reconciler):
    reconciler = make_reconciler(lease_seconds=2, heartbeat_seconds=1, reap_seconds=0.1)
    take(database, job)
    expire(database)
    time.sleep(1)  # longer than a pause between two looks is without anything wrong
    reconciler.look(database)
    assert look(database, job.id).status is JobStatus.RUNNING


def test_a_silent_worker_is_found_within_its_lease_and_two_looks(
    database, database_url, dataset, make_reconciler, thorough
):
    lease_seconds, reap_seconds = 0.4, 0.1
    make_reconciler(
        database_url=database_url,
        lease_seconds=lease_seconds,
        heartbeat_seconds=0.1,
        reap_seconds=reap_seconds,
    ).start()
    for _ in range(50 if thorough else 5):
        job = add_job(database, dataset)
        claim = take(database, job, lease_seconds=lease_seconds)
        wait_until(lambda job=job: look(database, job.id).failures)
        found = look(database, job.id)
        assert (found.attempt, found.status) == (claim.attempt, JobStatus.QUEUED)
        late = found.queued_at - found.claimed_at - lease_seconds
        assert 0 <= late < 2 * reap_seconds + BUSY_SECONDS


def test_a_cancel_that_the_dead_worker_did_not_hear_is_honoured(database, job, make_reconciler):
    take(database, job)
    with database.writing() as session:
        jobs.request_cancel(session, OWNER, job.id)
    expire(database)
    make_reconciler().reap(database)
    assert look(database, job.id).status is JobStatus.CANCELLED


# Surviving.


def test_it_waits_for_a_database_that_is_not_there_yet(
    empty_database_url, connect, bell, make_reconciler, caplog
):
    database = connect(empty_database_url)
    make_reconciler(database_url=empty_database_url, reap_seconds=0.05).start()
    wait_until(lambda: "does not answer" in caplog.text)
    migrate.upgrade(database)
    job = add_job(database, add_dataset(database))
    bell.wait_for(job.id)


@pytest.mark.parametrize(
    "error",
    [OperationalError(), ChannelError(), redis.ConnectionError(), OSError()],
    ids=lambda error: type(error).__module__,
)
def test_it_rings_later_where_the_broker_does_not_answer(
    database_url, job, bell, make_reconciler, error
):
    def fail():
        raise error

    bell.meanwhile = fail
    make_reconciler(database_url=database_url, reap_seconds=0.05).start()
    bell.wait_for(job.id)


@pytest.mark.parametrize("embedded", [False, True])
def test_it_ends_soon_after_it_is_told_to(database_url, job, bell, make_reconciler, embedded):
    reconciler = make_reconciler(database_url=database_url, embedded=embedded, reap_seconds=HOUR)
    reconciler.start()
    bell.wait_for(job.id)
    reconciler.stop()
    reconciler.join(PATIENCE_SECONDS)
    assert not reconciler.is_alive()


def test_it_shows_that_it_looks(database_url, job, bell, make_reconciler, tmp_path, monkeypatch):
    alive = tmp_path / "alive"
    monkeypatch.setattr("worker.reconciler.ALIVE", alive)
    make_reconciler(database_url=database_url, reap_seconds=0.05).start()
    bell.wait_for(job.id)
    wait_until(alive.exists)
    alive.unlink()
    wait_until(alive.exists)


# The embedded mode.


def test_an_embedded_worker_is_woken_by_a_commit(
    database, database_url, dataset, connect, bell, make_reconciler
):
    first = add_job(database, dataset)
    make_reconciler(database_url=database_url, embedded=True, reap_seconds=HOUR).start()
    bell.wait_for(first.id)
    elsewhere = connect(database_url)
    for _ in range(3):
        job = add_job(elsewhere, dataset)
        bell.wait_for(job.id)
    assert set(Counter(bell.rung).values()) == {1}


def test_an_embedded_worker_does_not_miss_what_is_committed_while_it_rings(
    database, database_url, dataset, bell, make_reconciler
):
    added = [add_job(database, dataset).id]
    bell.meanwhile = lambda: added.append(add_job(database, dataset).id)
    make_reconciler(database_url=database_url, embedded=True, reap_seconds=HOUR).start()
    bell.wait_for(added[0])
    bell.wait_for(added[1])
