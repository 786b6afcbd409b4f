"""Datasets: their rows. The files are in `app.store.blobs`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from app.store import tenants
from app.store.errors import ConflictError
from app.store.lifecycle import LIVE
from app.store.pages import Page, cut
from app.store.quotas import UNLIMITED, Quotas, admit_dataset, lock
from app.store.tables import Dataset, Job, new_id


@dataclass(frozen=True)
class Contents:
    """What was made of an upload: a file in the storage, and what is known of it.

    Parameters
    ----------
    rows : int
    columns : list
    sniffed : dict or None
    location : str
        The file's name in the storage.
    stored_bytes : int
    """

    rows: int
    columns: list[dict[str, Any]]
    sniffed: dict[str, Any] | None
    location: str
    stored_bytes: int


def add(
    session: Session,
    *,
    owner: str,
    name: str,
    format: str,  # noqa: A002 - as the caller knows it
    rows: int,
    bytes: int,  # noqa: A002 - as the caller knows it
    sha256: str,
    columns: list[dict[str, Any]],
    location: str,
    stored_bytes: int,
    sniffed: dict[str, Any] | None = None,
    origin: str | None = None,
    quotas: Quotas = UNLIMITED,
) -> Dataset:
    """Add a dataset whose file is in the storage under ``location``.

    Raises
    ------
    QuotaError
        The owner may not keep one more, or not one so large.
    """
    admit_dataset(session, owner, quotas, stored_bytes)
    dataset = Dataset(
        id=new_id("ds"),
        owner=owner,
        name=name,
        format=format,
        rows=rows,
        bytes=bytes,
        sha256=sha256,
        columns=columns,
        sniffed=sniffed,
        origin=origin,
        location=location,
        stored_bytes=stored_bytes,
    )
    session.add(dataset)
    session.flush()
    return dataset


def get(session: Session, owner: str, dataset_id: str) -> Dataset:
    """Return a dataset.

    Raises
    ------
    NotFoundError
        There is none with this id, or it is somebody else's.
    """
    return tenants.get(session, owner, Dataset, dataset_id)


def page(session: Session, owner: str, *, limit: int, cursor: str | None) -> Page[Dataset]:
    """Return a page of the owner's datasets, newest first."""
    return cut(session, tenants.belonging_to(owner, Dataset), Dataset.id, limit, cursor)


def hold(session: Session, owner: str, dataset_id: str) -> Dataset:
    """Return a dataset that is not removed until the transaction ends; raises like `get`."""
    return tenants.get(session, owner, Dataset, dataset_id, hold=True)


def twin(session: Session, owner: str, origin: str) -> Contents | None:
    """Return what the owner's newest dataset holds that was made of the same, if there is one."""
    mine = tenants.belonging_to(owner, Dataset).where(Dataset.origin == origin)
    found = session.scalar(mine.order_by(Dataset.id.desc()).limit(1))
    if found is None:
        return None
    return Contents(**{name: getattr(found, name) for name in Contents.__dataclass_fields__})


def lasting_twin(session: Session, owner: str, origin: str) -> Contents | None:
    """Return the same, and keep its file from being given up until the transaction ends."""
    lock(session, owner)
    return twin(session, owner, origin)


def remove(session: Session, owner: str, dataset_id: str) -> str | None:
    """Delete a dataset; return the storage name of its file if that is of no more use.

    Whoever deletes a dataset, or adds one to a file that is there, locks the
    owner first. So of those who delete the last two one is the last, and
    nobody adds a third meanwhile.

    Raises
    ------
    ConflictError
        A live job uses it.
    """
    lock(session, owner)
    dataset = tenants.get(session, owner, Dataset, dataset_id, lock=True)
    uses = or_(Job.dataset_id == dataset_id, Job.validation_dataset_id == dataset_id)
    user = session.scalar(select(Job.id).where(uses, Job.status.in_(LIVE)).limit(1))
    if user is not None:
        raise ConflictError("dataset", f"job {user} uses it; cancel it or wait for its end")
    session.execute(delete(Dataset).where(Dataset.id == dataset_id))
    return None if referred(session, [dataset.location]) else dataset.location


def referred(session: Session, locations: Collection[str]) -> set[str]:
    """Return those of the storage's names that a dataset refers to."""
    known = select(Dataset.location).where(Dataset.location.in_(locations))
    return set(session.scalars(known))
