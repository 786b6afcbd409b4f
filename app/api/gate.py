"""The gate before every route: who asks, under which id, and how much they may send."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import time
from typing import IO, NoReturn

from flask import Flask, Request, Response, g, request
from uuid_utils import uuid7
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import (
    BadRequest,
    ClientDisconnected,
    RequestEntityTooLarge,
    Unauthorized,
    UnsupportedMediaType,
)

from app import logs
from app.config import Settings

log = logging.getLogger("app.access")

LOCAL_OWNER = "local"
"""Who everything belongs to where no keys are configured."""

PUBLIC = frozenset(
    {"service.live", "service.ready", "service.openapi", "service.docs", "service.static"}
)
"""Endpoints that answer without a key; every other route is closed by default."""

UPLOADS = frozenset({"datasets.upload"})

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class ApiRequest(Request):
    """A request that says what is wrong with its JSON."""

    def on_json_loading_failure(self, error: ValueError | None) -> NoReturn:
        """Refuse a body that is not JSON."""
        raise BadRequest(f"the body is not JSON: {error}")


def install(app: Flask, settings: Settings) -> None:
    """Put the gate in front of every route of ``app``."""
    owners = {
        hashlib.sha256(key.get_secret_value().encode()).digest(): name
        for name, key in settings.api_keys.items()
    }

    app.request_class = ApiRequest

    @app.before_request
    def enter() -> None:
        g.started = time.perf_counter()
        sent = request.headers.get("X-Request-Id", "")
        g.request_id = sent if _SANE_ID.fullmatch(sent) else uuid7().hex
        logs.forget()
        logs.bind(request_id=g.request_id)
        if request.endpoint not in PUBLIC:
            g.owner = _authenticate(owners) if owners else LOCAL_OWNER
        _measure_body(settings)
        if request.is_json and (request.content_length or "Transfer-Encoding" in request.headers):
            _check_json()

    @app.after_request
    def leave(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.request_id
        facts = {
            "method": request.method,
            "path": request.path,
            "status": response.status_code,
            "milliseconds": round(1000 * (time.perf_counter() - g.started), 3),
        }
        level = logging.DEBUG if request.endpoint in PUBLIC else logging.INFO
        log.log(level, "%(method)s %(path)s %(status)s", facts, extra=facts)
        return response


def _authenticate(owners: dict[bytes, str]) -> str:
    """Return the owner of the request's key; every key is compared, in constant time each."""
    authorization = request.authorization
    token = authorization.token if authorization and authorization.type == "bearer" else None
    sent = hashlib.sha256((token or "").encode()).digest()
    matches = [name for digest, name in owners.items() if hmac.compare_digest(digest, sent)]
    if not token or not matches:
        reason = "send `Authorization: Bearer <key>` with a key that the service knows"
        raise Unauthorized(reason, www_authenticate=WWWAuthenticate("bearer"))
    return matches[0]


def _check_json() -> None:
    try:
        body = request.get_json()
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply") from error
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")


def _measure_body(settings: Settings) -> None:
    """Bound the body by what is read, not by what is announced, and refuse half a body.

    A chunked body announces no length, and servers hand over a body that
    breaks off as if it were whole; both are found while reading.
    """
    upload = request.endpoint in UPLOADS
    limit = settings.upload_limit_bytes if upload else settings.body_limit_bytes
    announced = request.content_length
    if announced is not None and announced > limit:
        raise _too_large(limit)
    needs_json = request.method in ("POST", "PUT", "PATCH") and not upload
    if needs_json and announced and not request.is_json:
        raise UnsupportedMediaType("send the body as application/json")
    request.environ["wsgi.input"] = MeasuredBody(request.environ["wsgi.input"], announced, limit)
    request.environ["wsgi.input_terminated"] = True


def _too_large(limit: int) -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"the body is larger than the {limit:,} bytes allowed")


class MeasuredBody:
    """A request body that counts.

    Parameters
    ----------
    body : file
    announced : int or None
        The Content-Length; None for a chunked body.
    limit : int
        The most bytes that may be read.
    """

    def __init__(self, body: IO[bytes], announced: int | None, limit: int) -> None:
        self._body, self._announced, self._limit = body, announced, limit
        self._read = 0

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes, or all; raises 413 over the limit and 400 on half a body."""
        if self._announced is None:
            allowed = self._limit + 1 - self._read
        elif self._announced == self._read:
            return b""
        else:
            allowed = self._announced - self._read
        piece = self._body.read(allowed if size < 0 else min(size, allowed))
        self._read += len(piece)
        if self._read > self._limit:
            raise _too_large(self._limit)
        if not piece and size != 0 and self._announced is not None:
            reason = f"the body broke off after {self._read:,} of {self._announced:,} bytes"
            raise ClientDisconnected(reason)
        return piece
