"""Loaded models, kept while they are in use: a cache bounded in bytes, least recently used out."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import NamedTuple

from sqlalchemy.orm import Session

from app.store import artifacts, trained_models
from app.store.database import Database
from app.store.tables import TrainedModel
from engine.checkpoint import load_model
from engine.model import Model


class Served(NamedTuple):
    """A model that is ready, and its id, whatever it was asked for by."""

    id: str
    model: Model


class Predictor:
    """Models by id, loaded once.

    A model never changes, so what is kept is never stale; it is only asked
    each time whether the caller still owns it. Of several threads that ask for
    a model that is not there one loads it, and the others wait for that one;
    where it fails they fail alike, and the next to ask tries again.

    Parameters
    ----------
    database : Database
    limit_bytes : int
        What the kept models' weights may take together. A larger model is served, but not kept.
    """

    def __init__(self, database: Database, limit_bytes: int) -> None:
        self._database, self._limit_bytes = database, limit_bytes
        self._kept: OrderedDict[str, tuple[Model, int]] = OrderedDict()
        self._loading: dict[str, Future[Model]] = {}
        self._lock = threading.Lock()

    def model(self, owner: str, reference: str) -> Served:
        """Return a model ready to predict, by its id or its name.

        Raises
        ------
        NotFoundError
            There is no such model of this owner.
        """
        with self._database.reading(owner) as session:
            row = trained_models.get(session, owner, reference)
            if (kept := self.kept(row.id)) is not None:
                return Served(row.id, kept)
            loading, is_mine = self._join(row.id)
            if is_mine:
                self._load(session, row, loading)
        return Served(row.id, loading.result())

    def kept(self, model_id: str) -> Model | None:
        """Return a model if it is kept; whether the caller may ask it is not looked at."""
        with self._lock:
            if model_id not in self._kept:
                return None
            self._kept.move_to_end(model_id)
            return self._kept[model_id][0]

    def _join(self, model_id: str) -> tuple[Future[Model], bool]:
        """Return what a model will be there by, and whether the caller is to load it."""
        with self._lock:
            if (loading := self._loading.get(model_id)) is not None:
                return loading, False
            loading = Future()
            if model_id in self._kept:  # since the caller looked
                loading.set_result(self._kept[model_id][0])
                return loading, False
            self._loading[model_id] = loading
            return loading, True

    def _load(self, session: Session, row: TrainedModel, loading: Future[Model]) -> None:
        try:
            data = artifacts.read(session, row.artifact_id)
            model = load_model(data)
        except BaseException as error:
            with self._lock:
                del self._loading[row.id]
            loading.set_exception(error)
            raise
        with self._lock:
            del self._loading[row.id]
            self._kept[row.id] = model, len(data)
            while sum(size for _, size in self._kept.values()) > self._limit_bytes:
                self._kept.popitem(last=False)
        loading.set_result(model)
