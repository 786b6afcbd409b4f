"""A lease is renewed while the training is busy, and no longer than it gets on."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from types import SimpleNamespace

import pytest
from sqlalchemy import update

from app.config import Settings
from app.store import jobs
from app.store.database import UNAVAILABLE
from app.store.lifecycle import JobStatus
from app.store.tables import Job
from tests.app.store.rows import OWNER, look, take
from tests.waiting import wait_until
from worker.lease import Lease, worker_name

SHORT = Settings(lease_seconds=0.4, heartbeat_seconds=0.2)


def expires(database, job):
    return look(database, job.id).lease_expires


def test_a_lease_is_renewed_without_a_word_from_the_training(database, job):
    claim = take(database, job, lease_seconds=0.4)
    with Lease(database, claim, SHORT) as lease:
        time.sleep(1)  # twice as long as the lease
        with database.writing() as session:
            assert jobs.reap(session, jobs.Retries(3, 0)) == []
    lease.join()  # it may be at it just now
    renewed = expires(database, job)
    time.sleep(0.5)  # longer than the lease, so than any renewal
    assert expires(database, job) == renewed
    with database.writing() as session:
        assert jobs.reap(session, jobs.Retries(3, 0)) == [(job.id, JobStatus.QUEUED)]


def test_renewing_changes_nothing_that_a_caller_sees(database, job):
    claim = take(database, job)
    before = look(database, job.id).version
    with Lease(database, claim, SHORT):
        first = expires(database, job)
        wait_until(lambda: expires(database, job) != first)
    assert look(database, job.id).version == before


def test_a_lease_that_is_lost_is_not_taken_back(database, job):
    claim = take(database, job)
    with database.writing() as session:
        session.execute(update(Job).values(attempt=2, lease_expires=7.0))
    with Lease(database, claim, SHORT):
        time.sleep(0.5)  # for some renewals
    assert expires(database, job) == 7


def test_a_database_that_does_not_answer_does_not_end_it(database, job, monkeypatch):
    claim, writing, failed = take(database, job), database.writing, []

    def away():
        if not failed:
            failed.append(True)
            raise UNAVAILABLE[-1]("away")
        return writing()

    monkeypatch.setattr(database, "writing", away)
    first = expires(database, job)
    with Lease(database, claim, SHORT):
        wait_until(lambda: expires(database, job) != first)
    assert failed


@pytest.fixture
def kills(monkeypatch):
    """What would have been killed."""
    killed = []
    monkeypatch.setattr(os, "kill", lambda *what: killed.append(what))
    return killed


def test_a_training_that_hangs_is_given_back_and_its_process_ended(database, job, kills):
    claim = take(database, job)
    hasty = SHORT.model_copy(update={"stall_seconds": 0.05})
    with Lease(database, claim, hasty):
        wait_until(lambda: kills)
    assert kills[0] == (os.getpid(), signal.SIGKILL)
    found = look(database, job.id)
    assert (found.status, found.failures) == (JobStatus.QUEUED, 1)


def test_a_job_on_which_training_after_training_hangs_fails_and_says_so(database, job, kills):
    hasty = SHORT.model_copy(update={"stall_seconds": 0.05, "max_attempts": 1})
    with Lease(database, take(database, job), hasty):
        wait_until(lambda: kills)
    with database.reading() as session:
        found = jobs.get(session, OWNER, job.id)
    assert (found.status, found.error_code) == (JobStatus.FAILED, "stalled")
    assert "no progress" in found.error_detail


def test_a_training_that_gets_on_is_left_alone(database, job, kills):
    patient = SHORT.model_copy(update={"stall_seconds": 0.3})
    with Lease(database, take(database, job), patient) as lease:
        for _ in range(10):
            time.sleep(0.1)  # three times as long as a hung training has, all told
            lease.progress()
    assert not kills


def test_to_wait_for_the_database_is_not_to_hang(database, job, kills, monkeypatch):
    clock, writing = SimpleNamespace(seconds=0.0), database.writing
    monkeypatch.setattr("worker.lease.time", SimpleNamespace(monotonic=lambda: clock.seconds))

    def away():
        if not clock.seconds:
            clock.seconds = 2 * SHORT.stall_seconds
            raise UNAVAILABLE[-1]("away")
        return writing()

    claim, first = take(database, job), expires(database, job)
    monkeypatch.setattr(database, "writing", away)
    with Lease(database, claim, SHORT):
        wait_until(lambda: expires(database, job) != first)
    assert clock.seconds
    assert not kills


def test_a_worker_is_named_by_machine_namespace_and_process():
    name = worker_name()
    assert name.startswith(f"{socket.gethostname()}:")
    assert name.endswith(f":{os.getpid()}")
    assert re.fullmatch(r"[^:]+:(\d+:)?\d+", name)
