"""A job through its life: of two that race one wins, and who lost the job writes nothing."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import select, text

from app.store import checkpoints, jobs, trained_models
from app.store.errors import ConflictError, IllegalMoveError, LostClaimError, NotFoundError
from app.store.jobs import Retries, Signal
from app.store.lifecycle import LIVE, JobStatus
from app.store.tables import Artifact, Checkpoint, CurvePoint, Job, TrainedModel
from tests.app.store.rows import (
    OWNER,
    add_dataset,
    add_job,
    add_model,
    force,
    look,
    race,
    succeed,
    take,
)
from tests.waiting import wait_until


def point(epoch, **changes):
    return {
        "epoch": epoch,
        "step": 10 * epoch,
        "train_loss": 1 / epoch,
        "validation_loss": None,
        "learning_rate": 0.1,
        "seconds": 0.5 * epoch,
        "metrics": {"accuracy": 0.5},
        **changes,
    }


def expire(database):
    """Let every lease run out."""
    with database.writing() as session:
        session.execute(text("UPDATE jobs SET lease_expires = 0 WHERE status = 'running'"))


def reap(database, max_attempts=3):
    with database.writing() as session:
        return jobs.reap(session, Retries(max_attempts, 0))


# Submitting and looking.


def test_a_submitted_job_waits_with_what_it_was_given(database, dataset):
    job = add_job(
        database,
        dataset,
        name="first",
        metadata={"tag": ["x", None, 1.5]},
        spec={"dataset": dataset.id, "seed": 7},
        epochs=9,
        traceparent="00-ab-cd-01",
    )
    found = look(database, job.id)
    assert (found.status, found.version, found.attempt) == (JobStatus.QUEUED, 1, 0)
    assert (found.name, found.job_metadata) == ("first", {"tag": ["x", None, 1.5]})
    assert (found.spec, found.epochs) == ({"dataset": dataset.id, "seed": 7}, 9)
    assert abs(found.queued_at - time.time()) < 60
    assert found.started_at is None


@pytest.mark.usefixtures("job")
def test_the_row_stores_the_status_as_json_shows_it(database):
    with database.reading() as session:
        stored = session.scalar(text("SELECT status FROM jobs"))
    assert stored == "queued"


def test_a_job_needs_a_dataset_of_its_owner(database, dataset):
    described = {"spec": {}, "epochs": 1, "name": None, "metadata": None}
    for owner, dataset_id in (("charles", dataset.id), (OWNER, "ds_none")):
        with pytest.raises(NotFoundError), database.writing() as session:
            jobs.submit(session, owner=owner, dataset_id=dataset_id, **described)


def test_somebody_elses_job_is_not_found(database, job):
    acts = (jobs.get, jobs.request_cancel, jobs.request_pause, jobs.resume, jobs.remove)
    for act in acts:
        with pytest.raises(NotFoundError), database.writing() as session:
            act(session, "charles", job.id)
    with database.reading() as session:
        assert jobs.page(session, "charles", limit=9, cursor=None).items == []


def test_a_list_is_filtered_by_status_dataset_and_name(database, dataset):
    other = add_dataset(database)
    first = add_job(database, dataset, name="a")
    second = add_job(database, other, name="b")
    take(database, second)
    for wanted in ({"status": JobStatus.RUNNING}, {"dataset": other.id}, {"name": "b"}):
        with database.reading() as session:
            page = jobs.page(session, OWNER, limit=9, cursor=None, **wanted)
        assert [job.id for job in page.items] == [second.id]
    with database.reading() as session:
        page = jobs.page(session, OWNER, limit=9, cursor=None)
    assert [job.id for job in page.items] == [second.id, first.id]


# Claiming.


def test_of_workers_that_race_for_a_job_one_gets_it(database, database_url, job, connect):
    def act(number):
        with connect(database_url).writing() as session:
            return jobs.claim(session, job.id, f"worker:{number}", 30)

    claims = [claim for claim in race(8, act) if claim is not None]
    assert len(claims) == 1
    found = look(database, job.id)
    assert (found.status, found.attempt) == (JobStatus.RUNNING, 1)
    assert found.lease_owner == claims[0].worker
    assert found.started_at is not None


def test_a_claim_knows_what_to_do(job, claim):
    assert (claim.job_id, claim.owner, claim.dataset_id) == (job.id, OWNER, job.dataset_id)
    assert (claim.attempt, claim.spec) == (1, job.spec)


@pytest.mark.parametrize("status", sorted(set(JobStatus) - {JobStatus.QUEUED}))
def test_only_a_queued_job_can_be_claimed(database, job, status):
    force(database, job, status)
    with database.writing() as session:
        assert jobs.claim(session, job.id, "worker:1", 30) is None
        assert jobs.claim(session, "job_none", "worker:1", 30) is None


# Reporting.


def test_a_heartbeat_writes_progress_and_renews_the_lease(database, claim):
    before = look(database, claim.job_id)
    with database.writing() as session:
        progress = {"epoch": 2, "fraction": 0.4, "eta_seconds": 3.0, "samples_per_second": 100.0}
        assert jobs.heartbeat(session, claim, 90, **progress, metrics={"train_loss": 0.5}) == "go"
    after = look(database, claim.job_id)
    assert (after.epoch, after.fraction, after.eta_seconds) == (2, 0.4, 3.0)
    assert after.metrics == {"train_loss": 0.5}
    assert after.version == before.version + 1
    assert 50 < after.lease_expires - before.lease_expires < 70


def test_a_heartbeat_without_news_is_not_visible(database, claim):
    before = look(database, claim.job_id)
    with database.writing() as session:
        jobs.heartbeat(session, claim, 90)
    after = look(database, claim.job_id)
    assert after.version == before.version
    assert after.lease_expires > before.lease_expires


def test_a_curve_grows_and_is_read_from_where_the_caller_left_off(database, claim):
    with database.writing() as session:
        jobs.record_points(session, claim, [point(1), point(2, validation_loss=0.25)])
        jobs.record_points(session, claim, [])
        jobs.record_points(session, claim, [point(3)])
    with database.reading() as session:
        curve = jobs.curve(session, claim.job_id)
        assert [(p.epoch, p.validation_loss) for p in curve] == [(1, None), (2, 0.25), (3, None)]
        assert curve[0].metrics == {"accuracy": 0.5}
        assert [p.epoch for p in jobs.curve(session, claim.job_id, since=2)] == [3]


def test_a_curve_is_cut_where_training_goes_on(database, claim):
    with database.writing() as session:
        jobs.record_points(session, claim, [point(1), point(2), point(3)])
        jobs.truncate_curve(session, claim, 1)
        jobs.record_points(session, claim, [point(2, train_loss=9.0)])
    with database.reading() as session:
        assert [p.train_loss for p in jobs.curve(session, claim.job_id)] == [1.0, 9.0]


def test_a_job_succeeds_with_its_model(database, claim):
    model_id = succeed(database, claim)
    job = look(database, claim.job_id)
    assert (job.status, job.model_id, job.fraction) == (JobStatus.SUCCEEDED, model_id, 1.0)
    assert (job.lease_owner, job.lease_expires, job.eta_seconds) == (None, None, None)
    assert job.finished_at >= job.started_at >= job.created_at


def test_a_job_fails_with_a_reason(database, claim):
    with database.writing() as session:
        jobs.fail(session, claim, "diverged", "try a smaller learning rate")
    job = look(database, claim.job_id)
    assert (job.status, job.error_code) == (JobStatus.FAILED, "diverged")
    assert job.error_detail == "try a smaller learning rate"


# Fencing.


WRITES = {
    "record_points": lambda session, claim: jobs.record_points(session, claim, [point(7)]),
    "record_nothing": lambda session, claim: jobs.record_points(session, claim, []),
    "truncate_curve": lambda session, claim: jobs.truncate_curve(session, claim, 0),
    "save_checkpoint": lambda session, claim: checkpoints.save(session, claim, b"stale", 7, 70, []),
    "succeed": lambda session, claim: jobs.succeed(
        session, claim, add_model(session, claim), {}, "epochs"
    ),
    "fail": lambda session, claim: jobs.fail(session, claim, "internal", "stale"),
    "finish_cancelled": jobs.finish_cancelled,
    "requeue": jobs.requeue,
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_worker_that_lost_its_job_writes_nothing(database, job, claim, write):
    expire(database)
    assert reap(database) == [(job.id, JobStatus.QUEUED)]
    current = take(database, job)
    with database.writing() as session:
        jobs.record_points(session, current, [point(1)])
        checkpoints.save(session, current, b"current", 1, 10, [{"blas": 1}])
    before = look(database, job.id)

    with pytest.raises(LostClaimError), database.writing() as session:
        write(session, claim)
    with database.writing() as session:
        assert jobs.heartbeat(session, claim, 30, epoch=7) is Signal.LOST

    after = look(database, job.id)
    assert (after.version, after.status, after.attempt) == (before.version, "running", 2)
    with database.reading() as session:
        assert [p.epoch for p in jobs.curve(session, job.id)] == [1]
        assert checkpoints.load(session, job.id) == (b"current", [{"blas": 1}])
        assert trained_models.page(session, OWNER, limit=9, cursor=None).items == []


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_worker_cannot_change_a_job_that_has_ended(database, job, claim, write):
    with database.writing() as session:
        jobs.finish_cancelled(session, claim)
    with pytest.raises(LostClaimError), database.writing() as session:
        write(session, claim)
    assert look(database, job.id).status is JobStatus.CANCELLED


# Losing workers.


def test_a_job_whose_lease_ran_out_is_queued_again(database, job):
    take(database, job, lease_seconds=0.05)
    with database.writing() as session:
        jobs.mark_rung(session, [job.id])
    assert wait_until(lambda: reap(database)) == [(job.id, JobStatus.QUEUED)]
    found = look(database, job.id)
    assert (found.status, found.failures, found.lease_owner) == (JobStatus.QUEUED, 1, None)
    with database.reading() as session:
        assert jobs.due(session, limit=9, ring_again_seconds=999) == [job.id]
    assert take(database, job).attempt == 2


def test_a_job_whose_worker_reports_is_left_alone(database, job):
    claim = take(database, job, lease_seconds=0.05)
    with database.writing() as session:
        jobs.heartbeat(session, claim, 30)
    time.sleep(0.1)  # longer than the lease was at first
    assert reap(database) == []


def test_a_job_that_loses_its_workers_fails_in_the_end(database, job):
    outcomes = []
    for _ in range(3):
        take(database, job)
        expire(database)
        outcomes += reap(database, max_attempts=3)
    assert [status for _, status in outcomes] == ["queued", "queued", "failed"]
    found = look(database, job.id)
    assert (found.error_code, found.failures) == ("worker_lost", 3)
    assert "smaller network" in found.error_detail
    assert found.finished_at is not None


def test_a_job_handed_back_at_shutdown_does_not_count_as_lost(database, job):
    for attempt in range(1, 6):
        claim = take(database, job)
        assert claim.attempt == attempt
        with database.writing() as session:
            jobs.requeue(session, claim)
    assert look(database, job.id).failures == 0


@pytest.mark.parametrize(
    ("ask", "status"),
    [(jobs.request_cancel, JobStatus.CANCELLED), (jobs.request_pause, JobStatus.PAUSED)],
)
@pytest.mark.parametrize("leave", ["lost", "handed back"])
def test_a_wish_outlives_the_worker_that_did_not_hear_it(database, job, claim, ask, status, leave):
    with database.writing() as session:
        ask(session, OWNER, job.id)
    if leave == "lost":
        expire(database)
        assert reap(database) == [(job.id, status)]
    else:
        with database.writing() as session:
            jobs.requeue(session, claim)
    assert look(database, job.id).status is status


def test_reapers_that_race_count_a_loss_once(database, database_url, job, claim, connect):
    expire(database)
    assert claim.attempt == 1
    assert sum(race(6, lambda _: reap(connect(database_url))), []) == [(job.id, "queued")]
    assert look(database, job.id).failures == 1


# Cancelling, pausing, deleting.


@pytest.mark.parametrize("status", [JobStatus.QUEUED, JobStatus.PAUSED])
def test_a_job_that_waits_is_cancelled_at_once(database, job, status):
    force(database, job, status)
    with database.writing() as session:
        assert jobs.request_cancel(session, OWNER, job.id).status is JobStatus.CANCELLED
    assert look(database, job.id).finished_at is not None


def test_a_running_job_is_asked_to_stop_as_often_as_one_likes(database, job, claim):
    for _ in range(2):
        with database.writing() as session:
            assert jobs.request_cancel(session, OWNER, job.id).status is JobStatus.RUNNING
    with database.writing() as session:
        assert jobs.heartbeat(session, claim, 30) is Signal.CANCEL
        jobs.finish_cancelled(session, claim)
    assert look(database, job.id).status is JobStatus.CANCELLED


@pytest.mark.parametrize(
    ("ask", "status"), [(jobs.request_cancel, "cancelled"), (jobs.request_pause, "paused")]
)
def test_a_running_job_whose_worker_fell_silent_needs_no_worker_to_be_stopped(
    database, job, claim, ask, status
):
    expire(database)
    with database.writing() as session:
        assert ask(session, OWNER, job.id).status == status
    with pytest.raises(LostClaimError), database.writing() as session:
        jobs.record_points(session, claim, [point(1)])
    assert reap(database) == []


def test_a_running_job_is_paused_and_resumed(database, job, claim):
    with database.writing() as session:
        jobs.request_pause(session, OWNER, job.id)
    with database.writing() as session:
        assert jobs.heartbeat(session, claim, 30) is Signal.PAUSE
        jobs.requeue(session, claim)
    assert look(database, job.id).status is JobStatus.PAUSED
    with database.writing() as session:
        assert jobs.resume(session, OWNER, job.id).status is JobStatus.QUEUED
    again = take(database, job)
    with database.writing() as session:
        assert jobs.heartbeat(session, again, 30) is Signal.GO


def test_a_pause_that_no_worker_has_heard_of_is_taken_back(database, job, claim):
    with database.writing() as session:
        asked = jobs.request_pause(session, OWNER, job.id).version
    with database.writing() as session:
        resumed = jobs.resume(session, OWNER, job.id)
        assert (resumed.status, resumed.version) == (JobStatus.RUNNING, asked + 1)
        assert jobs.heartbeat(session, claim, 30) is Signal.GO
    with pytest.raises(IllegalMoveError), database.writing() as session:
        jobs.resume(session, OWNER, job.id)


def test_a_pause_that_is_taken_back_while_the_worker_leaves_queues_the_job(database, job, claim):
    with database.writing() as session:
        jobs.request_pause(session, OWNER, job.id)
        assert jobs.heartbeat(session, claim, 30) is Signal.PAUSE
    with database.writing() as session:
        jobs.resume(session, OWNER, job.id)
    with database.writing() as session:
        jobs.requeue(session, claim)
    found = look(database, job.id)
    assert (found.status, found.failures) == (JobStatus.QUEUED, 0)


@pytest.mark.parametrize("status", [JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED])
@pytest.mark.parametrize("act", [jobs.request_cancel, jobs.request_pause, jobs.resume])
def test_a_job_that_has_ended_cannot_be_stopped_or_resumed(database, job, status, act):
    force(database, job, status)
    with pytest.raises(IllegalMoveError), database.writing() as session:
        act(session, OWNER, job.id)


def test_resuming_does_not_take_a_running_job_from_its_worker(database, job, claim):
    with pytest.raises(IllegalMoveError), database.writing() as session:
        jobs.resume(session, OWNER, job.id)
    assert look(database, claim.job_id).status is JobStatus.RUNNING


def test_a_cancel_that_races_a_claim_is_never_lost(database, database_url, dataset, connect):
    for _ in range(10):
        job = add_job(database, dataset)

        def act(number, job=job):
            with connect(database_url).writing() as session:
                if number:
                    return jobs.request_cancel(session, OWNER, job.id)
                return jobs.claim(session, job.id, "worker:1", 30)

        claim, cancelled = race(2, act)
        assert not isinstance(cancelled, Exception)
        if claim is None:
            assert look(database, job.id).status is JobStatus.CANCELLED
        else:
            with database.writing() as session:
                assert jobs.heartbeat(session, claim, 30) is Signal.CANCEL


@pytest.mark.parametrize("status", sorted(LIVE))
def test_a_live_job_cannot_be_deleted(database, job, status):
    force(database, job, status)
    with pytest.raises(ConflictError, match="cancel it first"), database.writing() as session:
        jobs.remove(session, OWNER, job.id)


def test_a_deleted_job_leaves_nothing_but_its_model(database, job, claim):
    with database.writing() as session:
        jobs.record_points(session, claim, [point(1)])
    model_id = succeed(database, claim)
    with database.writing() as session:
        jobs.remove(session, OWNER, job.id)
    with database.reading() as session:
        assert session.scalars(select(CurvePoint)).all() == []
        model = trained_models.get(session, OWNER, model_id)
        assert model.job_id is None
        assert session.scalars(select(Artifact.id)).all() == [model.artifact_id]


def test_a_deleted_job_takes_its_checkpoint_along(database, claim):
    save_states(database, claim)
    with database.writing() as session:
        jobs.fail(session, claim, "diverged", "it did")
        jobs.remove(session, OWNER, claim.job_id)
    assert states(database) == (set(), 0)


# Checkpoints.


GOES_ON = {
    "requeue": jobs.requeue,
    "lose": lambda session, claim: jobs.give_up(session, claim, Retries(3, 0)),
    "fail": lambda session, claim: jobs.fail(session, claim, "diverged", "it did"),
    "cancel": jobs.finish_cancelled,
    "ask_to_cancel": lambda session, claim: jobs.request_cancel(session, OWNER, claim.job_id),
}


def save_states(database, *claims):
    with database.writing() as session:
        for claim in claims:
            checkpoints.save(session, claim, b"state", 1, 10, [])


def states(database):
    """Return the jobs that have a checkpoint, and how many artifacts are no model's."""
    with database.reading() as session:
        models = select(TrainedModel.artifact_id)
        left = session.scalars(select(Artifact.id).where(Artifact.id.not_in(models))).all()
        return set(session.scalars(select(Checkpoint.job_id))), len(left)


def test_the_checkpoint_of_a_job_that_succeeds_goes_with_its_bytes(database, dataset, claim):
    other = take(database, add_job(database, dataset), worker="worker:2")
    save_states(database, claim, other)
    succeed(database, claim)
    assert states(database) == ({other.job_id}, 1)


@pytest.mark.parametrize("act", GOES_ON.values(), ids=GOES_ON)
def test_the_checkpoint_of_any_other_job_stays(database, claim, act):
    save_states(database, claim)
    with database.writing() as session:
        act(session, claim)
    assert states(database) == ({claim.job_id}, 1)


# Ringing.


def test_jobs_are_due_in_order_until_the_doorbell_has_rung_for_them(database, dataset):
    first, second, third = (add_job(database, dataset).id for _ in range(3))
    with database.writing() as session:
        assert jobs.due(session, limit=2, ring_again_seconds=10) == [first, second]
        jobs.mark_rung(session, [first, second])
        assert jobs.due(session, limit=2, ring_again_seconds=10) == [third]
        time.sleep(0.01)
        assert jobs.due(session, limit=9, ring_again_seconds=0) == [first, second, third]
    take(database, add_job(database, dataset))
    with database.reading() as session:
        assert jobs.due(session, limit=9, ring_again_seconds=10) == [third]


# Whose turn it is.


def turn(database):
    """Take the job whose turn it is; return its id, or None."""
    with database.writing() as session:
        job_id = jobs.next_due(session)
        return job_id and jobs.claim(session, job_id, "worker:1", 30).job_id


def test_the_highest_priority_comes_first_then_who_waits_the_longest(database, dataset):
    waiting = [add_job(database, dataset, priority=priority).id for priority in (0, 5, -1, 5, 0)]
    turns = [turn(database) for _ in waiting]
    assert turns == [waiting[place] for place in (1, 3, 0, 4, 2)]
    assert turn(database) is None


def test_an_owner_of_many_jobs_does_not_make_another_wait(database, dataset):
    many = [add_job(database, dataset).id for _ in range(4)]
    theirs = add_dataset(database, owner="charles")
    few = [add_job(database, theirs).id for _ in range(2)]
    assert [turn(database) for _ in range(6)] == [many[0], few[0], many[1], few[1], *many[2:]]


def test_a_paused_job_has_no_turn(database, job):
    with database.writing() as session:
        jobs.request_pause(session, OWNER, job.id)
    assert turn(database) is None


def test_workers_that_ask_at_once_get_a_job_each(database, database_url, dataset, connect):
    waiting = [add_job(database, dataset).id for _ in range(6)]
    turns = race(8, lambda _: turn(connect(database_url)))
    assert sorted(filter(None, turns)) == sorted(waiting)
    assert turns.count(None) == 2


# Lost workers.


def test_a_job_that_lost_workers_is_tried_again_later_each_time(database, job):
    pauses = []
    for _ in range(4):
        take(database, job)
        expire(database)
        with database.writing() as session:
            jobs.reap(session, Retries(10, 100.0))
            waiting = session.get_one(Job, job.id)
            pauses.append(waiting.run_after - waiting.queued_at)
            waiting.run_after = None
    assert pauses == pytest.approx([0, 100, 200, 300], abs=0.1)


def test_nobody_takes_or_rings_for_a_job_before_its_time(database, job):
    with database.writing() as session:
        session.get_one(Job, job.id).run_after = 9e12
    assert turn(database) is None
    with database.writing() as session:
        assert jobs.claim(session, job.id, "worker:1", 30) is None
        assert jobs.due(session, limit=9, ring_again_seconds=0) == []
        session.get_one(Job, job.id).run_after = 1.0
    assert turn(database) == job.id


def test_a_dead_worker_is_buried_with_all_that_it_held_and_no_other(database, dataset):
    mine, other = add_job(database, dataset), add_job(database, dataset)
    for one, worker in ((mine, "host:7:1"), (other, "host:7:12")):
        with database.writing() as session:
            jobs.claim(session, one.id, worker, 30)
    with database.reading() as session:
        assert sorted(jobs.workers(session, "host:7:")) == ["host:7:1", "host:7:12"]
        assert len(jobs.workers(session, "host:")) == 2
        assert jobs.workers(session, "ho%:") == []
    with database.writing() as session:
        assert jobs.bury(session, "host:7:1", Retries(2, 0)) == [(mine.id, JobStatus.QUEUED)]
    assert look(database, other.id).status is JobStatus.RUNNING
    with database.writing() as session:
        jobs.claim(session, mine.id, "host:7:1", 30)
    with database.writing() as session:
        assert jobs.bury(session, "host:7:1", Retries(2, 0)) == [(mine.id, JobStatus.FAILED)]
    found = look(database, mine.id)
    assert found.error_code == "worker_crashed"
    assert "out of memory, 2 times" in found.error_detail


def test_a_claim_that_makes_no_progress_is_given_up_unless_it_is_lost_already(database, job):
    claim = take(database, job)
    with database.writing() as session:
        jobs.give_up(session, claim, Retries(3, 0))
    assert (look(database, job.id).status, look(database, job.id).failures) == ("queued", 1)
    second = take(database, job)
    with database.writing() as session:
        jobs.give_up(session, claim, Retries(3, 0))
        assert jobs.heartbeat(session, second, 30) is Signal.GO


def test_a_point_that_is_written_again_is_there_once(database, claim):
    points = [point(epoch) for epoch in (1, 2, 3)]
    with database.writing() as session:
        jobs.record_points(session, claim, points)
    with database.writing() as session:
        jobs.record_points(session, claim, points[1:])
    with database.reading() as session:
        assert [found.epoch for found in jobs.curve(session, claim.job_id)] == [1, 2, 3]
