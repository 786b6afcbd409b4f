"""Trained models: what jobs leave behind, to predict with."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app.store import artifacts, tenants
from app.store.errors import ConflictError, NotFoundError
from app.store.lifecycle import LIVE, JobKind
from app.store.pages import Page, cut
from app.store.tables import Job, ModelName, TrainedModel, new_id

PREFIX = "mdl"
"""Of a model's id; no name begins like one."""


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
        id=new_id(PREFIX),
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


def get(
    session: Session, owner: str, reference: str, *, lock: bool = False, hold: bool = False
) -> TrainedModel:
    """Return a model, by its id or by a name that its owner gave it.

    Until the transaction ends nobody removes it if it is locked or held.

    Raises
    ------
    NotFoundError
        There is none with this id or name, or it is somebody else's.
    """
    if reference.startswith(f"{PREFIX}_"):
        return tenants.get(session, owner, TrainedModel, reference, lock=lock, hold=hold)
    called = tenants.belonging_to(owner, ModelName).where(ModelName.name == reference).subquery()
    mine = tenants.belonging_to(owner, TrainedModel)
    model = session.scalar(mine.join(called, called.c.model_id == TrainedModel.id))
    if model is None:
        raise NotFoundError("model", reference)
    return model


def page(session: Session, owner: str, *, limit: int, cursor: str | None) -> Page[TrainedModel]:
    """Return a page of the owner's models, newest first."""
    mine = tenants.belonging_to(owner, TrainedModel)
    return cut(session, mine, TrainedModel.id, limit, cursor)


def remove(session: Session, owner: str, model_id: str) -> None:
    """Delete a model and its bytes; its job shows none from then on.

    Raises
    ------
    ConflictError
        It has a name, or a live batch prediction asks it.
    """
    model = get(session, owner, model_id, lock=True)
    asks = (Job.kind == JobKind.PREDICTION, Job.status.in_(LIVE), Job.model_id == model.id)
    if (job := session.scalar(select(Job.id).where(*asks).limit(1))) is not None:
        raise ConflictError("model", f"{job} asks {model.id}; cancel it or wait for its end")
    called = tenants.belonging_to(owner, ModelName).where(ModelName.model_id == model.id)
    if (name := session.scalar(called.limit(1))) is not None:
        advice = "give the name to another model, or delete it, first"
        raise ConflictError("model", f"{model.id} is called {name.name!r}; {advice}")
    session.execute(
        update(Job).where(Job.model_id == model.id).values(model_id=None, version=Job.version + 1)
    )
    session.execute(delete(TrainedModel).where(TrainedModel.id == model.id))
    artifacts.remove(session, model.artifact_id)
