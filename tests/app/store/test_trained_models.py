"""A model belongs to its owner and goes with its bytes."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from app.store import artifacts, trained_models
from app.store.errors import NotFoundError
from app.store.tables import Artifact
from tests.app.store.rows import OWNER, look, succeed


def test_a_model_is_found_by_its_owner_alone(database, claim):
    model_id = succeed(database, claim)
    with database.reading() as session:
        model = trained_models.get(session, OWNER, model_id)
        assert (model.job_id, model.classes, model.bytes) == (claim.job_id, ["setosa"], 7)
        assert artifacts.read(session, model.artifact_id) == b"weights"
        page = trained_models.page(session, OWNER, limit=1, cursor=None)
        assert ([found.id for found in page.items], page.next_cursor) == ([model_id], None)
        assert trained_models.page(session, "charles", limit=1, cursor=None).items == []
        with pytest.raises(NotFoundError):
            trained_models.get(session, "charles", model_id)


def test_a_removed_model_leaves_no_bytes_and_its_job_shows_none(database, claim):
    model_id = succeed(database, claim)
    before = look(database, claim.job_id)
    with database.writing() as session:
        trained_models.remove(session, OWNER, model_id)
    after = look(database, claim.job_id)
    assert (after.model_id, after.version) == (None, before.version + 1)
    with database.reading() as session:
        assert session.scalars(select(Artifact.id)).all() == []
