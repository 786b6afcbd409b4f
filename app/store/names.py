"""Names: what callers ask for a model by, while the model behind it changes."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.store import tenants, trained_models
from app.store.database import insert_into
from app.store.errors import ConflictError, NotFoundError
from app.store.pages import Page, cut
from app.store.tables import ModelName, NameSwitch, new_id, now
from engine.metrics import HIGHER_IS_BETTER

MOST_DIGITS = 18
"""Of a version; the database's integers hold no more."""


@dataclass(frozen=True)
class Publication:
    """What came of a job's wish to publish its model.

    Parameters
    ----------
    name : str
    published : bool
    reason : str
    """

    name: str
    published: bool
    reason: str


def get(session: Session, owner: str, name: str, *, lock: bool = False) -> ModelName:
    """Return a name's row, which nobody else changes until the transaction ends if it is locked.

    Raises
    ------
    NotFoundError
        The owner calls no model so.
    """
    found = _find(session, owner, name, lock=lock)
    if found is None:
        raise NotFoundError("name", name)
    return found


def _find(session: Session, owner: str, name: str, *, lock: bool) -> ModelName | None:
    query = tenants.belonging_to(owner, ModelName).where(ModelName.name == name)
    return session.scalar(query.with_for_update() if lock else query)


def page(session: Session, owner: str, *, limit: int, cursor: str | None) -> Page[ModelName]:
    """Return a page of the owner's names, newest first."""
    return cut(session, tenants.belonging_to(owner, ModelName), ModelName.id, limit, cursor)


def history(
    session: Session, owner: str, name: str, *, limit: int, cursor: str | None
) -> Page[NameSwitch]:
    """Return a page of a name's switches, newest first; raises like `get`."""
    row = get(session, owner, name)
    switches = select(NameSwitch).where(NameSwitch.name_id == row.id)
    return cut(session, switches, NameSwitch.id, limit, cursor)


def model_of(session: Session, owner: str, name: str, version: str) -> str:
    """Return the id of the model that a version of a name was given to.

    Raises
    ------
    NotFoundError
        The owner calls no model so, or the name has no such version.
    """
    row = get(session, owner, name)
    number = int(version) if version.isdecimal() and len(version) < MOST_DIGITS else 0
    versions = (NameSwitch.name_id == row.id, NameSwitch.version == number)
    found = session.scalar(select(NameSwitch.model_id).where(*versions))
    if found is None:
        raise NotFoundError("version", version)
    return found


def switch(
    session: Session, owner: str, name: str, model_id: str, *, job_id: str | None = None
) -> ModelName:
    """Give a name to a model, whoever has it now; nothing changes where the model has it already.

    Raises
    ------
    NotFoundError
        The owner has no such model.
    """
    model = trained_models.get(session, owner, model_id, hold=True)
    row, is_new = _row(session, owner, name, model.id)
    return _hand_over(session, row, model.id, job_id=job_id, is_new=is_new)


def _row(session: Session, owner: str, name: str, model_id: str) -> tuple[ModelName, bool]:
    """Return a name's row, locked, and whether it is new; of those who race one makes it."""
    if (found := _find(session, owner, name, lock=True)) is not None:
        return found, False
    made = session.scalar(
        insert_into(session.get_bind().dialect.name, ModelName)
        .values(id=new_id("nam"), owner=owner, name=name, model_id=model_id)
        .on_conflict_do_nothing(index_elements=["owner", "name"])
        .returning(ModelName.id)
    )
    return get(session, owner, name, lock=True), made is not None


def _hand_over(
    session: Session, row: ModelName, model_id: str, *, job_id: str | None, is_new: bool
) -> ModelName:
    """Give a name, and remember it, unless the model has it already."""
    replaced = None
    if not is_new:
        if row.model_id == model_id:
            return row
        replaced, row.model_id = row.model_id, model_id
        row.version += 1
        row.updated_at = now()
    session.add(
        NameSwitch(
            id=new_id("nsw"),
            owner=row.owner,
            name_id=row.id,
            version=row.version,
            model_id=model_id,
            replaced=replaced,
            job_id=job_id,
        )
    )
    session.flush()
    return row


def roll_back(session: Session, owner: str, name: str) -> ModelName:
    """Give a name back to the model that had it before the last switch.

    Raises
    ------
    NotFoundError
        The owner calls no model so.
    ConflictError
        There was none before, or it is gone.
    """
    row = get(session, owner, name, lock=True)
    last = select(NameSwitch.replaced).where(
        NameSwitch.name_id == row.id, NameSwitch.version == row.version
    )
    before = session.scalar(last)
    if before is None:
        raise ConflictError("name", f"no model was called {name!r} before {row.model_id}")
    try:
        return switch(session, owner, name, before)
    except NotFoundError as error:
        reason = f"{before}, which was called {name!r} before, is deleted; PUT another"
        raise ConflictError("name", reason) from error


def publish(
    session: Session, owner: str, model_id: str, job_id: str, *, name: str, if_better: str | None
) -> Publication:
    """Give a name to a job's model, unless the one that has it is as good in a metric."""
    row, is_new = _row(session, owner, name, model_id)
    if is_new or if_better is None:
        reason = "no model had the name" if is_new else f"it was {row.model_id}"
        better = True
    else:
        new, old = (
            trained_models.get(session, owner, which).metrics.get(if_better)
            for which in (model_id, row.model_id)
        )
        better, reason = _is_better(if_better, new, old)
        reason = f"against {row.model_id}: {reason}"
    if better:
        _hand_over(session, row, model_id, job_id=job_id, is_new=is_new)
    return Publication(name, better, reason)


def _is_better(metric: str, new: float | None, old: float | None) -> tuple[bool, str]:
    if new is None:
        return False, f"this model has no {metric}"
    if old is None:
        return True, f"that model has no {metric}"
    better = new > old if metric in HIGHER_IS_BETTER else new < old
    return better, f"{metric} {new:.6g} is {'better' if better else 'not better'} than {old:.6g}"


def remove(session: Session, owner: str, name: str) -> None:
    """Delete a name and its history; the model stays.

    Raises
    ------
    NotFoundError
        The owner calls no model so.
    """
    row = get(session, owner, name, lock=True)
    session.execute(delete(NameSwitch).where(NameSwitch.name_id == row.id))
    session.execute(delete(ModelName).where(ModelName.id == row.id))
