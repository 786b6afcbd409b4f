"""What may go is found and removed; what is in use stays, whoever else deletes at the same time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from app.store import artifacts, checkpoints, idempotency, jobs, retention, trained_models
from app.store.lifecycle import LIVE, TERMINAL, JobStatus
from app.store.tables import (
    Artifact,
    ArtifactChunk,
    Checkpoint,
    CurvePoint,
    IdempotencyKey,
    Job,
    TrainedModel,
    now,
)
from tests.app.store.rows import OWNER, add_job, add_model, force, race, take

DAY = timedelta(days=1)
POINT = {
    "epoch": 1,
    "step": 1,
    "train_loss": 1.0,
    "validation_loss": None,
    "learning_rate": 0.1,
    "seconds": 0.1,
    "metrics": {},
}


def ended(database, dataset, days=40, status=None):
    """Add a job that ended so long ago, with all that any job may have left."""
    job = add_job(database, dataset)
    claim = take(database, job)
    with database.writing() as session:
        jobs.record_points(session, claim, [POINT])
        checkpoints.save(session, claim, b"state", 1, 1, [])
        add_model(session, claim)
        jobs.fail(session, claim, "diverged", "it did")
    if status is not None:
        force(database, job, status)
    with database.writing() as session:
        when = {"finished_at": now() - days * DAY}
        session.execute(update(Job).where(Job.id == job.id).values(when))
    return job


def found(database, kind):
    with database.reading() as session:
        return kind.find(session)


def remove(database, kind):
    keys = [key for key, _ in found(database, kind)]
    with database.writing() as session:
        return list(kind.remove(session, keys))


def count(database, table):
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(table))


def old(*, with_models=False):
    return retention.ended_jobs(now() - 30 * DAY, with_models=with_models)


def test_an_old_job_goes_with_curve_and_checkpoint_and_leaves_its_model(database, dataset):
    job = ended(database, dataset)
    young = ended(database, dataset, days=20)
    assert found(database, old()) == [(job.id, len(b"state") + retention.POINT_BYTES)]
    assert remove(database, old()) == [job.id]
    assert [count(database, table) for table in (Job, CurvePoint, Checkpoint)] == [1, 1, 1]
    assert count(database, TrainedModel) == 2
    assert count(database, Artifact) == count(database, ArtifactChunk) == 3
    with database.reading() as session:
        jobs.get(session, OWNER, young.id)
        for model in session.scalars(select(TrainedModel)):
            assert artifacts.read(session, model.artifact_id) == b"weights"


def test_with_models_only_those_of_the_old_jobs_go_too(database, dataset):
    ended(database, dataset)
    young = ended(database, dataset, days=20)
    kind = old(with_models=True)
    size = len(b"stateweights") + retention.POINT_BYTES
    assert [size for _, size in found(database, kind)] == [size]
    remove(database, kind)
    with database.reading() as session:
        [model] = session.scalars(select(TrainedModel)).all()
        assert model.job_id == young.id
    assert count(database, Artifact) == 2


@pytest.mark.parametrize("status", JobStatus)
def test_only_jobs_that_ended_go(database, dataset, status):
    ended(database, dataset, status=status)
    assert len(remove(database, old())) == (status in TERMINAL)


@pytest.mark.parametrize("status", sorted(LIVE))
def test_a_job_that_is_live_by_the_time_of_its_removal_stays(database, dataset, status):
    job = ended(database, dataset)
    [(key, _)] = found(database, old())
    force(database, job, status)
    with database.writing() as session:
        assert list(old(with_models=True).remove(session, [key])) == []
    assert count(database, Checkpoint) == count(database, TrainedModel) == 1


def test_keys_go_once_they_are_expired(database):
    def begin(key):
        with database.writing() as session:
            return idempotency.begin(session, OWNER, key, "f", 24)

    for key in ("old", "young"):
        begin(key)
        with database.writing() as session:
            idempotency.finish(session, OWNER, key, 201, {}, b"four")
    with database.writing() as session:
        past = {"created_at": IdempotencyKey.created_at - 25 * 3600}
        session.execute(update(IdempotencyKey).where(IdempotencyKey.key == "old").values(past))
    kind = retention.expired_keys(24)
    assert found(database, kind) == [((OWNER, "old"), 4)]
    assert remove(database, kind) == [(OWNER, "old")]
    assert begin("young") is not None


def test_only_old_artifacts_that_no_row_refers_to_are_orphans(database, dataset):
    ended(database, dataset)
    with database.writing() as session:
        lost, young = (artifacts.write(session, OWNER, b"lost") for _ in range(2))
        past = {"created_at": now() - 2 * DAY}
        session.execute(update(Artifact).where(Artifact.id != young).values(past))
    kind = retention.orphaned_artifacts(now() - DAY)
    assert found(database, kind) == [(lost, 4)]
    assert remove(database, kind) == [lost]
    assert count(database, Artifact) == 3


def test_of_two_that_remove_the_same_each_job_is_removed_by_one(
    database_url, connect, database, dataset
):
    expected = {ended(database, dataset).id for _ in range(20)}
    kind = old(with_models=True)
    keys = [key for key, _ in found(database, kind)]

    def act(number):
        with connect(database_url).writing() as session:
            return list(kind.remove(session, keys[:: 1 - 2 * (number % 2)]))

    removed = [key for keys in race(4, act) for key in keys]
    assert len(removed) == len(set(removed))
    removed += remove(database, kind)
    assert set(removed) == expected
    assert count(database, Artifact) == 0


def test_removing_beside_callers_who_delete_models_and_jobs_ends_well(
    database_url, connect, database, dataset
):
    mine = [ended(database, dataset) for _ in range(16)]
    with database.reading() as session:
        models = session.scalars(select(TrainedModel.id)).all()
    kind = old(with_models=True)
    keys = [key for key, _ in found(database, kind)]

    def act(number):
        own = connect(database_url)
        if number == 0:
            with own.writing() as session:
                kind.remove(session, keys)
            return
        for each in range(16):
            with own.writing() as session:
                if number == 1:
                    trained_models.remove(session, OWNER, models[each])
                else:
                    jobs.remove(session, OWNER, mine[each].id)

    outcomes = race(3, act)
    assert {type(o).__name__ for o in outcomes} <= {"NoneType", "NotFoundError"}
    remove(database, kind)
    assert count(database, Job) == 0
    assert count(database, Checkpoint) == 0


def test_a_batch_is_bounded_by_rows_and_by_bytes():
    small = [(number, 1) for number in range(450)]
    assert [len(batch) for batch in retention.batches(small)] == [200, 200, 50]
    half = retention.BYTES_AT_ONCE // 2
    large = [(1, half), (2, half), (3, 1), (4, 10 * half), (5, 1)]
    assert [[key for key, _ in batch] for batch in retention.batches(large)] == [
        [1, 2],
        [3],
        [4],
        [5],
    ]
    assert list(retention.batches([])) == []
