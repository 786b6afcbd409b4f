"""JSON of many numbers, read without an object for each: by simdjson, where there is a wheel of it.

Whatever is unusual about it, or wrong with it, is for `bodies` to read, or to explain.
"""

from __future__ import annotations

import codecs
import threading
from contextlib import suppress
from typing import Any

import numpy as np
import orjson

from app.api.bodies import read_quickly
from app.api.tensors import DATATYPES
from engine.data.scaling import Numbers

LARGEST_BYTES = 1 << 22
"""Of a body that is read here; each thread keeps several times as much as its largest had."""

MANY_BYTES = 1 << 12
"""From so many on it pays to take the numbers out of a tensor."""

DATA = b'"data"'
SIZE = "binary_data_size"
NUMERIC = DATATYPES.keys() - {"FP16"}
"""Types of tensors that may be numbers of JSON."""


def rows_of(body: bytes, field: str, width: int, most: int) -> Numbers | None:
    """Read an object of one field that has rows of numbers.

    Parameters
    ----------
    body : bytes
    field : str
    width : int
        How many numbers a row has.
    most : int
        How many rows there may be.

    Returns
    -------
    Numbers of shape (rows, width), or None
        None where it is anything else, or cannot be read here.
    """
    if body.count(b'"') != 2:
        return None
    try:
        rows = _parsed(body)[field]
        if not 0 < len(rows) <= most or set(map(len, rows)) != {width}:
            return None
        values = np.frombuffer(rows.as_buffer(of_type="d"))
    except (ValueError, TypeError, KeyError):
        return None
    if body.count(b"[") != len(rows) + 1:  # what is nested in a row lies flat by now
        return None
    return values.reshape(len(rows), width)


def data_apart(body: bytes) -> tuple[bytes, int] | None:
    """Put the numbers of a tensor behind the JSON that says what they are, as binary data.

    Parameters
    ----------
    body : bytes
        A request of the Open Inference Protocol, all of it JSON.

    Returns
    -------
    tuple of (bytes, int), or None
        The body, and how many of its bytes are JSON. None where the request has more than one
        tensor, or that one more than a flat list of numbers; or where it is small, or cannot be
        read here.
    """
    if len(body) < MANY_BYTES or body.count(DATA) != 1 or b"\\" in body:
        return None
    place = body.index(DATA) + len(DATA)
    start, end = body.find(b"[", place), body.find(b"]", place) + 1
    if body[place:start].strip() != b":" or body.find(b"[", start + 1, end) >= 0:
        return None
    try:
        numbers = bytes(_parsed(body[start:end]).as_buffer(of_type="d"))
        request = read_quickly(body[:start] + b"null" + body[end:])
        [tensor] = request["inputs"]
        if tensor.pop("data") is not None or tensor["datatype"] not in NUMERIC:
            return None
        parameters = tensor.setdefault("parameters", {})
        if SIZE in parameters:
            return None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    parameters[SIZE] = len(numbers)
    tensor["datatype"] = "FP64"  # as numbers of JSON are kept, whatever they are called
    head = orjson.dumps(request)
    return head + numbers, len(head)


def _parsed(data: bytes) -> Any:
    """Return a value of JSON; whatever is wrong with it is a ValueError."""
    if _parsers.own is None or len(data) > LARGEST_BYTES or data.startswith(codecs.BOM_UTF8):
        raise ValueError("it cannot be read here")
    try:
        return _parsers.own.parse(data)
    except RuntimeError as error:  # a number of more than 64 bits
        raise ValueError(str(error)) from error


class _Parsers(threading.local):
    """A parser for each thread: what one has read is gone when it reads again."""

    own: Any = None

    def __init__(self) -> None:
        with suppress(ImportError):
            import simdjson  # late: not every Python has a wheel of it

            self.own = simdjson.Parser()


_parsers = _Parsers()
