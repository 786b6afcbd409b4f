"""Artifacts: large bytes as rows of 1 MiB, checked against their sha256 when read.

An artifact is written in the transaction of the row that refers to it, so
there is never a half of one. The price: on SQLite other writers wait while a
large one is written, a third of a second for 250 MiB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from app.store.errors import CorruptArtifactError, NotFoundError
from app.store.tables import Artifact, ArtifactChunk, new_id

CHUNK_BYTES = 2**20


def write(session: Session, owner: str, data: bytes | memoryview) -> str:
    """Store bytes; return the artifact's id."""
    view = memoryview(data)
    digest = hashlib.sha256(view).hexdigest()
    artifact = Artifact(id=new_id("art"), owner=owner, sha256=digest, bytes=view.nbytes)
    session.add(artifact)
    session.flush()
    for seq, start in enumerate(range(0, view.nbytes, CHUNK_BYTES)):
        chunk = bytes(view[start : start + CHUNK_BYTES])
        row = {"artifact_id": artifact.id, "seq": seq, "data": chunk}
        session.execute(insert(ArtifactChunk), row)
    return artifact.id


def read(session: Session, artifact_id: str) -> bytes:
    """Return all bytes.

    Raises
    ------
    CorruptArtifactError
        They are not those that were written.
    """
    artifact = _get(session, artifact_id)
    data = b"".join(stream(session, artifact_id, 0, artifact.bytes))
    if hashlib.sha256(data).hexdigest() != artifact.sha256:
        raise CorruptArtifactError(artifact_id)
    return data


def stream(session: Session, artifact_id: str, start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes from ``start`` up to ``stop``, a chunk at a time."""
    for seq in range(start // CHUNK_BYTES, -(-stop // CHUNK_BYTES)):
        chunk = session.scalar(
            select(ArtifactChunk.data).where(
                ArtifactChunk.artifact_id == artifact_id, ArtifactChunk.seq == seq
            )
        )
        if chunk is None:
            raise CorruptArtifactError(artifact_id)
        offset = seq * CHUNK_BYTES
        yield chunk[max(0, start - offset) : stop - offset]


def remove(session: Session, artifact_id: str) -> None:
    """Delete an artifact that no row refers to any more."""
    session.execute(delete(Artifact).where(Artifact.id == artifact_id))


def _get(session: Session, artifact_id: str) -> Artifact:
    artifact = session.get(Artifact, artifact_id)
    if artifact is None:
        raise NotFoundError("artifact", artifact_id)
    return artifact
