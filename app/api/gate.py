"""The gate before every route: who asks, for what, under which id, and how much they may send."""

from __future__ import annotations

import logging
import re
import time
from urllib.parse import quote

from flask import Flask, Response, g, request
from uuid_utils import uuid7
from werkzeug.exceptions import Forbidden
from werkzeug.routing import BaseConverter

from app import logs
from app.api import bodies, schemas
from app.api.bodies import ApiRequest, StrictJson
from app.api.login import Login
from app.config import Settings
from app.store.keys import Scope

log = logging.getLogger("app.access")

PUBLIC = frozenset(
    {"service.live", "service.ready", "service.openapi", "service.docs", "service.static"}
)
"""Endpoints that answer without a key; every other route is closed by default."""

SCOPES = {
    "models.predict": Scope.PREDICT,
    "models.evaluate": Scope.PREDICT,
    "inspection.trace": Scope.PREDICT,
    "inspection.saliency": Scope.PREDICT,
    "keys.create": Scope.ADMIN,
    "keys.index": Scope.ADMIN,
    "keys.show": Scope.ADMIN,
    "keys.revoke": Scope.ADMIN,
}
"""What a key needs for an endpoint, where it is not to read for a GET and to train for the rest."""

SAFE = ("GET", "HEAD", "OPTIONS")

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class IdConverter(BaseConverter):
    """The part of a path that is an id; a path with anything else there leads nowhere."""

    regex = schemas.ID_FORM


def install(app: Flask, settings: Settings) -> None:
    """Put the gate in front of every route of ``app``."""
    login = Login(settings)

    app.request_class = ApiRequest
    app.json = StrictJson(app)
    app.url_map.converters["default"] = IdConverter
    app.url_map.merge_slashes = False

    @app.before_request
    def enter() -> None:
        g.started = time.perf_counter()
        sent = request.headers.get("X-Request-Id", "")
        g.request_id = sent if _SANE_ID.fullmatch(sent) else uuid7().hex
        logs.forget()
        logs.bind(request_id=g.request_id)
        if request.endpoint not in PUBLIC:
            caller = login.caller(request.headers.get("Authorization", ""))
            g.owner = caller.owner
            _check(caller.scopes)
            bodies.once_each(request.args, "the query")
            bodies.check(settings)

    @app.after_request
    def leave(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.request_id
        facts = {
            "method": request.method,
            "path": quote(request.path),
            "status": response.status_code,
            "milliseconds": round(1000 * (time.perf_counter() - g.started), 3),
        }
        level = logging.DEBUG if request.endpoint in PUBLIC else logging.INFO
        log.log(level, "%(method)s %(path)s %(status)s", facts, extra=facts)
        return response


def needed(endpoint: str | None, method: str) -> Scope:
    """Return what a key needs for a call; one that leads nowhere is closed like any other."""
    usual = Scope.READ if method in SAFE else Scope.TRAIN
    return SCOPES.get(endpoint or "", usual)


def _check(scopes: frozenset[Scope]) -> None:
    """Refuse a call that the caller's key is not for."""
    wanted = needed(request.endpoint, request.method)
    if not scopes & {wanted, Scope.ADMIN}:
        mine = ", ".join(sorted(scopes)) or "nothing"
        raise Forbidden(f"this call needs a key with the scope {wanted.value!r}; yours has {mine}")
