"""Request bodies: bounded while they are read, and JSON that can be read in one way only."""

from __future__ import annotations

import json
import re
from typing import IO, Any, NoReturn

import orjson
from flask import Request, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import (
    BadRequest,
    ClientDisconnected,
    RequestEntityTooLarge,
    UnprocessableEntity,
    UnsupportedMediaType,
)

from app.config import Settings
from engine.data.formats.kinds import Format
from engine.data.table import json_type, named_once

UPLOADS = frozenset({"datasets.upload"})
"""Endpoints whose body is a file."""

PACKED = frozenset({"gzip", "zstd"})
"""What a file may be packed with; its first bytes say so too."""

TABLES: dict[str, Format] = {
    "text/csv": "csv",
    "application/vnd.apache.arrow.stream": "arrow",
    "application/vnd.apache.arrow.file": "arrow",
}
"""What rows to predict may come as, beside JSON."""

PREDICTIONS = frozenset({"models.predict"})

TENSORS = frozenset({"inference.infer", "inference.infer_version"})
"""Endpoints whose body is of tensors, whatever type it says it has."""

PACKED_TENSORS = frozenset({"gzip", "deflate"})
"""What these may be packed with."""

PIECE_BYTES = 1 << 20

REFUSAL = "chainrule.refusal"
"""Where the environment says why the body was not received."""

DEEPEST = 16
CONTAINERS = {list, dict}

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def check(settings: Settings) -> None:
    """Refuse what cannot be read: too large, of another type, or not a JSON object."""
    if (refusal := request.environ.get(REFUSAL)) is not None:
        raise refusal
    if request.endpoint in TENSORS:
        _check_encoding(PACKED_TENSORS)
        _measure(limit(request.endpoint, settings))
        return
    upload = request.endpoint in UPLOADS
    if request.content_length or "Transfer-Encoding" in request.headers:
        _check_encoding(PACKED if upload else frozenset())
        is_table = request.endpoint in PREDICTIONS and request.mimetype in TABLES
        if not (upload or is_table or request.is_json or request.method == "GET"):
            others = f" or {', '.join(TABLES)}" if request.endpoint in PREDICTIONS else ""
            raise UnsupportedMediaType(f"send the body as application/json{others}")
    _measure(limit(request.endpoint, settings))
    if request.is_json and not upload and request.get_data():
        _check_json()


def limit(endpoint: str | None, settings: Settings) -> int:
    """Return how many bytes the body of a request may have."""
    return settings.upload_limit_bytes if endpoint in UPLOADS else settings.body_limit_bytes


def once_each(fields: MultiDict[str, str], where: str) -> None:
    """Refuse a field that is given twice: which of the two is meant cannot be told."""
    for name, values in fields.lists():
        if len(values) > 1:
            raise BadRequest(f"{where} gives {name[:80]!r} {len(values)} times; give it once")


def _check_encoding(known: frozenset[str]) -> None:
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding not in {"identity", *known}:
        taken = f"{' or '.join(sorted(known))}, or none" if known else "none"
        raise UnsupportedMediaType(f"Content-Encoding: expected {taken}; got {encoding!r}")


def _check_json() -> None:
    body = request.get_json()
    if not isinstance(body, dict):
        raise UnprocessableEntity(f"the body must be a JSON object, got {json_type(body)}")


class StrictJson(DefaultJSONProvider):
    """JSON that means the same to everyone.

    A name that appears twice, NaN, infinity and half a surrogate pair are
    taken by some and refused by others; here they are refused.
    """

    def loads(self, s: str | bytes, **_options: Any) -> Any:
        """Read JSON; whatever is wrong with it is a ValueError."""
        return read_json(s)


def read_json(data: str | bytes) -> Any:
    """Read JSON strictly; whatever is wrong with it is a ValueError."""
    try:
        text = data if isinstance(data, str) else data.decode()
        value = json.loads(text, object_pairs_hook=named_once, parse_constant=_constant)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeError as error:
        raise ValueError("it holds what is not UTF-8 text") from error
    except ValueError as error:
        if str(error).startswith("Exceeds the limit"):  # goes on with advice for us
            raise ValueError("it holds a number of too many digits") from error
        raise
    return value


def read_quickly(data: bytes) -> Any:
    """Read the JSON that most send, a third as long; a ValueError is for `read_json` to explain.

    Names that appear twice are seen by their colons: each name has one. A colon in a text, or an
    object that does not come first in its array while others do not, is a ValueError as well.
    """
    value = orjson.loads(data)
    if data.count(b":") != _names(value, DEEPEST):
        raise ValueError("a name may appear twice")
    return value


def _names(value: Any, depth: int) -> int:
    """Count the names in a value, but for those that nobody expects where they are."""
    if not depth:
        raise ValueError("it is nested deeply")
    count, inner = 0, value
    if type(value) is dict:
        count, inner = len(value), value.values()
    elif type(value) is not list or not value or type(value[0]) not in CONTAINERS:
        return 0
    for each in inner:
        if type(each) is dict or (type(each) is list and each and type(each[0]) in CONTAINERS):
            count += _names(each, depth - 1)
    return count


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


class ApiRequest(Request):
    """A request that says what is wrong with its JSON."""

    def on_json_loading_failed(self, e: ValueError | None) -> NoReturn:
        """Refuse a body that is not JSON."""
        raise BadRequest(f"the body is not valid JSON: {e}") from e


def _measure(limit_bytes: int) -> None:
    """Bound the body by what is read, not by what is announced, and refuse half a body.

    A chunked body announces no length, so whether it is too large is found
    while reading. Servers hand over a body that breaks off as if it were
    whole; only where a length was announced can that be seen here.
    """
    announced = request.content_length
    check_size(announced or 0, limit_bytes)
    body = MeasuredBody(request.environ["wsgi.input"], announced, limit_bytes)
    request.environ["wsgi.input"] = body
    request.environ["wsgi.input_terminated"] = True


def check_size(size: int, limit_bytes: int) -> None:
    """Refuse a body that is too large."""
    if size > limit_bytes:
        reason = f"the body is larger than the {limit_bytes:,} bytes allowed"
        raise RequestEntityTooLarge(reason)


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
        if size >= 0:
            return self._piece(size)
        return b"".join(iter(lambda: self._piece(PIECE_BYTES), b""))

    def _piece(self, size: int) -> bytes:
        if self._announced is not None:
            size = min(size, self._announced - self._read)
        if size == 0:
            return b""
        try:
            piece = self._body.read(size)
        except OSError as error:
            raise ClientDisconnected(f"the body broke off after {self._read:,} bytes") from error
        self._read += len(piece)
        check_size(self._read, self._limit)
        if not piece and self._announced is not None:
            reason = f"the body broke off after {self._read:,} of {self._announced:,} bytes"
            raise ClientDisconnected(reason)
        return piece
