"""Numbers and truth values: missing ones imputed and flagged, all of them scaled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from engine.arrays import Tensor
from engine.data.encoding import Encoding, Values, check_finite, check_type
from engine.data.scaling import LARGEST, Numbers, Scaler, fit_flags, fit_scaler, joined
from engine.data.table import TOO_LARGE, Column, InputColumn, Table
from engine.spec import ColumnSpec


@dataclass(frozen=True)
class Number(Encoding):
    """One number, and where training rows lack it a second one that says whether it is missing.

    Parameters
    ----------
    fill : float
        What stands for a missing number.
    flags : bool
        Whether there is the second number: it is 1 where the first one is missing, else 0.
    """

    fill: float
    flags: bool

    @classmethod
    def fit(cls, column: Column, choice: ColumnSpec) -> Self:
        """Fit on the training rows."""
        check_finite(column)
        values = np.clip(column.values, -LARGEST, LARGEST)
        missing = np.isnan(values)
        count = int(missing.sum())
        present = values[~missing] if count else values
        scaler = fit_scaler(choice.scale or "robust", present[:, None])
        if count:
            flag = fit_flags(choice.scale or "robust", np.array([count]), len(values))
            scaler = joined([scaler, flag])
        wanted = InputColumn(
            column.name, column.type, column.levels, required=choice.impute == "none"
        )
        fitted = cls(wanted, choice, scaler, _fill(choice, present), count > 0)
        fitted.check_missing(missing)
        return fitted

    def read(self, column: Column) -> Values:
        """Return the numbers, NaN where missing."""
        check_type(column, self.input)
        check_finite(column)
        self.check_missing(np.isnan(column.values))
        return column.values

    def numbers(self, values: Values) -> Numbers:
        """Return the numbers, filled up, and whether they had been missing."""
        numbers = np.empty((len(values), self.width))
        missing = np.isnan(values)
        np.clip(values, -LARGEST, LARGEST, out=numbers[:, 0])
        numbers[missing, 0] = self.fill
        if self.flags:
            numbers[:, 1] = missing
        return numbers

    def gather(self, values: Values, d: Tensor) -> Tensor:
        """Return the gradients at the numbers, shape (rows,); 0 where there is none."""
        return np.where(np.isnan(values), 0.0, d[:, 0])

    @property
    def names(self) -> list[str]:
        """The column, and that it is missing."""
        name = self.input.name
        return [name, f"{name} is missing"] if self.flags else [name]

    def facts(self) -> dict[str, Any]:
        """Return what stands for a missing number, and whether it is flagged."""
        return {"fill": self.fill, "flags": self.flags}

    @classmethod
    def restore(
        cls, column: InputColumn, choice: ColumnSpec, scaler: Scaler, facts: dict[str, Any]
    ) -> Self:
        """Return the encoding of which `facts` told."""
        return cls(column, choice, scaler, float(facts["fill"]), bool(facts["flags"]))

    def describe(self) -> dict[str, Any]:
        """Say what becomes of the column."""
        scale = {"center": float(self.scaler.center[0]), "factor": float(self.scaler.factor[0])}
        return {**super().describe(), "fill": self.fill, "missing_flag": self.flags, **scale}


class NumbersAside:
    """Columns of numbers that lie side by side, encoded by one call instead of one for each.

    What comes out is what each would give, to the bit.

    Parameters
    ----------
    encodings : sequence of Number
        All of whose scalers clip, or none.
    """

    def __init__(self, encodings: Sequence[Number]) -> None:
        self.encodings = encodings
        self.scaler = joined([encoding.scaler for encoding in encodings])
        widths = [encoding.width for encoding in encodings]
        starts = np.cumsum([0, *widths])
        self._flagged = np.flatnonzero([encoding.flags for encoding in encodings])
        self._numbers = starts[:-1]
        self._flags = starts[:-1][self._flagged] + 1
        self._fills = np.array([encoding.fill for encoding in encodings])
        self._required = np.array([encoding.choice.impute == "none" for encoding in encodings])

    @property
    def width(self) -> int:
        """How many numbers a row becomes."""
        return len(self.scaler.center)

    def read(self, table: Table, rows: slice) -> Numbers:
        """Return rows of the columns, NaN where missing; raises `SchemaError`."""
        columns = [table.column(encoding.input.name) for encoding in self.encodings]
        for column, encoding in zip(columns, self.encodings, strict=True):
            check_type(column, encoding.input)
        values = np.stack([column.values[rows] for column in columns], axis=1, dtype=np.float64)
        if not self.takes(values):
            for column, encoding in zip(columns, self.encodings, strict=True):
                encoding.read(column)
        return values

    def are_plain(self, values: Numbers) -> bool:
        """Whether every number is there, and of a size that needs no care."""
        return bool(np.vdot(values, values) <= LARGEST**2)

    def takes(self, values: Numbers) -> bool:
        """Whether no number is too large, and none missing where one has to be there."""
        lacking = np.isnan(values[:, self._required])
        return not (lacking.any() or (np.abs(values) >= TOO_LARGE).any())

    def encode(self, values: Numbers, *, plain: bool = False) -> Numbers:
        """Return values of shape (rows, columns) as a network sees them, of shape (rows, width).

        It is a third of the work where it is known that they `are_plain`.
        """
        if plain and not len(self._flagged):
            return self.scaler.scaled(values)
        missing, clipped = np.isnan(values), np.minimum(values, LARGEST)
        np.maximum(clipped, -LARGEST, out=clipped)
        np.copyto(clipped, self._fills, where=missing)
        if not len(self._flagged):
            return self.scaler.scaled(clipped)
        numbers = np.empty((len(values), self.width))
        numbers[:, self._numbers] = clipped
        numbers[:, self._flags] = missing[:, self._flagged]
        return self.scaler.scaled(numbers)


def _fill(choice: ColumnSpec, present: Numbers) -> float:
    """Return what stands for a missing number; 0 where none is present."""
    if isinstance(choice.impute, float | int):
        return float(choice.impute)
    if not len(present):
        return 0.0
    return float(present.mean() if choice.impute == "mean" else np.median(present))
