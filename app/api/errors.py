"""Errors as RFC 9457 problems: the only place where an error becomes a status number."""

from __future__ import annotations

import logging
from difflib import get_close_matches
from typing import Any, cast

import orjson
from flask import Flask, Response, g, request
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import HTTPException

from app.store.errors import (
    ConflictError,
    CursorError,
    IllegalMoveError,
    InFlightError,
    KeyReusedError,
    NotFoundError,
    StoreError,
)
from engine.errors import DataError, EngineError, SchemaError, SpecError

log = logging.getLogger(__name__)

STATUS: dict[type[Exception], int] = {
    NotFoundError: 404,
    IllegalMoveError: 409,
    KeyReusedError: 422,
    InFlightError: 409,
    ConflictError: 409,
    CursorError: 400,
    SpecError: 422,
    DataError: 422,
    OperationalError: 503,
    PoolTimeoutError: 503,
}

MAX_ERRORS = 50


def install(app: Flask) -> None:
    """Have every error of ``app`` answered as a problem."""
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(StoreError, _known)
    app.register_error_handler(EngineError, _known)
    app.register_error_handler(OperationalError, _unavailable)
    app.register_error_handler(PoolTimeoutError, _unavailable)
    app.register_error_handler(Exception, _unexpected)


def problem(
    status: int, title: str, detail: str, errors: list[dict[str, str]] | None = None
) -> Response:
    """Answer with an RFC 9457 problem."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": request.path,
        "request_id": g.get("request_id"),
    }
    if errors is not None:
        body["errors"] = errors
    return Response(
        orjson.dumps(body), status, content_type="application/problem+json; charset=utf-8"
    )


def invalid(error: ValidationError) -> Response:
    """Answer what pydantic found wrong with a body or a query, with pointers into it."""
    found = error.errors(include_url=False)
    errors = [_located(detail, _sent()) for detail in found[:MAX_ERRORS]]
    first = errors[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    detail = f"{first['pointer'] or 'the body'}: {first['detail']}{more}"
    return problem(422, "The request is not valid.", detail, errors)


def _sent() -> Any:
    return request.get_json(silent=True) if request.is_json else None


def _located(error: ErrorDetails, body: Any) -> dict[str, str]:
    pointer = _pointer(error, body)
    context = error.get("ctx", {})
    if error["type"] == "union_tag_invalid":
        known = [name.strip("' ") for name in context["expected_tags"].split(",")]
        return {"pointer": f"{pointer}/type", "detail": _unknown(context["tag"], known)}
    if error["type"] == "union_tag_not_found":
        return {"pointer": f"{pointer}/type", "detail": "missing; say which type it is"}
    if error["type"] == "extra_forbidden":
        return {"pointer": pointer, "detail": "no such field"}
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        known = [part for part in context["expected"].split("'") if part not in ("", ", ", " or ")]
        return {"pointer": pointer, "detail": _unknown(error["input"], known)}
    got = error["input"]
    shown = f", got {got!r}" if isinstance(got, (int, float, str)) and len(str(got)) < 80 else ""
    return {"pointer": pointer, "detail": f"{error['msg']}{shown}"}


def _unknown(got: str, known: list[str]) -> str:
    close = get_close_matches(got, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown {got[:80]!r}, expected one of {', '.join(known)}{hint}"


def _pointer(error: ErrorDetails, body: Any) -> str:
    """Return the RFC 6901 pointer of an error.

    pydantic's location also names the branch of a union that it took; such a
    part is not in the body that was sent, and is left out.
    """
    parts = []
    for position, part in enumerate(error["loc"]):
        last = position == len(error["loc"]) - 1
        if isinstance(body, dict) and part in body:
            body = body[str(part)]
        elif isinstance(body, list) and isinstance(part, int) and part < len(body):
            body = body[part]
        elif not (last and error["type"] == "missing") and request.is_json:
            continue
        parts.append(str(part).replace("~", "~0").replace("/", "~1"))
    return "".join(f"/{part}" for part in parts)


def _title(error: Exception) -> str:
    return (type(error).__doc__ or type(error).__name__).strip().split("\n")[0]


def _known(error: StoreError | EngineError) -> Response:
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), None)
    if status is None:
        return _unexpected(error)
    return problem(status, _title(error), str(error), _errors(error))


def _errors(error: Exception) -> list[dict[str, str]] | None:
    if isinstance(error, SpecError):
        return [{"pointer": error.path, "detail": error.reason}]
    if isinstance(error, SchemaError) and error.row is not None and request.is_json:
        name = error.column.replace("~", "~0").replace("/", "~1")
        detail = f"expected {error.expected}, got {error.got}"
        return [{"pointer": f"/instances/{error.row}/{name}", "detail": detail}]
    return None


def _http(error: HTTPException) -> Response:
    if error.response is not None:
        return cast(Response, error.response)
    status = error.code or 500
    answer = problem(status, f"{error.name}.", error.description or error.name)
    for name, value in error.get_headers():
        if name.lower() in ("allow", "retry-after", "www-authenticate", "content-range"):
            answer.headers[name] = value
    return answer


def _unavailable(error: Exception) -> Response:
    log.warning("the database does not answer", exc_info=error)
    detail = "the database does not answer; nothing was changed, try again"
    answer = problem(503, "Unavailable.", detail)
    answer.headers["Retry-After"] = "2"
    return answer


def _unexpected(error: Exception) -> Response:
    log.error("request failed", exc_info=error)
    detail = "the service failed; quote the request id when you report it"
    return problem(500, "Internal error.", detail)
