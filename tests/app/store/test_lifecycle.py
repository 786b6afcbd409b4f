"""The table of moves: what the statuses may become."""

from __future__ import annotations

from itertools import product

import pytest

from app.store import jobs
from app.store.errors import IllegalMoveError
from app.store.lifecycle import LIVE, MOVES, TERMINAL, JobStatus, sources_of
from tests.app.store.rows import force, look


@pytest.mark.parametrize(("source", "target"), list(product(JobStatus, repeat=2)))
def test_the_store_obeys_the_table(database, job, source, target):
    force(database, job, source)
    if target in MOVES[source]:
        with database.writing() as session:
            moved = jobs.move(session, job.id, target)
            assert moved.version == job.version + 1
        assert look(database, job.id).status is target
    else:
        with pytest.raises(IllegalMoveError) as refusal, database.writing() as session:
            jobs.move(session, job.id, target)
        refused = refusal.value
        assert (refused.id, refused.status, refused.to) == (job.id, source, target)
        assert look(database, job.id).status is source


def test_a_job_that_has_ended_stays_as_it_is():
    assert {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED} == TERMINAL
    assert {JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.PAUSED} == LIVE


def test_every_status_but_the_first_is_reached_from_another():
    assert all(sources_of(status) - {status} for status in JobStatus)
