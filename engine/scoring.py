"""Scoring: what a model answers to rows, in columns, and to a whole file, a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.arrays import Labels, Matrix, Vector
from engine.data import quantiles
from engine.data.formats.stored import StoredRows
from engine.data.formats.written import TableWriter, WrittenFormat
from engine.data.table import nearest
from engine.errors import DataError, SchemaError
from engine.model import Model

ROWS_AT_ONCE = 1 << 13
"""Of a file."""


@dataclass(frozen=True)
class Decision:
    """How probabilities become a class, and what is told of them.

    Parameters
    ----------
    probabilities : bool
        Whether they are told at all.
    top_k : int or None
        How many classes they are told of, the likeliest first; all in their order unless given.
    threshold : float or None
        From which probability on the second of two classes is decided for; the likelier is unless
        given.
    """

    probabilities: bool = True
    top_k: int | None = None
    threshold: float | None = None

    def check(self, model: Model) -> None:
        """Refuse what cannot be done for a model.

        Raises
        ------
        DataError
            It has no classes, or more than two and a threshold.
        """
        if model.classes is None and self != Decision():
            raise DataError("a regression has no probabilities; leave their options out")
        if self.threshold is not None and len(model.classes or ()) != 2:
            count = len(model.classes or ())
            raise DataError(f"`threshold` is for two classes; the model has {count}")

    def labels(self, y: Matrix) -> Labels:
        """Return which class each row is decided for.

        Parameters
        ----------
        y : Matrix of shape (rows, classes)
            Probabilities.
        """
        if self.threshold is None:
            labels: Labels = y.argmax(axis=1)
            return labels
        return np.greater_equal(y[:, 1], self.threshold).astype(np.intp)

    def told(self, y: Matrix) -> NDArray[np.intp]:
        """Return which classes each row's probabilities are told of, shape (rows, k)."""
        classes = y.shape[1]
        if not self.probabilities:
            return np.empty((len(y), 0), dtype=np.intp)
        if self.top_k is None:
            return np.broadcast_to(np.arange(classes), y.shape)
        likeliest: NDArray[np.intp] = np.argsort(-y, axis=1, kind="stable")
        return likeliest[:, : self.top_k]


def columns(model: Model, y: Matrix, decision: Decision) -> dict[str, NDArray[Any]]:
    """Return predictions as columns.

    A classifier's are ``label`` and ``probability_<class>``, or, of the likeliest classes alone,
    ``label_1``, ``probability_1``, … A regression's are those of `numbers`.
    """
    if model.classes is None:
        return numbers(model, y)
    classes = np.array([None, *model.classes], dtype=object)[1:]
    found: dict[str, NDArray[Any]] = {"label": classes[decision.labels(y)]}
    told = decision.told(y)
    shares = np.take_along_axis(y, told, axis=1)
    for place in range(told.shape[1]):
        if decision.top_k is None:
            found[f"probability_{model.classes[place]}"] = shares[:, place]
        else:
            found[f"label_{place + 1}"] = classes[told[:, place]]
            found[f"probability_{place + 1}"] = shares[:, place]
    return found


def numbers(model: Model, y: Matrix) -> dict[str, Vector]:
    """Return predicted numbers as columns: the targets, then the quantiles of each.

    With a horizon they are ``<target>_1`` and so on; quantiles are ``<target>_quantile_0.1``.
    """
    columns = [*model.values(y).T, *(y.T if model.quantiles else ())]
    return dict(zip(number_names(model), columns, strict=True))


def number_names(model: Model) -> list[str]:
    """Return what the columns of `numbers` are called."""
    horizon, values = model.settings.horizon, list(model.outputs)
    if horizon > 1:
        values = [f"{name}_{step}" for name in values for step in range(1, horizon + 1)]
    beside = (quantiles.names(name, model.quantiles) for name in values)
    return [*values, *chain.from_iterable(beside)]


def check_rows(model: Model) -> None:
    """Refuse a model that does not take single rows.

    Raises
    ------
    DataError
        It takes sequences of them.
    """
    if model.sequence is not None:
        raise DataError("the model takes sequences of rows; predict them as JSON")


def answers(
    model: Model, source: Path, decision: Decision, start: int = 0
) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
    """Predict the rows of a kept file, a piece at a time.

    Parameters
    ----------
    model : Model
    source : Path
    decision : Decision
    start : int
        How many rows to pass over.

    Yields
    ------
    done : int
        How many rows are done, those passed over among them.
    columns : dict of str to ndarray
        What `columns` returns for the piece.

    Raises
    ------
    SchemaError
        A column is absent, of another type, or holds what cannot be predicted from, in the row
        that it says.
    """
    check_rows(model)
    decision.check(model)
    stored, names, done = StoredRows(source), [column.name for column in model.inputs], 0
    for name in names:
        if name not in stored.names:
            got = f"none{nearest(name, stored.names)}"
            raise SchemaError(name, "a column of the table", got)
    for table in stored.pieces(names, ROWS_AT_ONCE):
        before, done = done, done + table.rows
        if done <= start:
            continue
        if before < start:
            table = table.take(np.arange(start - before, table.rows))
            before = start
        try:
            y = model.predict(table)
        except SchemaError as error:
            row = None if error.row is None else error.row + before
            raise SchemaError(error.column, error.expected, error.got, row) from error
        yield done, columns(model, y, decision)


def score(
    model: Model, source: Path, destination: Path, file_format: WrittenFormat, decision: Decision
) -> None:
    """Predict every row of a kept file, and write what comes of it; raises like `answers`."""
    with TableWriter(destination, file_format) as writer:
        for _, piece in answers(model, source, decision):
            writer.write(piece)
