"""Rows of JSON that are nothing but numbers, predicted as the matrix that they are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from engine.arrays import Matrix
from engine.data.scaling import Numbers
from engine.model import Model

NUMBERS = {int, float}


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
