"""The gate before every route: who asks, under which id, and how much they may send."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import time
from urllib.parse import quote

from flask import Flask, Response, g, request
from uuid_utils import uuid7
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized
from werkzeug.routing import BaseConverter

from app import logs
from app.api import bodies, schemas
from app.api.bodies import ApiRequest, StrictJson
from app.config import Settings

log = logging.getLogger("app.access")

LOCAL_OWNER = "local"
"""Who everything belongs to where no keys are configured."""

PUBLIC = frozenset(
    {"service.live", "service.ready", "service.openapi", "service.docs", "service.static"}
)
"""Endpoints that answer without a key; every other route is closed by default."""

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class IdConverter(BaseConverter):
    """The part of a path that is an id; a path with anything else there leads nowhere."""

    regex = schemas.ID_FORM


def install(app: Flask, settings: Settings) -> None:
    """Put the gate in front of every route of ``app``."""
    owners = {
        hashlib.sha256(key.get_secret_value().encode()).digest(): name
        for name, key in settings.api_keys.items()
    }

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
            g.owner = _authenticate(owners) if owners else LOCAL_OWNER
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


def _authenticate(owners: dict[bytes, str]) -> str:
    """Return the owner of the request's key; every key is compared, in constant time each."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    sent = hashlib.sha256(key.strip().encode("latin-1", "replace")).digest()
    matches = [name for digest, name in owners.items() if hmac.compare_digest(digest, sent)]
    if scheme.lower() != "bearer" or not matches:
        reason = "send `Authorization: Bearer <key>` with a key that the service knows"
        raise Unauthorized(reason, www_authenticate=WWWAuthenticate("bearer"))
    return matches[0]
