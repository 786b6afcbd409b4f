"""An owner gets what they may have and no more, also of those who race, and others go on."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, text, update

from app.store import datasets, jobs, quotas, retention
from app.store.database import database_clock
from app.store.errors import QuotaError, QuotaSpentError
from app.store.jobs import Retries, Signal
from app.store.lifecycle import JobStatus
from app.store.quotas import Quotas, Usage
from app.store.tables import Dataset, Job, TrainingUsage
from tests.app.store.rows import (
    OWNER,
    add_dataset,
    add_job,
    force,
    look,
    race,
    succeed,
    take,
)


def usage(database, owner=OWNER):
    with database.reading() as session:
        return quotas.usage(session, owner)


def beat(database, claim, limits=quotas.UNLIMITED):
    with database.writing() as session:
        return jobs.heartbeat(session, claim, 30, quotas=limits)


def let_pass(database, seconds):
    """Have the leases look as if they had been renewed so long ago."""
    with database.writing() as session:
        earlier = Job.lease_expires - seconds
        session.execute(
            update(Job).where(Job.lease_expires.is_not(None)).values(lease_expires=earlier)
        )


def train(database, job, seconds, worker="worker:1"):
    """Have a worker train a job for so long; return its claim."""
    claim = take(database, job, worker=worker)
    let_pass(database, seconds)
    assert beat(database, claim) is Signal.GO
    return claim


def make_older(database, hours):
    with database.writing() as session:
        session.execute(update(TrainingUsage).values(hour=TrainingUsage.hour - hours))


def due(database, limits):
    with database.writing() as session:
        return jobs.next_due(session, limits)


# What is counted.


def test_what_an_owner_has_is_counted_and_nothing_of_others(database):
    assert usage(database) == Usage(0, 0, 0, 0, 0.0)
    dataset, other = add_dataset(database, stored_bytes=10), add_dataset(database, stored_bytes=5)
    add_job(database, add_dataset(database, owner="charles", stored_bytes=1000))
    queued, paused, running, ended = (add_job(database, dataset) for _ in range(4))
    force(database, paused, JobStatus.PAUSED)
    train(database, running, seconds=100)
    force(database, ended, JobStatus.FAILED)
    found = usage(database)
    assert (found.datasets, found.dataset_bytes) == (2, 15)
    assert (found.queued_jobs, found.running_jobs) == (2, 1)
    assert found.training_seconds == pytest.approx(100, abs=20)
    with database.writing() as session:
        datasets.remove(session, OWNER, other.id)
        jobs.request_cancel(session, OWNER, queued.id)
    found = usage(database)
    assert (found.datasets, found.dataset_bytes, found.queued_jobs) == (1, 10, 1)


def test_the_sums_are_found_by_an_index_alone(sqlite_url, connect):
    queries = [
        "SELECT sum(stored_bytes) FROM datasets WHERE owner = 'a'",
        "SELECT count(*) FROM jobs WHERE owner = 'a' AND status IN ('queued', 'paused')",
    ]
    with connect(sqlite_url).reading() as session:
        for query in queries:
            [plan] = session.execute(text(f"EXPLAIN QUERY PLAN {query}")).all()
            assert "USING COVERING INDEX" in plan.detail


# Datasets.


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Quotas(datasets=2), "3 datasets with this one; the limit is 2; delete datasets"),
        (
            Quotas(dataset_bytes=2999),
            "3,000 bytes of datasets with this one, as they are stored; the limit is 2,999; delete",
        ),
    ],
)
def test_a_dataset_too_many_or_too_large_is_refused_until_one_goes(database, limits, said):
    first, _ = (add_dataset(database, stored_bytes=1000, quotas=limits) for _ in range(2))
    with pytest.raises(QuotaError, match=said):
        add_dataset(database, stored_bytes=1000, quotas=limits)
    add_dataset(database, owner="charles", stored_bytes=1000, quotas=limits)
    with database.writing() as session:
        datasets.remove(session, OWNER, first.id)
    add_dataset(database, stored_bytes=1000, quotas=limits)


@pytest.mark.parametrize("limits", [Quotas(datasets=5), Quotas(dataset_bytes=5 * 700)])
def test_of_uploads_that_race_so_many_are_kept_as_may(database_url, connect, database, limits):
    own = [connect(database_url) for _ in range(8)]

    def act(number):
        for _ in range(6):
            add_dataset(own[number], quotas=limits)

    refusals = race(8, act)
    assert all(isinstance(refusal, QuotaError) for refusal in refusals)
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Dataset)) == 5


# Jobs that wait.


def test_a_job_too_many_is_refused_until_one_has_begun(database, dataset):
    limits = Quotas(queued_jobs=2)
    first, second = (add_job(database, dataset, quotas=limits) for _ in range(2))
    with database.writing() as session:
        jobs.request_pause(session, OWNER, second.id)  # a paused one waits as well
    with pytest.raises(QuotaSpentError, match="3 waiting jobs with this one; the limit is 2; wait"):
        add_job(database, dataset, quotas=limits)
    add_job(database, add_dataset(database, owner="charles"), quotas=limits)
    take(database, first)
    add_job(database, dataset, quotas=limits)


def test_of_jobs_that_race_so_many_are_queued_as_may(database_url, connect, database, dataset):
    own = [connect(database_url) for _ in range(8)]

    def act(number):
        for _ in range(6):
            add_job(own[number], dataset, quotas=Quotas(queued_jobs=5))

    assert all(isinstance(refusal, QuotaSpentError) for refusal in race(8, act))
    assert usage(database).queued_jobs == 5


# Jobs that run.


def test_no_more_jobs_of_an_owner_run_than_may_and_others_go_on(database, dataset):
    limits = Quotas(running_jobs=1)
    first, second = (add_job(database, dataset) for _ in range(2))
    theirs = add_job(database, add_dataset(database, owner="charles"))
    claim = take(database, first)
    assert due(database, limits) == theirs.id
    take(database, theirs)
    assert due(database, limits) is None
    with database.reading() as session:
        rung = {"limit": 9, "ring_again_seconds": 0, "quotas": limits}
        assert jobs.due(session, **rung) == []
    succeed(database, claim)
    assert due(database, limits) == second.id


def test_of_workers_that_race_so_many_get_a_job_as_may(database_url, connect, database, dataset):
    own = [connect(database_url) for _ in range(6)]
    for _ in range(6):
        add_job(database, dataset)
    theirs = add_job(database, add_dataset(database, owner="charles"))

    def act(number):
        with own[number].writing() as session:
            job_id = jobs.next_due(session, Quotas(running_jobs=2))
            return job_id and jobs.claim(session, job_id, f"worker:{number}", 30).job_id

    claimed = [job_id for job_id in race(6, act) if job_id is not None]
    assert len(claimed) == 3
    assert theirs.id in claimed
    assert usage(database).running_jobs == 2


# Training seconds.


def test_the_time_since_the_last_renewal_counts_once(database, job):
    claim = take(database, job)
    for seconds in (10, 20):
        let_pass(database, seconds)
        beat(database, claim)
    for _ in range(3):
        beat(database, claim)
    assert usage(database).training_seconds == pytest.approx(30, abs=5)


def test_a_claim_that_is_lost_counts_no_more(database, job):
    claim = train(database, job, seconds=10)
    let_pass(database, 100)
    with database.writing() as session:
        assert jobs.reap(session, Retries(3, 0)) == [(job.id, JobStatus.QUEUED)]
    assert beat(database, claim) is Signal.LOST
    assert usage(database).training_seconds == pytest.approx(10, abs=5)


def test_training_counts_also_when_its_job_is_deleted(database, job):
    succeed(database, train(database, job, seconds=50))
    with database.writing() as session:
        jobs.remove(session, OWNER, job.id)
    assert usage(database).training_seconds == pytest.approx(50, abs=5)


def test_training_counts_for_a_day(database, job):
    train(database, job, seconds=50)
    make_older(database, 24)
    assert usage(database).training_seconds > 45
    make_older(database, 1)
    assert usage(database).training_seconds == 0
    with database.reading() as session:
        [(key, _)] = retention.old_usage().find(session)
    assert key[0] == OWNER
    with database.writing() as session:
        assert retention.old_usage().remove(session, [key]) == [key]


def test_what_still_counts_is_not_pruned(database, job):
    train(database, job, seconds=50)
    make_older(database, 24)
    with database.reading() as session:
        assert retention.old_usage().find(session) == []


def test_one_who_has_trained_for_long_enough_waits_and_others_go_on(database, dataset):
    limits = Quotas(training_seconds=60)
    first, second = (add_job(database, dataset, quotas=limits) for _ in range(2))
    theirs = add_job(database, add_dataset(database, owner="charles"))
    claim = train(database, first, seconds=40)
    assert beat(database, claim, limits) is Signal.GO
    assert due(database, limits) == theirs.id
    train(database, second, seconds=30, worker="worker:2")
    third = theirs
    with pytest.raises(
        QuotaSpentError, match="seconds of training within 24 hours; the limit is 60"
    ):
        add_job(database, dataset, quotas=limits)
    assert due(database, limits) == third.id
    take(database, theirs)
    assert due(database, limits) is None


def test_a_running_job_is_put_aside_once_the_time_is_used_up_and_goes_on_later(database, job):
    limits = Quotas(training_seconds=60)
    claim = train(database, job, seconds=61)
    assert beat(database, claim, limits) is Signal.PAUSE
    with database.writing() as session:
        jobs.requeue(session, claim)
    assert look(database, job.id).status is JobStatus.QUEUED
    assert due(database, limits) is None
    make_older(database, 25)
    assert due(database, limits) == job.id


def test_processes_count_apart_so_that_none_waits_for_another(database, dataset):
    for worker in ("worker:1", "worker:2"):
        train(database, add_job(database, dataset), 10, worker)
    with database.reading() as session:
        rows = session.scalars(select(TrainingUsage)).all()
        now = session.scalar(select(database_clock()))
    assert {row.worker for row in rows} == {"worker:1", "worker:2"}
    assert {row.hour for row in rows} <= {int(now // 3600), int(now // 3600) - 1}
