"""The gate before every route: who asks, for what, under which id, and how much they may send."""

from __future__ import annotations

import logging
import re
import time
from urllib.parse import quote, unquote_to_bytes

from flask import Flask, Response, g, request
from uuid_utils import uuid7
from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, NotFound, RequestURITooLarge
from werkzeug.routing import BaseConverter

from app import logs
from app.api import bodies, schemas
from app.api.bodies import ApiRequest, StrictJson
from app.api.login import Login, rate_headers
from app.config import Settings
from app.store.keys import Scope

PUBLIC = frozenset(
    {
        "service.live",
        "service.ready",
        "service.openapi",
        "service.docs",
        "service.static",
        "inference.server",
        "inference.server_again",
        "inference.live",
        "inference.ready",
    }
)
"""Endpoints that answer without a key; every other route is closed by default."""

SCOPES = {
    "models.predict": Scope.PREDICT,
    "models.evaluate": Scope.PREDICT,
    "inference.infer": Scope.PREDICT,
    "inference.infer_version": Scope.PREDICT,
    "inspection.trace": Scope.PREDICT,
    "inspection.saliency": Scope.PREDICT,
    "keys.create": Scope.ADMIN,
    "keys.index": Scope.ADMIN,
    "keys.show": Scope.ADMIN,
    "keys.revoke": Scope.ADMIN,
}
"""What a key needs for an endpoint, where it is not to read for a GET and to train for the rest."""

SAFE = ("GET", "HEAD", "OPTIONS")

ADDRESS_LIMIT_BYTES = 8192

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Of every answer that does not say otherwise: a browser shows it, and does nothing with it."""

_HOST = re.compile(r"(\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(:[0-9]{1,5})?", re.IGNORECASE)

_STRAY_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class IdConverter(BaseConverter):
    """The part of a path that is an id; a path with anything else there leads nowhere."""

    regex = schemas.ID_FORM


def install(app: Flask, settings: Settings, login: Login) -> None:
    """Put the gate in front of every route of ``app``."""
    app.request_class = ApiRequest
    app.json = StrictJson(app)
    app.url_map.converters["default"] = IdConverter
    app.url_map.merge_slashes = False

    @app.before_request
    def enter() -> None:
        g.started = time.perf_counter()
        g.request_id = id_of(request.headers.get("X-Request-Id", ""))
        logs.forget()
        logs.bind(request_id=g.request_id)
        _check_address(settings.host_names)
        if request.endpoint not in PUBLIC:
            caller = login.admit(request.environ)
            g.owner, g.standing = caller.owner, caller.standing
            _check(caller.scopes)
            if request.routing_exception is None:  # else the body was not received
                _check_query(request.query_string)
                bodies.once_each(request.args, "the query")
                bodies.check(settings)

    @app.after_request
    def leave(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.request_id
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if request.endpoint not in PUBLIC:
            response.headers.setdefault("Cache-Control", "no-store")
        if (standing := g.get("standing")) is not None:
            response.headers.update(rate_headers(standing))
        level = logging.DEBUG if request.endpoint in PUBLIC else logging.INFO
        status = response.status_code
        say(request.method, shown_path(), status, g.started, g.request_id, level)
        return response


def id_of(sent: str) -> str:
    """Return the id of a request: the one that was sent with it, if that is sane, or a new one."""
    return sent if _SANE_ID.fullmatch(sent) else uuid7().hex


def shown_path() -> str:
    """Return the path of this request as it is logged."""
    return quote(request.path)[:ADDRESS_LIMIT_BYTES]


def say(
    method: str, path: str, status: int, started: float, request_id: str, level: int = logging.INFO
) -> None:
    """Log that a request was answered.

    Parameters
    ----------
    method, path : str
    status : int
    started : float
        On the clock of `time.perf_counter`.
    request_id : str
    level : int
    """
    facts = {
        "method": method,
        "path": path,
        "status": status,
        "milliseconds": round(1000 * (time.perf_counter() - started), 3),
        "request_id": request_id,
    }
    logs.access(level, facts)


class MisdirectedRequest(HTTPException):
    """The request is for another service."""

    code = 421


def _check_address(known: frozenset[str]) -> None:
    """Refuse a request for nobody, or for another: a page elsewhere can make a browser send one."""
    sent = request.environ.get("HTTP_HOST", "")
    host = _HOST.fullmatch(sent)
    if host is None:
        raise BadRequest(f"Host: expected one name, with a port or without, got {sent[:100]!r}")
    if known and (host["name"] or host["v6"]).lower() not in known:
        asked = f"the service is not called {sent[:100]!r}"
        raise MisdirectedRequest(f"{asked}; the operator sets its names as CHAINRULE_ALLOWED_HOSTS")
    path = request.environ.get("PATH_INFO", "")
    if path.startswith("//"):  # Werkzeug would take it for one slash
        raise NotFound
    if len(path) + len(request.query_string) > ADDRESS_LIMIT_BYTES:
        raise RequestURITooLarge(f"the address is longer than the {ADDRESS_LIMIT_BYTES:,} allowed")


def _check_query(query: bytes) -> None:
    """Refuse what Werkzeug would replace, or leave as it is."""
    if _STRAY_PERCENT.search(query):
        raise BadRequest("the query has a % that no two hexadecimal digits follow; write it as %25")
    try:
        unquote_to_bytes(query).decode()
    except UnicodeDecodeError as error:
        raise BadRequest("the query holds what is not UTF-8 text") from error


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
