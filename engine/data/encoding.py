"""An encoding: one column to the numbers that a network sees, and gradients back to the column."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from engine.arrays import Tensor
from engine.data.scaling import Numbers, Scaler
from engine.data.table import NUMERIC, Column, ColumnType, InputColumn
from engine.errors import SchemaError
from engine.spec import ColumnSpec

Values = NDArray[Any]

TEXTS: frozenset[ColumnType] = frozenset({"category", "text"})


@dataclass(frozen=True)
class Encoding(ABC):
    """How one column becomes numbers. What it knows was fitted on the training rows.

    Parameters
    ----------
    input : InputColumn
        What it takes.
    choice : ColumnSpec
        What was asked for, with nothing left open.
    scaler : Scaler
        Of as many numbers as a row becomes.
    """

    input: InputColumn
    choice: ColumnSpec
    scaler: Scaler

    @classmethod
    @abstractmethod
    def fit(cls, column: Column, choice: ColumnSpec) -> Self:
        """Fit on the training rows."""

    @property
    def width(self) -> int:
        """How many numbers a row becomes."""
        return len(self.scaler.center)

    @property
    def codes(self) -> int:
        """How many codes there are, where a row becomes one for an embedding; else 0."""
        return 0

    @abstractmethod
    def read(self, column: Column) -> Values:
        """Return a column in the terms of this encoding, one value a row.

        Raises
        ------
        SchemaError
            It is of another type, or has a value that cannot be taken.
        """

    @abstractmethod
    def numbers(self, values: Values) -> Numbers:
        """Return what was read as new numbers of shape (rows, width), before they are scaled."""

    def encode(self, values: Values) -> Numbers:
        """Return what was read as a network sees it, of shape (rows, width)."""
        return self.scaler.scaled(self.numbers(values))

    def pull_back(self, values: Values, d: Tensor) -> Tensor:
        """Return gradients at the values that were read from gradients at what `encode` returns."""
        return self.gather(values, d * self.scaler.slopes(self.numbers(values)))

    @abstractmethod
    def gather(self, values: Values, d: Tensor) -> Tensor:
        """Return gradients at the values from gradients at `numbers`, shape (rows, width)."""

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """What each of the numbers is."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what was fitted beside the scale, as JSON can hold it: `restore` takes it."""

    @classmethod
    @abstractmethod
    def restore(
        cls, column: InputColumn, choice: ColumnSpec, scaler: Scaler, facts: dict[str, Any]
    ) -> Self:
        """Return the encoding of which `facts` told."""

    def describe(self) -> dict[str, Any]:
        """Say in JSON what becomes of the column."""
        said = self.choice.model_dump(mode="json", exclude={"note"})
        return {"column": self.input.name, **said, "inputs": self.width}

    def check_missing(self, missing: NDArray[np.bool_]) -> None:
        """Refuse missing values where the choice is to have none."""
        if self.choice.impute == "none" and missing.any():
            got = f"a missing value, one of {int(missing.sum())}"
            name = self.input.name
            raise SchemaError(name, "a value in every row", got, int(missing.argmax()))


def check_type(column: Column, wanted: InputColumn) -> None:
    """Refuse a column that holds something else than a model was trained with."""
    alike = column.type == wanted.type or any(
        {column.type, wanted.type} <= kinds for kinds in (NUMERIC, TEXTS)
    )
    if not alike:
        raise SchemaError(column.name, f"the type {wanted.type}", f"the type {column.type}")
    if column.shape != wanted.shape:
        raise SchemaError(column.name, f"the shape {wanted.shape}", f"the shape {column.shape}")


def check_finite(column: Column) -> None:
    """Refuse numbers that are infinite."""
    infinite = np.isinf(column.values)
    if infinite.any():
        got = f"infinity, in one row of {int(infinite.sum())}"
        raise SchemaError(column.name, "finite numbers", got, int(infinite.argmax()))


def check_present(column: Column) -> None:
    """Refuse a column of numbers in which a value is missing or infinite."""
    bad = ~np.isfinite(column.values.reshape(len(column.values), -1)).all(axis=1)
    if bad.any():
        got = f"a missing value, NaN or infinity, one of {int(bad.sum())}"
        raise SchemaError(column.name, "a value in every row", got, int(bad.argmax()))
