"""Errors as RFC 9457 problems: the only place where an error becomes a status number."""

from __future__ import annotations

import errno
import json
import logging
import re
from difflib import get_close_matches
from typing import Any, TypeVar, cast
from urllib.parse import quote

import orjson
from flask import Flask, Response, abort, g, request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from werkzeug.exceptions import (
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestedRangeNotSatisfiable,
)

from app.api.services import services
from app.store.database import UNAVAILABLE
from app.store.errors import (
    ConflictError,
    CorruptArtifactError,
    CursorError,
    IllegalMoveError,
    InFlightError,
    KeyReusedError,
    NotFoundError,
    QuotaError,
    QuotaSpentError,
    StoreError,
)
from engine.data.table import json_type
from engine.errors import DataError, EngineError, SpecError

log = logging.getLogger(__name__)

MAX_ERRORS = 50
SHOWN_CHARACTERS = 80
INSTANCE_CHARACTERS = 1000


class BodyError(Exception):
    """The request is not valid.

    Parameters
    ----------
    path : str
        Where in the body, as an RFC 6901 pointer.
    reason : str
        What is wrong there, and what would do.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


PASSED_ON = frozenset(
    {
        "allow",
        "content-range",
        "ratelimit",
        "ratelimit-policy",
        "retry-after",
        "www-authenticate",
    }
)
"""Headers of werkzeug's errors that say something to a caller."""

STATUS: dict[type[Exception], int] = {
    NotFoundError: 404,
    IllegalMoveError: 409,
    KeyReusedError: 422,
    InFlightError: 409,
    ConflictError: 409,
    CursorError: 400,
    QuotaError: 403,
    QuotaSpentError: 429,
    SpecError: 422,
    DataError: 422,
    BodyError: 422,
    **dict.fromkeys(UNAVAILABLE, 503),
}


def install(app: Flask) -> None:
    """Have every error of ``app`` answered as a problem."""
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(BodyError, _known)
    app.register_error_handler(StoreError, _known)
    app.register_error_handler(CorruptArtifactError, _damaged)
    app.register_error_handler(EngineError, _known)
    for kind in UNAVAILABLE:
        app.register_error_handler(kind, _unavailable)
    app.register_error_handler(OSError, _of_the_system)
    app.register_error_handler(Exception, _unexpected)


def problem(
    status: int, title: str, detail: str, errors: list[dict[str, str]] | None = None
) -> Response:
    """Answer with an RFC 9457 problem, or with the error of a protocol that has its own."""
    if request.path.startswith("/v2"):
        said = {"error": services().redact.within(detail)}
        return Response(orjson.dumps(said), status, content_type="application/json")
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": quote(request.path)[:INSTANCE_CHARACTERS],
        "request_id": g.get("request_id"),
    }
    if errors is not None:
        body["errors"] = errors
    return Response(
        orjson.dumps(services().redact.within(body)),
        status,
        content_type="application/problem+json; charset=utf-8",
    )


Body = TypeVar("Body", bound=BaseModel)


def sent(model: type[Body]) -> Body:
    """Read the request's JSON; what is wrong with it is answered as for any other call."""
    try:
        return model.model_validate(request.get_json() if request.get_data() else None)
    except ValidationError as error:
        abort(invalid(error))


def invalid(error: ValidationError) -> Response:
    """Answer what pydantic found wrong with a body or a query, with pointers into it."""
    found, body = error.errors(include_url=False), _sent()
    if body is None and not found[0]["loc"]:
        return problem(400, "Bad Request.", "the body is empty; send a JSON object")
    errors = [_located(detail, body) for detail in found[:MAX_ERRORS]]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    detail = f"{errors[0]['pointer'] or 'the body'}: {errors[0]['detail']}{more}"
    return problem(422, _title(BodyError), detail, errors)


def _sent() -> Any:
    return request.get_json() if request.is_json and request.get_data() else None


def _located(error: ErrorDetails, body: Any) -> dict[str, str]:
    where = _pointer(error, body)
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        where += "/type"
    return {"pointer": where, "detail": _reason(error)}


EXPECTED = {
    "extra_forbidden": "no such field",
    "missing": "missing",
    "union_tag_not_found": "missing",
    "model_type": "expected an object",
    "model_attributes_type": "expected an object",
    "dict_type": "expected an object",
    "list_type": "expected an array",
    "string_type": "expected a string",
    "bool_type": "expected true or false",
    "int_type": "expected an integer",
    "int_parsing": "expected an integer",
    "int_parsing_size": "expected a smaller integer",
    "int_from_float": "expected an integer",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "finite_number": "expected a finite number",
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected at least {ge}",
    "less_than": "expected less than {lt}",
    "less_than_equal": "expected at most {le}",
    "string_too_short": "expected at least {min_length} character(s)",
    "string_too_long": "expected at most {max_length} characters",
    "too_short": "expected at least {min_length} item(s)",
    "too_long": "expected at most {max_length} items",
    "string_pattern_mismatch": "expected an id, such as those that the service gives",
    "datetime_parsing": "expected a time such as 2030-01-31T12:00:00Z",
    "datetime_from_date_parsing": "expected a time such as 2030-01-31T12:00:00Z",
    "timezone_aware": "expected a time with its zone, such as 2030-01-31T12:00:00Z",
    "value_error": "{error}",
}
"""What to say for each type of error that pydantic finds; for any other its own words."""

COMPLETE = frozenset({"extra_forbidden", "missing", "union_tag_not_found", "value_error"})
"""Of these, what was sent adds nothing."""


def _reason(error: ErrorDetails) -> str:
    """Say what is wrong and what would do."""
    kind, got, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "union_tag_invalid":
        return _unknown(context["tag"], _names(context["expected_tags"]))
    if kind in ("literal_error", "enum") and isinstance(got, str):
        return _unknown(got, _names(context["expected"]))
    bounds = {name: _plain(value) for name, value in context.items()}
    reason = EXPECTED[kind].format(**bounds) if kind in EXPECTED else error["msg"]
    if error["loc"][-1:] == ("other",) and kind.endswith("_type"):  # engine.spec.OneOrOther
        reason += " or a string"
    return reason if kind in COMPLETE else f"{reason}, got {_shown(got)}"


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _names(listed: str) -> list[str]:
    """Take the names out of ``'a', 'b' or 'c'``."""
    return re.findall(r"'([^']*)'", listed)


def _unknown(got: str, known: list[str]) -> str:
    close = get_close_matches(got, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown {got[:80]!r}, expected one of {', '.join(known)}{hint}"


def _shown(value: Any) -> str:
    """Show a value of JSON as it was sent, or its type where it is long."""
    if isinstance(value, (dict, list)):
        return json_type(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARACTERS else json_type(value)


def _pointer(error: ErrorDetails, body: Any) -> str:
    """Return the RFC 6901 pointer of an error.

    pydantic's location also names the branch of a union that it took; such a
    part is not in the body that was sent, and is left out. A query has no
    branches.
    """
    if body is None:
        return pointer(*error["loc"])
    parts: list[str | int] = []
    for part in error["loc"]:
        if isinstance(body, dict) and part in body:
            body = body[str(part)]
        elif isinstance(body, list) and isinstance(part, int) and part < len(body):
            body = body[part]
        else:
            continue
        parts.append(part)
    if error["type"] == "missing":
        parts.append(error["loc"][-1])
    return pointer(*parts)


def pointer(*parts: str | int) -> str:
    """Put names and positions together to an RFC 6901 pointer."""
    escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in parts)
    return "".join(f"/{part}" for part in escaped)


def _title(kind: type[Exception]) -> str:
    return (kind.__doc__ or kind.__name__).strip().split("\n")[0]


def _known(error: BodyError | StoreError | EngineError) -> Response:
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), None)
    if status is None:
        return _unexpected(error)
    errors = None
    if isinstance(error, (SpecError, BodyError)):
        errors = [{"pointer": error.path, "detail": error.reason}]
    return problem(status, _title(type(error)), str(error), errors)


def _http(error: HTTPException) -> Response:
    if error.response is not None:
        return cast(Response, error.response)
    status = error.code or 500
    answer = problem(status, f"{error.name}.", _advice(error) or error.name)
    for name, value in error.get_headers():
        if name.lower() in PASSED_ON:
            answer.headers[name] = value
    return answer


def _advice(error: HTTPException) -> str | None:
    """Return the description, or ours where werkzeug's speaks to somebody with a browser."""
    if error.description != type(error).description:
        return error.description
    if isinstance(error, NotFound):
        return "there is nothing at this address; /openapi.json lists what there is"
    if isinstance(error, MethodNotAllowed):
        return (
            f"{request.method} does nothing here; {', '.join(sorted(error.valid_methods or ()))} do"
        )
    if isinstance(error, RequestedRangeNotSatisfiable):
        return f"ask for one range within the {error.length:,} bytes, such as bytes=0-99"
    return error.description


def _unavailable(error: Exception) -> Response:
    log.warning("the database does not answer", exc_info=error)
    detail = "the database does not answer; nothing was changed, try again"
    answer = problem(503, "Unavailable.", detail)
    answer.headers["Retry-After"] = "2"
    return answer


def _damaged(error: CorruptArtifactError) -> Response:
    """Answer no number that damaged weights would give."""
    log.error("stored bytes are damaged", exc_info=error)
    detail = "what the model was stored as has changed; train it again, or restore the database"
    return problem(500, _title(CorruptArtifactError), detail)


def _of_the_system(error: OSError) -> Response:
    """Answer that the disk is full; whatever else the system refuses is not the caller's affair."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return _unexpected(error)
    log.error("the disk is full", exc_info=error)
    detail = "the service's disk is full; nothing was kept, try again later"
    return problem(507, "Insufficient storage.", detail)


def _unexpected(error: Exception) -> Response:
    log.error("request failed", exc_info=error)
    detail = "the service failed; quote the request id when you report it"
    return problem(500, "Internal error.", detail)
