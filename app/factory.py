"""The composition root of the API: settings in, Flask application out."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable

from flask import Flask
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI
from threadpoolctl import threadpool_limits

from app import launcher, logs, redaction
from app.api import (
    datasets,
    document,
    errors,
    events,
    gate,
    inference,
    inspection,
    jobs,
    keys,
    models,
    names,
    predictions,
    schemas,
    service,
    usage,
)
from app.api.hot import HotPath
from app.api.login import Login
from app.api.reception import Reception
from app.api.services import EXTENSION, Services
from app.config import VERSION, Settings
from app.dispatch import Doorbell
from app.ending import Ending
from app.predictor import Predictor
from app.store.blobs import Storage
from app.store.database import Database
from app.store.quotas import Quotas

log = logging.getLogger(__name__)

THREADS_TO_SPARE = 8
"""Server threads that are never given to held requests, so that others are still answered."""

STATEMENT_SECONDS = 10.0
"""How long a request waits for one answer of the database."""


def create_app(settings: Settings, ending: Callable[[], bool] = lambda: False) -> Flask:
    """Put the API together; ``ending`` returns whether its process is asked to end."""
    app = OpenAPI(
        __name__,
        info=Info(title="Chainrule", version=VERSION, description=_DESCRIPTION),
        security_schemes={"key": {"type": "http", "scheme": "bearer"}},
        validation_error_model=schemas.Problem,
        validation_error_callback=errors.invalid,
        doc_ui=False,
        static_folder=None,
    )
    errors.install(app)
    app.extensions[EXTENSION] = parts = _services(settings, ending)
    gate.install(app, settings, parts.login)
    for blueprint in (
        datasets.bp,
        jobs.bp,
        events.bp,
        models.bp,
        names.bp,
        predictions.bp,
        inference.bp,
        inspection.bp,
        keys.bp,
        usage.bp,
        service.bp,
    ):
        app.register_api(blueprint)
    document.complete(app.api_doc)
    return app


_DESCRIPTION = """Trains neural networks over HTTP: upload a dataset, post a job,
poll it while backpropagation runs, fetch predictions from the model that comes out."""


def _services(settings: Settings, ending: Callable[[], bool]) -> Services:
    database = Database(settings.resolved_database_url, STATEMENT_SECONDS)
    scratch = settings.uploads_folder
    scratch.mkdir(parents=True, exist_ok=True)
    return Services(
        settings=settings,
        quotas=Quotas.of(settings),
        database=database,
        login=Login(settings, database),
        storage=Storage.of(settings),
        predictor=Predictor(database, settings.predictor_cache_bytes),
        doorbell=Doorbell(settings),
        scratch=scratch,
        waiting=threading.BoundedSemaphore(max(1, settings.api_threads - THREADS_TO_SPARE)),
        ending=ending,
        redact=redaction.of(settings),
    )


def serve() -> Reception:
    """Return the application that an ASGI server runs, from the environment's settings."""
    launcher.end_with_parent()
    settings = Settings()
    threadpool_limits(settings.blas_threads, user_api="blas")
    logs.configure("api", settings)
    ending = Ending()
    try:
        app = create_app(settings, ending)
    except Exception as error:
        log.critical("the API cannot be put together", exc_info=error)
        raise SystemExit(1) from None  # the server would print the error as it is
    parts: Services = app.extensions[EXTENSION]
    hot = HotPath(settings, parts.login, parts.predictor)
    hot.install(app)
    # What there is now stays: to go through all of it again and again would hold up every request
    # of a process for a tenth of a second.
    gc.freeze()
    return Reception(app, settings, parts.login, hot, parts.scratch, ending)
