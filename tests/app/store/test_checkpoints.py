"""A job has one checkpoint, the newest. That a stale worker saves none is in test_jobs."""

from __future__ import annotations

from sqlalchemy import select

from app.store import checkpoints
from app.store.artifacts import CHUNK_BYTES
from app.store.tables import Artifact


def test_a_job_keeps_its_newest_checkpoint_only(database, claim):
    with database.reading() as session:
        assert checkpoints.load(session, claim.job_id) == (None, [])
    large = b"third" * CHUNK_BYTES
    for epoch, state in enumerate([b"first", b"second", large], start=1):
        with database.writing() as session:
            checkpoints.save(session, claim, state, epoch, 10 * epoch, [{"n": epoch}])
    with database.reading() as session:
        assert checkpoints.load(session, claim.job_id) == (large, [{"n": 3}])
        assert len(session.scalars(select(Artifact.id)).all()) == 1
