"""Loaded models, kept while they are in use: a cache bounded in bytes, least recently used out."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

from app.store import artifacts, trained_models
from app.store.database import Database
from engine.checkpoint import load_model
from engine.model import Model


class Served(NamedTuple):
    """A model that is ready, and its id, whatever it was asked for by."""

    id: str
    model: Model


class Predictor:
    """Models by id, loaded once.

    A model never changes, so what is kept is never stale; it is only asked
    each time whether the caller still owns it. Several threads may load the
    same model at once: they load the same bytes.

    Parameters
    ----------
    database : Database
    limit_bytes : int
        What the kept models' weights may take together. A larger model is served, but not kept.
    """

    def __init__(self, database: Database, limit_bytes: int) -> None:
        self._database, self._limit_bytes = database, limit_bytes
        self._kept: OrderedDict[str, tuple[Model, int]] = OrderedDict()
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
            kept = self._recall(row.id)
            if kept is not None:
                return Served(row.id, kept)
            data = artifacts.read(session, row.artifact_id)
        model = load_model(data)
        self._keep(row.id, model, len(data))
        return Served(row.id, model)

    def _recall(self, model_id: str) -> Model | None:
        with self._lock:
            if model_id not in self._kept:
                return None
            self._kept.move_to_end(model_id)
            return self._kept[model_id][0]

    def _keep(self, model_id: str, model: Model, size: int) -> None:
        with self._lock:
            self._kept[model_id] = model, size
            while sum(size for _, size in self._kept.values()) > self._limit_bytes:
                self._kept.popitem(last=False)
