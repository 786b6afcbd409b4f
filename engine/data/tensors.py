"""Tensors: their elements are one quantity, and share one scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from engine.arrays import Tensor
from engine.data.encoding import Encoding, Values, check_present, check_type
from engine.data.scaling import LARGEST, Numbers, Scaler, factor, unscaled
from engine.data.table import Column, InputColumn
from engine.spec import ColumnSpec


@dataclass(frozen=True)
class TensorElements(Encoding):
    """A number for every element, scaled by the mean and the deviation of all elements."""

    @classmethod
    def fit(cls, column: Column, choice: ColumnSpec) -> Self:
        """Fit on the training rows."""
        check_present(column)
        wanted = InputColumn(column.name, column.type, shape=column.shape, required=True)
        return cls(wanted, choice, _fit(column, choice))

    def read(self, column: Column) -> Values:
        """Return the elements, shape (rows, *shape)."""
        check_type(column, self.input)
        check_present(column)
        return column.values

    def numbers(self, values: Values) -> Numbers:
        """Return the elements in order."""
        return _flat(values)

    def gather(self, values: Values, d: Tensor) -> Tensor:
        """Return the gradients at the elements, shape (rows, *shape)."""
        return d.reshape(values.shape)

    @property
    def names(self) -> list[str]:
        """The column and the place in it."""
        places = np.ndindex(self.input.shape)
        return [f"{self.input.name}[{', '.join(map(str, place))}]" for place in places]

    def facts(self) -> dict[str, Any]:
        """Return nothing: there is but the scale."""
        return {}

    @classmethod
    def restore(
        cls, column: InputColumn, choice: ColumnSpec, scaler: Scaler, facts: dict[str, Any]
    ) -> Self:
        """Return the encoding of which `facts` told."""
        del facts
        return cls(column, choice, scaler)

    def describe(self) -> dict[str, Any]:
        """Say what becomes of the column."""
        scale = {"center": float(self.scaler.center[0]), "factor": float(self.scaler.factor[0])}
        return {**super().describe(), **scale}


def _flat(values: Values) -> Numbers:
    flat = values.reshape(len(values), -1)
    numbers: Numbers = np.clip(flat, -LARGEST, LARGEST, dtype=np.float64)
    return numbers


def _fit(column: Column, choice: ColumnSpec) -> Scaler:
    width = int(np.prod(column.shape, dtype=np.int64))
    if choice.scale == "none":
        return unscaled(width)
    numbers = _flat(column.values)
    # Rounding gives equal numbers a deviation above 0; their span is 0 exactly.
    mean, span = numbers.mean(), np.ptp(numbers)
    return Scaler(np.full(width, mean), np.full(width, factor(_deviation(numbers, mean), span)))


def _deviation(numbers: Numbers, mean: np.floating[Any]) -> np.float64:
    """Return ``numbers.std()``, leaving the squared differences in their place, not beside them."""
    np.subtract(numbers, mean, out=numbers)
    np.multiply(numbers, numbers, out=numbers)
    return np.float64(np.sqrt(numbers.mean()))
