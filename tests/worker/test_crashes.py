"""Whatever happens to a worker at whichever statement, its job ends as if nothing had happened."""

from __future__ import annotations

import signal
import threading
from itertools import count

import pytest

from app.store import jobs
from app.store.jobs import Retries
from app.store.lifecycle import JobStatus
from tests.app.store.rows import look
from tests.worker.forks import DONE, forks
from tests.worker.work import curve, queue, weights
from worker.lease import host_name

SPEC = {
    "network": {"layers": [{"type": "dense", "units": 4}, {"type": "dropout", "rate": 0.2}]},
    "schedule": {"type": "cosine"},
    "training": {"epochs": 2, "batch_size": 64},
}
"""Some updates, and in them whatever a saved state could forget."""

SAMPLE_STEP = 11
"""One statement in so many is tried, unless tests are to be thorough. A report to the database has
another number of statements, so that each of its kinds has its turn."""

PATIENT = Retries(max_attempts=10_000, backoff_seconds=0)


@pytest.fixture(scope="module")
def fork():
    with forks() as run:
        yield run


@pytest.fixture
def work(fork, database_url, tmp_path):
    """Be a worker of the test's database that comes to harm, or to none."""
    folder = str(tmp_path / "datasets")

    def run(harm=None, at=0):
        return fork(url=database_url, folder=folder, harm=harm, at=at)

    return run


def bury(database):
    """Find dead workers, as a reconciler does."""
    with database.writing() as session:
        for worker in jobs.workers(session, host_name()):
            jobs.bury(session, worker, PATIENT)


@pytest.fixture
def outcome(database, tmp_path):
    """Return all that a job came to: weights, state, curve, and the figures told of it."""

    def of(job):
        found = look(database, job)
        assert found.status is JobStatus.SUCCEEDED, (found.status, found.error_detail)
        state = (tmp_path / "datasets" / f"{job}.state").read_text()
        return weights(database, found), state, curve(database, job), found.metrics

    return of


@pytest.fixture
def undisturbed(database, iris, work, outcome):
    """What a job comes to when nothing happens to it."""
    job = queue(database, iris, **SPEC)
    assert work() == 0
    return outcome(job)


@pytest.fixture
def watch(database_url, connect):
    """Read a job's curve again and again, from a thread of its own, for a ``with`` block."""

    class Watch(threading.Thread):
        def __init__(self, job):
            super().__init__()
            self._job, self._database = job, connect(database_url)
            self._over, self.seen = threading.Event(), []

        def run(self):
            while not self._over.wait(0.002):
                self.seen.append(curve(self._database, self._job))

        def __enter__(self):
            self.start()
            return self

        def __exit__(self, *_):
            self._over.set()
            self.join()

    return Watch


@pytest.fixture
def harmed(database, iris, work, thorough):
    """Queue a job for every statement of a job, or a sample, and have the harm come there."""

    def each(harm):
        for at in count(step=1 if thorough else SAMPLE_STEP):
            job = queue(database, iris, **SPEC)
            ended = work(harm, at)
            if ended == DONE:
                assert at > 50
                return
            yield job, ended

    return each


def test_a_worker_that_is_killed_before_any_statement_changes_nothing_in_the_end(
    database, work, harmed, outcome, undisturbed, watch
):
    for job, ended in harmed("kill"):
        assert ended == -signal.SIGKILL
        bury(database)
        with watch(job) as reader:
            while look(database, job).status is JobStatus.QUEUED:
                assert work() == 0
        assert outcome(job) == undisturbed
        assert all(read == undisturbed[2][: len(read)] for read in reader.seen)


@pytest.mark.parametrize("harm", ["ask", "ask_twice"])
def test_a_worker_that_is_asked_to_end_before_any_statement_puts_the_job_back_or_ends_it(
    database, work, harmed, outcome, undisturbed, harm
):
    left = []
    for job, ended in harmed(harm):
        assert ended == 0
        found = look(database, job)
        left.append(found.status)
        assert (found.lease_owner, found.failures) == (None, 0)
        while look(database, job).status is JobStatus.QUEUED:
            assert work() == 0
        assert look(database, job).attempt <= 2
        assert outcome(job) == undisturbed
    assert set(left) == {JobStatus.QUEUED, JobStatus.SUCCEEDED}
    assert left == sorted(left), "one that was asked early went on to the end"


def test_a_disk_that_is_full_or_a_server_that_is_gone_at_any_statement_costs_time_alone(
    database, work, harmed, outcome, undisturbed
):
    for job, ended in harmed("break_off"):
        assert ended == 0
        assert look(database, job).failures == 0
        while look(database, job).status is JobStatus.QUEUED:
            assert work() == 0
        assert outcome(job) == undisturbed
