"""Idempotency-Key: the same request sent twice is done once and answered the same."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from contextlib import AbstractContextManager

from flask import Response, request
from sqlalchemy.orm import Session
from werkzeug.exceptions import BadRequest

from app.api.services import owner, services, writing
from app.store import idempotency

KEY = re.compile(r"[ -+\--~]{1,255}")
"""A comma is what two headers of one name are joined by."""

REPLAYED_HEADERS = ("Content-Type", "Location", "ETag")


def once(
    work: Callable[[Session], Response],
    transaction: Callable[[], AbstractContextManager[Session]] = writing,
) -> Response:
    """Do ``work`` in one transaction, or answer again what it answered to this key before.

    The key's row is written in the transaction of the work, so that either
    both are kept or neither: a request that was cut off can be sent again.
    """
    key = sent_key()
    with transaction() as session:
        if key is None:
            return work(session)
        stored = _begin(session, key, _digest())
        if stored is not None:
            return replay(stored)
        response = work(session)
        keep(session, key, response)
        return response


def _begin(session: Session, key: str, digest: str) -> idempotency.Stored | None:
    hours = services().settings.idempotency_hours
    return idempotency.begin(session, owner(), key, fingerprint(digest), hours)


def once_apart(work: Callable[[], Response]) -> Response:
    """Do ``work`` that is too long for a transaction, or answer again what it answered before."""
    if (stored := begin(_digest())) is not None:
        return stored
    try:
        response = work()
        if (key := sent_key()) is not None:
            with writing() as session:
                keep(session, key, response)
    except BaseException:
        abandon()
        raise
    return response


def begin(digest: str) -> Response | None:
    """Take the key for work that is too long for one transaction.

    Returns what was answered before; None when the work is to be done, and
    then the caller ends with `keep` or `abandon`.
    """
    key = sent_key()
    if key is None:
        return None
    with writing() as session:
        stored = _begin(session, key, digest)
    return replay(stored) if stored is not None else None


def _digest() -> str:
    return hashlib.sha256(request.get_data()).hexdigest()


def keep(session: Session, key: str, response: Response) -> None:
    """Keep the answer for the next time that the key is sent."""
    headers = {
        name: response.headers[name] for name in REPLAYED_HEADERS if name in response.headers
    }
    status, body = response.status_code, response.get_data()
    idempotency.finish(session, owner(), key, status, headers, body)


def abandon() -> None:
    """Give the key back after work that failed."""
    if key := sent_key():
        with writing() as session:
            idempotency.abandon(session, owner(), key)


def sent_key() -> str | None:
    """Return the request's key, or None."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and KEY.fullmatch(key) is None:
        wanted = "1 to 255 printable ASCII characters without a comma"
        raise BadRequest(f"Idempotency-Key: expected {wanted}, once")
    return key


def fingerprint(digest: str) -> str:
    """Tell requests apart by route, query and body."""
    asked = f"{request.method} {request.path}?{request.query_string.decode('latin-1')} {digest}"
    return hashlib.sha256(asked.encode()).hexdigest()


def replay(stored: idempotency.Stored) -> Response:
    """Answer as before."""
    response = Response(stored.body, stored.status, headers=stored.headers)
    response.headers["Idempotent-Replayed"] = "true"
    return response
