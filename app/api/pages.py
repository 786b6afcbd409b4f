"""Lists: one page at a time, newest first, with the address of the next."""

from __future__ import annotations

from urllib.parse import urlencode

from flask import Response, request
from pydantic import BaseModel
from werkzeug.urls import iri_to_uri

from app.api.conditional import answer


def answer_page(body: BaseModel, next_cursor: str | None) -> Response:
    """Answer with a page and, unless it is the last, a ``Link`` to the next."""
    response = answer(body)
    if next_cursor is not None:
        query = urlencode({**request.args.to_dict(), "cursor": next_cursor})
        response.headers["Link"] = f'<{iri_to_uri(request.path)}?{query}>; rel="next"'
    return response
