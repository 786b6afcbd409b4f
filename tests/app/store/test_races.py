"""Of all who would end a job at once one does, and everybody was told the truth."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, update

from app.store import jobs
from app.store.database import database_clock
from app.store.errors import ConflictError, IllegalMoveError, LostClaimError, NotFoundError
from app.store.jobs import Retries
from app.store.lifecycle import JobStatus
from app.store.tables import Job, TrainedModel
from tests.app.store.rows import OWNER, add_dataset, add_job, add_model, look, race, take


def finish(session, claim):
    jobs.hold(session, claim)
    jobs.succeed(session, claim, add_model(session, claim), {}, "epochs")
    return JobStatus.SUCCEEDED


def cancel(session, claim):
    return jobs.request_cancel(session, OWNER, claim.job_id).status


def pause(session, claim):
    return jobs.request_pause(session, OWNER, claim.job_id).status


def give_back(session, claim):
    jobs.requeue(session, claim)


def reap(session, _claim):
    return dict(jobs.reap(session, Retries(2, 0)))


def delete(session, claim):
    jobs.remove(session, OWNER, claim.job_id)


def claim_again(session, claim):
    return jobs.claim(session, claim.job_id, "worker:2", 30)


ACTS = (finish, cancel, pause, give_back, reap, reap, delete, claim_again)
REFUSALS = (IllegalMoveError, LostClaimError, ConflictError, NotFoundError)


def test_a_job_ends_once_and_as_everybody_was_told(
    database, database_url, connect, dataset, thorough
):
    own = [connect(database_url) for _ in ACTS]
    for turn in range(1000 if thorough else 25):
        lease_seconds = -1 if turn % 2 else 30
        claim = take(database, add_job(database, dataset), lease_seconds)

        def act(number, claim=claim):
            with own[number].writing() as session:
                return ACTS[number](session, claim)

        answers = dict(zip(map(str, range(len(ACTS))), race(len(ACTS), act), strict=True))
        finished, cancelled, _, _, *reaped, deleted, claimed = answers.values()
        for answer in answers.values():
            assert not isinstance(answer, Exception) or isinstance(answer, REFUSALS), (turn, answer)
        if deleted is None:  # so it had ended
            assert finished is JobStatus.SUCCEEDED or isinstance(cancelled, JobStatus)
            continue
        found = look(database, claim.job_id)
        assert (found.status is JobStatus.SUCCEEDED) == (finished is JobStatus.SUCCEEDED)
        if cancelled is JobStatus.CANCELLED:
            assert found.status is JobStatus.CANCELLED
        if found.status is JobStatus.CANCELLED:
            assert isinstance(cancelled, JobStatus)
        assert found.failures == sum(claim.job_id in each for each in reaped) <= 1
        with database.reading() as session:
            of_job = select(func.count()).where(TrainedModel.job_id == claim.job_id)
            assert session.scalar(of_job) == (found.status is JobStatus.SUCCEEDED)
        if found.status is JobStatus.RUNNING:
            assert (claimed is None, found.attempt) == (False, 2)


@pytest.mark.parametrize("end", [JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED])
def test_nobody_brings_a_job_back_that_has_ended(database, claim, end):
    with database.writing() as session:
        changes = {"status": end, "lease_expires": database_clock() - 60}
        session.execute(update(Job).where(Job.id == claim.job_id).values(changes))
    before = look(database, claim.job_id).version
    for act in ACTS[:-2]:
        if act is not reap:
            with pytest.raises(REFUSALS), database.writing() as session:
                act(session, claim)
    with database.writing() as session:
        assert reap(session, claim) == {}
        assert claim_again(session, claim) is None
        assert jobs.bury(session, claim.worker, Retries(2, 0)) == []
    found = look(database, claim.job_id)
    assert (found.status, found.version) == (end, before)


def test_one_job_of_one_owner_does_not_wait_behind_a_thousand_of_another(database, dataset):
    with database.writing() as session:
        for number in range(1000):
            facts = {"owner": OWNER, "dataset_id": dataset.id, "spec": {}, "epochs": 1}
            session.add(Job(id=f"job_{number:04}", queued_at=number, **facts))
    bobs = add_job(database, add_dataset(database, owner="bob"))
    served = []
    for _ in range(4):
        with database.writing() as session:
            served.append(jobs.claim(session, jobs.next_due(session), "worker:1", 30).job_id)
    assert bobs.id in served[:2]
    assert set(served) - {bobs.id} == {"job_0000", "job_0001", "job_0002"}
