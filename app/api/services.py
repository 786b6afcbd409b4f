"""What the views work with: put together once by `app.factory`, found through the application."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from flask import current_app, g
from sqlalchemy.orm import Session

from app.api.login import Login
from app.config import Settings
from app.dispatch import Doorbell
from app.predictor import Predictor
from app.redaction import Redaction
from app.store.blobs import Storage
from app.store.database import Database
from app.store.quotas import Quotas

EXTENSION = "chainrule"


@dataclass(frozen=True)
class Services:
    """The parts of a running API.

    Parameters
    ----------
    settings : Settings
    quotas : Quotas
        How much each owner may have.
    database : Database
    login : Login
    storage : Storage
    predictor : Predictor
    doorbell : Doorbell
    scratch : Path
        Where uploads are received.
    waiting : BoundedSemaphore
        A place for each request that may be held open; a held request keeps a thread.
    ending : callable
        Returns whether the process is asked to end; then no request is held any longer.
    redact : Redaction
        Masks what is secret in answers to what went wrong.
    """

    settings: Settings
    quotas: Quotas
    database: Database
    login: Login
    storage: Storage
    predictor: Predictor
    doorbell: Doorbell
    scratch: Path
    waiting: threading.BoundedSemaphore
    ending: Callable[[], bool]
    redact: Redaction


def services() -> Services:
    """Return the parts of the application that serves this request."""
    return cast(Services, current_app.extensions[EXTENSION])


def reading() -> AbstractContextManager[Session]:
    """Open a session in which who sent this request can read what is theirs."""
    return services().database.reading(owner())


def writing() -> AbstractContextManager[Session]:
    """Open a session in which who sent this request can change what is theirs, once it ends."""
    return services().database.writing(owner())


def owner() -> str:
    """Return who sent this request; every row that it touches is theirs."""
    return cast(str, g.owner)


def answered_by(model_id: str, version: str = "") -> None:
    """Note which model this request is answered by, for `app.api.hot` to remember."""
    g.answered_by = model_id, version
