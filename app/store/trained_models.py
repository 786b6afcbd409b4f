"""Trained models: what jobs leave behind, to predict with."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from app.store import artifacts, tenants
from app.store.pages import Page, cut
from app.store.tables import Job, TrainedModel, new_id


def add(
    session: Session,
    *,
    owner: str,
    job_id: str,
    task: str,
    inputs: list[dict[str, Any]],
    outputs: list[str],
    classes: list[Any] | None,
    sequence: dict[str, Any] | None = None,
    metrics: dict[str, float],
    parameters: int,
    data: bytes | memoryview,
) -> str:
    """Add a model and its bytes; return its id.

    `jobs.succeed` in the same transaction takes it back where the claim is lost.
    """
    model = TrainedModel(
        id=new_id("mdl"),
        owner=owner,
        job_id=job_id,
        task=task,
        inputs=inputs,
        outputs=outputs,
        classes=classes,
        sequence=sequence,
        metrics=metrics,
        parameters=parameters,
        bytes=memoryview(data).nbytes,
        artifact_id=artifacts.write(session, owner, data),
    )
    session.add(model)
    session.flush()
    return model.id


def get(session: Session, owner: str, model_id: str) -> TrainedModel:
    """Return a model.

    Raises
    ------
    NotFoundError
        There is none with this id, or it is somebody else's.
    """
    return tenants.get(session, owner, TrainedModel, model_id)


def page(session: Session, owner: str, *, limit: int, cursor: str | None) -> Page[TrainedModel]:
    """Return a page of the owner's models, newest first."""
    mine = tenants.belonging_to(owner, TrainedModel)
    return cut(session, mine, TrainedModel.id, limit, cursor)


def remove(session: Session, owner: str, model_id: str) -> None:
    """Delete a model and its bytes; its job shows none from then on."""
    model = get(session, owner, model_id)
    session.execute(
        update(Job).where(Job.model_id == model_id).values(model_id=None, version=Job.version + 1)
    )
    session.execute(delete(TrainedModel).where(TrainedModel.id == model_id))
    artifacts.remove(session, model.artifact_id)
