"""Numbers and truth values: missing ones imputed and flagged, all of them scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from engine.arrays import Tensor
from engine.data.encoding import Encoding, Values, check_finite, check_type
from engine.data.scaling import LARGEST, Numbers, Scaler, fit_flags, fit_scaler, joined
from engine.data.table import Column, InputColumn
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


def _fill(choice: ColumnSpec, present: Numbers) -> float:
    """Return what stands for a missing number; 0 where none is present."""
    if isinstance(choice.impute, float | int):
        return float(choice.impute)
    if not len(present):
        return 0.0
    return float(present.mean() if choice.impute == "mean" else np.median(present))
