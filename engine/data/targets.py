"""Targets: classes to labels, numbers to a scale that is easy to learn, and both of them back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engine.arrays import Labels, Matrix, Vector
from engine.data.encoding import check_present, check_type
from engine.data.quantiles import rising
from engine.data.table import Column, InputColumn, Table, json_value, truth
from engine.errors import SchemaError

LABELLED_ROWS = 2**16
"""So many rows are objects of Python at once."""

ClassName = str | int | float | bool


@dataclass(frozen=True)
class ClassEncoder:
    """Classes to labels 0, 1, … in the order of ``classes``."""

    target: str
    classes: tuple[ClassName, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The classes as names in JSON: strings as they are, the others as JSON writes them."""
        return tuple(each if isinstance(each, str) else json.dumps(each) for each in self.classes)

    @classmethod
    def fit(cls, table: Table, target: str) -> ClassEncoder:
        """Take the classes from all rows, sorted."""
        column = table.column(target)
        if column.type == "category" or column.levels:
            used = np.unique(column.values[column.values >= 0]).astype(np.intp)
            return cls(target, tuple(column.levels[code] for code in used))
        plain = {"boolean": bool, "integer": int, "number": float, "text": str}[column.type]
        return cls(target, tuple(plain(value) for value in np.unique(column.values)))

    def transform(self, table: Table) -> Labels:
        """Return the labels, shape (rows,).

        Raises
        ------
        SchemaError
            A row's class is missing or was not there when training.
        """
        column = table.column(self.target)
        if column.shape:
            raise SchemaError(self.target, "one class a row", f"the shape {column.shape}")
        label: dict[Any, int] = {name: position for position, name in enumerate(self.classes)}
        if column.type == "boolean":
            label = {**self._meanings, **label}
        labels = np.empty(table.rows, dtype=np.intp)
        for start in range(0, table.rows, LABELLED_ROWS):
            names = self._names(column, column.values[start : start + LABELLED_ROWS])
            labels[start : start + len(names)] = [label.get(name, -1) for name in names]
        if (labels < 0).any():
            row = int((labels < 0).argmax())
            [name] = self._names(column, column.values[row : row + 1])
            expected = f"one of the {len(self.classes)} classes of the model"
            raise SchemaError(self.target, expected, repr(name), row)
        return labels

    def _names(self, column: Column, values: NDArray[Any]) -> list[Any]:
        """Return what some values of a column are called where classes are, None if missing."""
        if column.type == "category":
            return _named(values, column.levels)
        if column.type == "boolean":
            words = [each if each in self.classes else truth(each) for each in column.levels]
            return _named(values, words or [False, True])
        return list(values.tolist())

    def label(self, name: Any) -> int:
        """Return the label of one class; raises `SchemaError` where it is none."""
        for position, known in enumerate(self.classes):
            if known == name and isinstance(known, bool) == isinstance(name, bool):
                return position
        if (meant := truth(name)) in self._meanings:
            return self._meanings[meant]
        expected = f"one of {', '.join(map(repr, self.classes[:20]))}"
        raise SchemaError(self.target, expected, json_value(name))

    @cached_property
    def _meanings(self) -> dict[bool | None, int]:
        """The labels of true and false, where one class alone means it."""
        meant = [truth(name) for name in self.classes]
        return {each: meant.index(each) for each in (False, True) if meant.count(each) == 1}


def _named(values: NDArray[Any], names: Sequence[Any]) -> list[Any]:
    """Return the names of rows whose values are places in ``names``, None where missing."""
    places = np.where(values >= 0, values, -1).astype(np.intp)
    named: list[Any] = np.array([*names, None], dtype=object)[places].tolist()
    return named


@dataclass(frozen=True)
class TargetScaler:
    """Numbers to numbers of mean 0 and deviation 1, and back.

    Those of a relative forecast are first told as differences from ``bases``: for every example
    the last value of each target in its window, shape (examples, targets).

    Parameters
    ----------
    targets : tuple of str
    mean, deviation : Vector of shape (targets * horizon,)
        Of the training rows; the deviation is 1 where all are equal. For each step of a forecast
        its own.
    quantiles : tuple of float
        Those that a network answers for every value, side by side; empty where it is the value.
    """

    targets: tuple[str, ...]
    mean: Vector
    deviation: Vector
    quantiles: tuple[float, ...] = ()

    @classmethod
    def fit(
        cls,
        table: Table,
        targets: Sequence[str],
        *,
        scales: bool = True,
        horizon: int = 1,
        bases: Matrix | None = None,
        quantiles: tuple[float, ...] = (),
    ) -> TargetScaler:
        """Fit on the training rows, or leave the targets as they are."""
        width = len(targets) * horizon
        plain = cls(tuple(targets), np.zeros(width), np.ones(width), quantiles)
        if not scales:
            return plain
        y = plain._differences(table, bases)
        deviation = np.where(np.ptp(y, axis=0) > 0, y.std(axis=0), 1.0)
        return replace(plain, mean=y.mean(axis=0), deviation=deviation)

    @property
    def horizon(self) -> int:
        """How many values of each target a network answers."""
        return len(self.mean) // len(self.targets)

    @property
    def copies(self) -> int:
        """How many outputs of a network are for each value."""
        return len(self.quantiles) or 1

    @property
    def outputs(self) -> int:
        """How many outputs a network has for all values."""
        return len(self.mean) * self.copies

    def raw(self, table: Table, horizon: int) -> Matrix:
        """Return the targets as they are, float64 of shape (examples, targets * horizon).

        An example has as many rows as the horizon has steps; the values of a target follow on
        each other.
        """
        y = _stack(table, self.targets).reshape(-1, horizon, len(self.targets))
        return y.swapaxes(1, 2).reshape(len(y), -1)

    def _differences(self, table: Table, bases: Matrix | None) -> Matrix:
        y = self.raw(table, self.horizon)
        return y if bases is None else y - bases.repeat(self.horizon, axis=1)

    def transform(self, table: Table, dtype: DTypeLike, bases: Matrix | None = None) -> Matrix:
        """Return the scaled targets, each for all of its outputs, shape (examples, outputs)."""
        y = self._differences(table, bases)
        return ((y - self.mean) / self.deviation).astype(dtype).repeat(self.copies, axis=1)

    def scale(self, target: Any) -> Matrix:
        """Return one row's targets as `transform`, shape (1, outputs); raises `SchemaError`."""
        numbers = target if isinstance(target, list) else [target]
        numeric = all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers)
        if not numeric or len(numbers) != len(self.targets):
            expected = "a number" if len(self.targets) == 1 else f"{len(self.targets)} numbers"
            raise SchemaError(self.targets[0], expected, json_value(target))
        y = (np.array([numbers], dtype=np.float64) - self.mean) / self.deviation
        return y.repeat(self.copies, axis=1)

    def invert(self, y: Matrix, bases: Matrix | None = None) -> Matrix:
        """Return predictions in the targets' own units, float64, the quantiles of each rising.

        Deviation from the network's outputs: quantiles that cross are sorted, which brings them
        nearer to those they estimate (Chernozhukov, Fernández-Val & Galichon 2010).
        """
        scale, shift = self.deviation.repeat(self.copies), self.mean.repeat(self.copies)
        values = np.asarray(y, dtype=np.float64) * scale + shift
        if bases is not None:
            values += bases.repeat(self.horizon * self.copies, axis=1)
        return rising(values, self.quantiles)


def _stack(table: Table, targets: Sequence[str]) -> Matrix:
    columns = [table.column(name) for name in targets]
    for column in columns:
        check_type(column, InputColumn(column.name, "number"))
        check_present(column)
    return np.stack([column.values for column in columns], axis=1)


def has_targets(table: Table, targets: Sequence[str]) -> NDArray[np.bool_]:
    """Return which rows have a value in every target."""
    found = np.ones(table.rows, dtype=np.bool_)
    for name in targets:
        found &= ~missing_in(table.column(name))
    return found


def missing_in(column: Column) -> NDArray[np.bool_]:
    """Return in which rows a column has no value."""
    values = column.values
    if column.type == "text":
        return np.fromiter((value is None for value in values), np.bool_, len(values))
    missing = np.isnan(values) if column.type != "category" else np.less(values, 0)
    found: NDArray[np.bool_] = np.any(missing.reshape(len(values), -1), axis=1)
    return found
