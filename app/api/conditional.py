"""Entity tags, what they are compared with, and held answers."""

from __future__ import annotations

from collections.abc import Callable

import orjson
from flask import Response, request
from pydantic import BaseModel
from werkzeug.exceptions import PreconditionFailed

from app.api.services import services
from app.api.waiting import looks


def answer(body: BaseModel, status: int = 200, location: str | None = None) -> Response:
    """Answer with a resource."""
    response = Response(body.model_dump_json(), status, content_type="application/json")
    if location is not None:
        response.headers["Location"] = location
    return response


def answer_json(body: object) -> Response:
    """Answer with plain JSON values; a number that JSON cannot hold becomes null."""
    return Response(json_bytes(body), content_type="application/json")


def json_bytes(body: object) -> bytes:
    """Write plain JSON values; a number that JSON cannot hold becomes null."""
    return orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)


def answer_tagged(body: BaseModel, tag: str) -> Response:
    """Answer a GET of one resource with its strong entity tag, or 304."""
    response = answer(body)
    response.set_etag(tag)
    response.make_conditional(request)
    return response


def unless_changed(tag: str) -> None:
    """Refuse to change what is not what the caller has seen, where `If-Match` says what that is.

    Called when all else is in order, within the transaction, which is then taken back.

    Parameters
    ----------
    tag : str
        The resource's entity tag before the change.
    """
    if "If-Match" in request.headers and not request.if_match.contains(tag):
        reason = f'it has changed: its ETag is now "{tag}"; look at it again'
        raise PreconditionFailed(f"If-Match: {reason}")


def hold(tag: Callable[[], tuple[str, bool]], seconds: float) -> None:
    """Wait until a resource is not what the caller already has, or until it is final.

    Parameters
    ----------
    tag : callable
        Returns the resource's entity tag now, and whether it will change no more.
    seconds : float
        The longest wait. Where as many requests are held as the server can
        spare threads for, there is no wait.
    """
    places = services().waiting
    if not places.acquire(blocking=False):
        return
    try:
        for changed in looks(services(), seconds):
            if changed and _news(*tag()):
                return
    finally:
        places.release()


def _news(tag: str, final: bool) -> bool:
    if request.if_none_match:
        return final or not request.if_none_match.contains(tag)
    return final
