"""Preprocessing: columns to the numbers that a network sees, and back.

What is fitted here is fitted on the training rows and becomes part of the
model, so that a prediction is scaled as the training rows were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.arrays import Labels, Matrix, Shape, Tensor, Vector
from engine.data.table import NUMERIC, Column, InputColumn, Table, json_value
from engine.errors import SchemaError

CLIP = 3.0
"""Inputs are squeezed smoothly into (-CLIP, CLIP), so that no outlier rules the first layer."""

LARGEST = 1e100
SMALLEST = 1e-50
"""Larger numbers count as `LARGEST` and smaller spreads as `SMALLEST`: nothing overflows."""

BLOCK_BYTES = 2**20
"""Rows are scaled in blocks of about this size: what is worked out on the way stays small."""


def input_shape(inputs: Sequence[InputColumn], *, coded: bool) -> Shape:
    """Return the shape of what a network sees of one row.

    Parameters
    ----------
    inputs : sequence of InputColumn
    coded : bool
        Whether categories stay codes, for an embedding.

    Returns
    -------
    Shape
        Channels, height and width if the one column holds images, else how many numbers.
    """
    if len(inputs) == 1 and len(inputs[0].shape) in (2, 3):
        shape = inputs[0].shape
        return shape if len(shape) == 3 else (1, *shape)
    return (sum(_width(column, coded=coded) for column in inputs),)


def coded_levels(inputs: Sequence[InputColumn]) -> dict[int, int]:
    """Return where the codes of categories stand in a row, and how many levels each has."""
    starts = np.cumsum([0, *(_width(column, coded=True) for column in inputs)])
    return {
        int(start): len(column.levels)
        for start, column in zip(starts, inputs, strict=False)
        if _is_coded(column)
    }


def _is_coded(column: InputColumn) -> bool:
    return column.type == "category" and len(column.levels) > 2


def _width(column: InputColumn, *, coded: bool) -> int:
    if column.type == "category":
        return 1 if coded or len(column.levels) <= 2 else len(column.levels)
    return int(np.prod(column.shape, dtype=np.int64))


@dataclass(frozen=True)
class FeatureEncoder:
    """Columns to a matrix: ``clip((x - center) * scale)``.

    Numbers are scaled by the median and the quartiles; the elements of a
    tensor share one scale, as they are one quantity; a category of two levels
    becomes -1 or 1, one of more levels becomes one column a level. Then
    ``clip(x) = x / sqrt(1 + (x / CLIP)**2)``: the robust scaling and smooth
    clipping of RealMLP (Holzmüller, Grinsztajn & Steinwart 2024, section 3).
    Deviations: tensors are scaled as a whole, by mean and deviation.

    Parameters
    ----------
    inputs : tuple of InputColumn
    center, scale : Vector of shape (width,)
    coded : bool
        Whether categories of more than two levels stay codes, for an embedding.
    """

    inputs: tuple[InputColumn, ...]
    center: Vector
    scale: Vector
    coded: bool = False

    @classmethod
    def fit(cls, table: Table, features: Sequence[str], *, coded: bool = False) -> FeatureEncoder:
        """Fit on the training rows."""
        columns = [table.column(name) for name in features]
        fitted = [_fit_scale(column, coded=coded) for column in columns]
        center, scale = (np.concatenate(parts) for parts in zip(*fitted, strict=True))
        return cls(tuple(InputColumn.of(column) for column in columns), center, scale, coded)

    @property
    def width(self) -> int:
        """How many numbers a row becomes."""
        return len(self.center)

    def transform(self, table: Table, dtype: np.dtype[Any] | type) -> Matrix:
        """Return the rows of a table as a matrix of shape (rows, width + 1), the last column 1.

        Raises
        ------
        SchemaError
            A column is absent, of another type, or holds what cannot be fed to a network.
        """
        x = np.ones((table.rows, self.width + 1), dtype=dtype)
        start = 0
        for wanted in self.inputs:
            column = conform(table.column(wanted.name), wanted)
            stop = start + _width(wanted, coded=self.coded)
            if self.coded and _is_coded(wanted):
                x[:, start] = column.values
            else:
                rows = max(1, BLOCK_BYTES // (8 * (stop - start)))
                for first in range(0, table.rows, rows):
                    block = slice(first, first + rows)
                    values = _numbers(column, block) - self.center[start:stop]
                    values *= self.scale[start:stop]
                    x[block, start:stop] = values / np.sqrt(1 + (values / CLIP) ** 2)
            start = stop
        return x

    def pull_back(self, table: Table, d_x: Matrix) -> dict[str, Tensor]:
        """Return gradients at the columns' own values from gradients at what `transform` returns.

        Parameters
        ----------
        table : Table
        d_x : Matrix of shape (rows, width)

        Returns
        -------
        dict of str to Tensor
            By column, of shape (rows,), (rows, levels) for a category of more
            than two levels, or (rows, *shape) for a tensor.
        """
        gradients, start = {}, 0
        for wanted in self.inputs:
            stop = start + _width(wanted, coded=self.coded)
            d = d_x[:, start:stop]
            if not (self.coded and _is_coded(wanted)):
                column = conform(table.column(wanted.name), wanted)
                values = (_numbers(column) - self.center[start:stop]) * self.scale[start:stop]
                d = d * self.scale[start:stop] * (1 + (values / CLIP) ** 2) ** -1.5
            gradients[wanted.name] = d.reshape(len(d), *wanted.shape) if wanted.shape else d
            start = stop
        return {name: d[:, 0] if d.shape[1:] == (1,) else d for name, d in gradients.items()}


def _numbers(column: Column, rows: slice = slice(None)) -> NDArray[np.float64]:
    """Return rows of a column as new float64 of shape (rows, width), before scaling."""
    values = column.values[rows]
    if column.type != "category":
        flat = values.reshape(len(values), -1)
        clipped: NDArray[np.float64] = np.clip(flat, -LARGEST, LARGEST, dtype=np.float64)
        return clipped
    if len(column.levels) <= 2:
        return (2.0 * values - 1.0).reshape(len(values), 1)
    one_hot: NDArray[np.bool_] = values[:, None] == np.arange(len(column.levels))
    return one_hot.astype(np.float64)


def _fit_scale(column: Column, *, coded: bool) -> tuple[Vector, Vector]:
    """Return the center and the factor for each number of a column; factor 0 where constant."""
    if _is_coded(InputColumn.of(column)):
        return (np.zeros(1), np.ones(1)) if coded else _fit_one_hot(column)
    values = _numbers(column)
    if column.type == "tensor":
        # Rounding gives equal numbers a deviation above 0; their span is 0 exactly.
        mean, span, width = values.mean(), np.ptp(values), values.shape[1]
        factor = _factor(_deviation(values, mean), span)
        return np.full(width, mean), np.full(width, factor)
    return _robust(values)


def _fit_one_hot(column: Column) -> tuple[Vector, Vector]:
    """Return the center and the factor for each level: a level at a time, as there may be many."""
    levels = range(len(column.levels))
    fitted = [_robust((column.values == level)[:, None].astype(np.float64)) for level in levels]
    center, scale = (np.concatenate(parts) for parts in zip(*fitted, strict=True))
    return center, scale


def _robust(values: NDArray[np.float64]) -> tuple[Vector, Vector]:
    """Return the median and ``1 / spread`` down the columns, the spread that of the quartiles."""
    low, median, high = np.percentile(values, [25, 50, 75], axis=0)
    span = np.ptp(values, axis=0)
    return median, _factor(np.where(high > low, high - low, span / 2), span)


def _deviation(values: NDArray[np.float64], mean: np.floating[Any]) -> np.float64:
    """Return ``values.std()``, leaving the squared differences in their place, not beside them."""
    np.subtract(values, mean, out=values)
    np.multiply(values, values, out=values)
    return np.float64(np.sqrt(values.mean()))


def _factor(spread: Vector | np.floating[Any], span: Vector | np.floating[Any]) -> Vector:
    """Return ``1 / spread``, or 0 where the span says that all numbers are equal."""
    return np.where(span > 0, 1 / np.maximum(spread, SMALLEST), 0.0)


def conform(column: Column, wanted: InputColumn) -> Column:
    """Return ``column`` with the type and levels that a model was trained with, or refuse."""
    both_numbers = column.type in NUMERIC and wanted.type in NUMERIC
    if column.type != wanted.type and not both_numbers:
        raise SchemaError(column.name, f"the type {wanted.type}", f"the type {column.type}")
    if column.shape != wanted.shape:
        raise SchemaError(column.name, f"the shape {wanted.shape}", f"the shape {column.shape}")
    present(column)
    if column.type == "category" and column.levels != wanted.levels:
        return _recode(column, wanted.levels)
    return column


def present(column: Column) -> Column:
    """Return ``column``, in which no value is missing or infinite, or refuse."""
    if column.type == "category":
        bad = column.values < 0
    else:
        flat = column.values.reshape(len(column.values), -1)
        bad = ~np.isfinite(flat).all(axis=1)
    if bad.any():
        got = f"a missing value, NaN or infinity, one of {int(bad.sum())}"
        raise SchemaError(column.name, "a value in every row", got, int(bad.argmax()))
    return column


def _recode(column: Column, levels: tuple[str, ...]) -> Column:
    code = {level: position for position, level in enumerate(levels)}
    for row, value in enumerate(column.values):
        if column.levels[value] not in code:
            expected = "one of the levels seen in training"
            raise SchemaError(column.name, expected, repr(column.levels[value]), row)
    codes = np.array([code.get(level, -1) for level in column.levels], dtype=np.int32)
    return Column(column.name, column.type, codes[column.values], levels)


ClassName = str | int | float | bool


@dataclass(frozen=True)
class ClassEncoder:
    """Classes to labels 0, 1, … in the order of ``classes``."""

    target: str
    classes: tuple[ClassName, ...]

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
    columns = [conform(table.column(name), InputColumn(name, "number")) for name in targets]
    return np.stack([column.values for column in columns], axis=1)
