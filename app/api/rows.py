"""Rows of JSON that are nothing but numbers, predicted as the matrix that they are."""

from __future__ import annotations

import codecs
import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from engine.arrays import Matrix
from engine.data.scaling import Numbers
from engine.model import Model

NUMBERS = {int, float}

LARGEST_BYTES = 1 << 22
"""Of a body that `read` takes; each thread keeps several times as much as its largest had."""


def predicted(model: Model, rows: Sequence[Any]) -> Matrix | None:
    """Return what is predicted for rows, or None where they are more than numbers, or amiss.

    Parameters
    ----------
    model : Model
    rows : sequence
        Each an object by name, or an array in the order of the model's inputs.
    """
    names = model.number_names
    values = None if names is None else _matrix(names, rows)
    return None if values is None else model.predict_numbers(values)


def read(body: bytes, field: str, width: int, most: int) -> Numbers | None:
    """Read a JSON object of one field that has rows of numbers, without an object for each number.

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
    parser = _parsers.own
    if parser is None or len(body) > LARGEST_BYTES or body.count(b'"') != 2:
        return None
    if body.startswith(codecs.BOM_UTF8):  # which it would pass over
        return None
    try:
        rows = parser.parse(body)[field]
        if not 0 < len(rows) <= most or set(map(len, rows)) != {width}:
            return None
        values = np.frombuffer(rows.as_buffer(of_type="d"))
    except (ValueError, TypeError, KeyError):
        return None
    if body.count(b"[") != len(rows) + 1:  # what is nested in a row lies flat by now
        return None
    return values.reshape(len(rows), width)


class _Parsers(threading.local):
    """A parser for each thread: what one has read is gone when it reads again."""

    own: Any = None

    def __init__(self) -> None:
        with suppress(ImportError):
            import simdjson  # late: not every Python has a wheel of it

            self.own = simdjson.Parser()


_parsers = _Parsers()


def _matrix(names: Sequence[str], rows: Sequence[Any]) -> Numbers | None:
    if not all(type(row) is list for row in rows):
        rows = _in_order(names, rows)
    if any(len(row) != len(names) for row in rows):
        return None
    if not set(map(type, chain.from_iterable(rows))) <= NUMBERS:
        return None
    try:
        return np.array(rows, dtype=np.float64)
    except OverflowError:
        return None


def _in_order(names: Sequence[str], rows: Sequence[Any]) -> Sequence[Any]:
    """Return rows as arrays; none where one is no object of exactly these names."""
    pick = itemgetter(*names) if len(names) > 1 else lambda row: (row[names[0]],)
    try:
        return [pick(row) if type(row) is dict and len(row) == len(names) else () for row in rows]
    except KeyError:
        return [()]
