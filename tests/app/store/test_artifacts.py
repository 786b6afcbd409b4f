"""Bytes come back as they were written, or not at all."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import delete, select, update

from app.store import artifacts
from app.store.artifacts import CHUNK_BYTES
from app.store.errors import CorruptArtifactError, NotFoundError
from app.store.tables import ArtifactChunk

DATA = random.Random(7).randbytes(2 * CHUNK_BYTES + 12_345)  # noqa: S311 - any bytes will do


def write(database, data):
    with database.writing() as session:
        return artifacts.write(session, "ada", data)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(DATA)])
def test_bytes_come_back_as_they_were_written(database, size):
    written = write(database, memoryview(DATA)[:size])
    with database.reading() as session:
        assert artifacts.read(session, written) == DATA[:size]
        chunks = session.scalars(select(ArtifactChunk.seq)).all()
    assert len(chunks) == -(-size // CHUNK_BYTES)


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, len(DATA)), (0, 1), (CHUNK_BYTES - 1, CHUNK_BYTES + 1), (CHUNK_BYTES, 2 * CHUNK_BYTES)]
    + [(5, 10), (len(DATA) - 1, len(DATA)), (7, 7)],
)
def test_any_range_can_be_streamed(database, start, stop):
    written = write(database, DATA)
    with database.reading() as session:
        pieces = list(artifacts.stream(session, written, start, stop))
    assert b"".join(pieces) == DATA[start:stop]
    assert all(len(piece) <= CHUNK_BYTES for piece in pieces)


@pytest.mark.parametrize(
    "damage",
    [
        update(ArtifactChunk).where(ArtifactChunk.seq == 1).values(data=b"\0" * CHUNK_BYTES),
        delete(ArtifactChunk).where(ArtifactChunk.seq == 1),
    ],
    ids=["changed", "missing"],
)
def test_damage_is_noticed(database, damage):
    written = write(database, DATA)
    with database.writing() as session:
        session.execute(damage)
    with pytest.raises(CorruptArtifactError, match=written), database.reading() as session:
        artifacts.read(session, written)


def test_a_removed_artifact_is_gone_with_its_chunks(database):
    written = write(database, DATA)
    with database.writing() as session:
        artifacts.remove(session, written)
    with database.reading() as session:
        assert session.scalars(select(ArtifactChunk.seq)).all() == []
        with pytest.raises(NotFoundError):
            artifacts.read(session, written)
