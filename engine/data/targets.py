"""Targets: classes to labels, numbers to a scale that is easy to learn, and both of them back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.arrays import Labels, Matrix, Vector
from engine.data.encoding import check_present, check_type
from engine.data.table import Column, InputColumn, Table, json_value
from engine.errors import SchemaError

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
        if column.type == "category":
            used = np.unique(column.values[column.values >= 0])
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
        values = column.values
        if column.type == "category":
            values = np.array([*column.levels, None], dtype=object)[values]
        names = values.tolist()
        labels = np.array([label.get(name, -1) for name in names], dtype=np.intp)
        if (labels < 0).any():
            row = int((labels < 0).argmax())
            expected = f"one of the {len(self.classes)} classes of the model"
            raise SchemaError(self.target, expected, repr(names[row]), row)
        return labels

    def label(self, name: Any) -> int:
        """Return the label of one class; raises `SchemaError` where it is none."""
        for position, known in enumerate(self.classes):
            if known == name and isinstance(known, bool) == isinstance(name, bool):
                return position
        expected = f"one of {', '.join(map(repr, self.classes[:20]))}"
        raise SchemaError(self.target, expected, json_value(name))


@dataclass(frozen=True)
class TargetScaler:
    """Numbers to numbers of mean 0 and deviation 1, and back.

    Parameters
    ----------
    targets : tuple of str
    mean, deviation : Vector of shape (targets,)
        Of the training rows; the deviation is 1 where all are equal.
    """

    targets: tuple[str, ...]
    mean: Vector
    deviation: Vector

    @classmethod
    def fit(cls, table: Table, targets: Sequence[str], *, scales: bool = True) -> TargetScaler:
        """Fit on the training rows, or leave the targets as they are."""
        y = _stack(table, targets)
        if not scales:
            return cls(tuple(targets), np.zeros(len(targets)), np.ones(len(targets)))
        deviation = np.where(np.ptp(y, axis=0) > 0, y.std(axis=0), 1.0)
        return cls(tuple(targets), y.mean(axis=0), deviation)

    def raw(self, table: Table) -> Matrix:
        """Return the targets as they are, float64 of shape (rows, targets)."""
        return _stack(table, self.targets)

    def transform(self, table: Table, dtype: np.dtype[Any] | type) -> Matrix:
        """Return the scaled targets, shape (rows, targets)."""
        return ((self.raw(table) - self.mean) / self.deviation).astype(dtype)

    def scale(self, target: Any) -> Matrix:
        """Return one row's targets, scaled, shape (1, targets); raises `SchemaError`."""
        numbers = target if isinstance(target, list) else [target]
        numeric = all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers)
        if not numeric or len(numbers) != len(self.targets):
            expected = "a number" if len(self.targets) == 1 else f"{len(self.targets)} numbers"
            raise SchemaError(self.targets[0], expected, json_value(target))
        return np.asarray((np.array([numbers], dtype=np.float64) - self.mean) / self.deviation)

    def invert(self, y: Matrix) -> Matrix:
        """Return predictions in the targets' own units, float64."""
        return np.asarray(y, dtype=np.float64) * self.deviation + self.mean


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
        found &= ~_missing(table.column(name))
    return found


def _missing(column: Column) -> NDArray[np.bool_]:
    values = column.values
    if column.type == "text":
        return np.fromiter((value is None for value in values), np.bool_, len(values))
    missing = np.isnan(values) if column.type != "category" else np.less(values, 0)
    found: NDArray[np.bool_] = np.any(missing.reshape(len(values), -1), axis=1)
    return found
