"""Preprocessing: columns to the numbers that a network sees, and back.

What is fitted here is fitted on the training rows and becomes part of the
model, so that a prediction is scaled as the training rows were. Each kind of
column has an encoding of its own; here they stand side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from engine.arrays import Matrix, Shape, Tensor, Vector
from engine.data.categories import Category, EmbeddedCategory
from engine.data.choices import filled_in
from engine.data.encoding import Encoding
from engine.data.numbers import Number, NumbersAside
from engine.data.scaling import Numbers, Scaler
from engine.data.table import ColumnType, InputColumn, Table
from engine.data.tensors import TensorElements
from engine.data.timestamps import Timestamp
from engine.spec import ColumnSpec

BLOCK_BYTES = 2**20
"""Rows are encoded in blocks of about this size: what is worked out on the way stays small."""


def encoding_of(choice: ColumnSpec) -> type[Encoding]:
    """Return the kind of encoding that was chosen."""
    if choice.type == "category":
        return EmbeddedCategory if choice.encode == "embedding" else Category
    if choice.type == "timestamp":
        return Timestamp
    return TensorElements if choice.type == "tensor" else Number


@dataclass(frozen=True)
class FeatureEncoder:
    """Columns to a matrix.

    Parameters
    ----------
    encodings : tuple of Encoding
        One for each column, in the order of the features.
    """

    encodings: tuple[Encoding, ...]

    @classmethod
    def fit(
        cls, table: Table, features: Sequence[str], columns: Mapping[str, ColumnSpec] | None = None
    ) -> FeatureEncoder:
        """Fit on the training rows.

        Parameters
        ----------
        table : Table
        features : sequence of str
        columns : mapping of str to ColumnSpec, optional
            What is to happen to them; what is left open is as usual for the type.
        """
        return cls(tuple(_fit(table, name, columns or {}) for name in features))

    @classmethod
    def restore(
        cls,
        inputs: Sequence[InputColumn],
        columns: Mapping[str, ColumnSpec],
        scale: tuple[Vector, Vector],
        facts: Sequence[dict[str, Any]],
    ) -> FeatureEncoder:
        """Return the encoder of which `scale` and `facts` told; raises what damaged ones cause."""
        encodings, start, (center, factor) = [], 0, scale
        for column, fact in zip(inputs, facts, strict=True):
            choice = filled_in(columns.get(column.name, ColumnSpec()), column.type)
            stop = start + fact["width"]
            scaler = Scaler(center[start:stop], factor[start:stop], bool(fact["clips"]))
            kind = encoding_of(choice)
            encodings.append(kind.restore(column, choice, scaler, fact["fitted"]))
            start = stop
        if (start,) != center.shape or (start,) != factor.shape:
            raise ValueError(f"{start} numbers, but {center.shape} centers, {factor.shape} factors")
        return cls(tuple(encodings))

    @cached_property
    def scale(self) -> tuple[Vector, Vector]:
        """The center and the factor of every number, each of shape (width,)."""
        scalers = [encoding.scaler for encoding in self.encodings]
        center = np.concatenate([scaler.center for scaler in scalers])
        return center, np.concatenate([scaler.factor for scaler in scalers])

    @property
    def facts(self) -> list[dict[str, Any]]:
        """What else was fitted, for each column, as JSON can hold it."""
        return [
            {"width": e.width, "clips": e.scaler.clips, "fitted": e.facts()} for e in self.encodings
        ]

    @cached_property
    def inputs(self) -> tuple[InputColumn, ...]:
        """The columns, in order."""
        return tuple(encoding.input for encoding in self.encodings)

    @cached_property
    def column_names(self) -> frozenset[str]:
        """What the columns are called."""
        return frozenset(column.name for column in self.inputs)

    @cached_property
    def column_types(self) -> frozenset[ColumnType]:
        """Of which types columns there are."""
        return frozenset(column.type for column in self.inputs)

    @cached_property
    def width(self) -> int:
        """How many numbers a row becomes."""
        return sum(encoding.width for encoding in self.encodings)

    @property
    def shape(self) -> Shape:
        """The shape of what a network sees of one row."""
        return input_shape([encoding.input.shape for encoding in self.encodings], self.width)

    @property
    def codes(self) -> dict[int, int]:
        """Where the codes for an embedding stand in a row, and how many there are of each."""
        return {start: encoding.codes for encoding, start, _ in self._places() if encoding.codes}

    @property
    def names(self) -> list[str]:
        """What each number of a row is."""
        return [name for encoding in self.encodings for name in encoding.names]

    def _places(self) -> Iterator[tuple[Encoding, int, int]]:
        """Yield every encoding, and where in a row its numbers begin and end."""
        start = 0
        for encoding in self.encodings:
            stop = start + encoding.width
            yield encoding, start, stop
            start = stop

    def transform(self, table: Table, dtype: DTypeLike) -> Matrix:
        """Return the rows of a table as a matrix of shape (rows, width + 1), the last column 1.

        Raises
        ------
        SchemaError
            A column is absent, of another type, or holds what cannot be fed to a network.
        """
        x = np.ones((table.rows, self.width + 1), dtype=dtype)
        self._write(table, x)
        return x

    def transform_steps(self, table: Table, dtype: DTypeLike, steps: int) -> Matrix:
        """Return rows as steps of sequences, shape (rows + steps, width), the last ones all 0.

        So there are as many from every row on as a sequence has.
        """
        x = np.zeros((table.rows + steps, self.width), dtype=dtype)
        self._write(table, x)
        return x

    def _write(self, table: Table, x: Matrix) -> None:
        """Write the rows as a network sees them into the first of ``x``."""
        start = 0
        for encoding in self._sides:
            place = slice(start, start := start + encoding.width)
            rows = max(1, BLOCK_BYTES // (8 * encoding.width))
            blocks = [
                slice(first, min(first + rows, table.rows)) for first in range(0, table.rows, rows)
            ]
            if isinstance(encoding, NumbersAside):
                for block in blocks:
                    x[block, place] = encoding.encode(encoding.read(table, block))
            else:
                values = encoding.read(table.column(encoding.input.name))
                for block in blocks:
                    x[block, place] = encoding.encode(values[block])

    @property
    def takes_numbers(self) -> bool:
        """Whether a row is nothing but numbers and truth values, so that rows are a matrix."""
        return len(self._sides) == 1 and isinstance(self._sides[0], NumbersAside)

    @cached_property
    def number_names(self) -> tuple[str, ...] | None:
        """The columns in order, where all of them take nothing but numbers."""
        numbers = self.takes_numbers and all(column.type != "boolean" for column in self.inputs)
        return tuple(column.name for column in self.inputs) if numbers else None

    def transform_numbers(self, values: Numbers, dtype: np.dtype[Any] | type) -> Matrix | None:
        """Return what `transform` does of a matrix of numbers, for rows that are nothing else.

        Parameters
        ----------
        values : Numbers of shape (rows, columns)
            NaN where missing.
        dtype : dtype

        Returns
        -------
        Matrix of shape (rows, width + 1), or None
            None where `transform` would refuse a value, and say which.
        """
        [encoding] = self._sides
        if not isinstance(encoding, NumbersAside):
            return None
        plain = encoding.are_plain(values)
        if not plain and not encoding.takes(values):
            return None
        x = np.ones((len(values), self.width + 1), dtype=dtype)
        x[:, :-1] = encoding.encode(values, plain=plain)
        return x

    @cached_property
    def _sides(self) -> list[Encoding | NumbersAside]:
        """The encodings, those of numbers that lie side by side as one."""
        found: list[Encoding | NumbersAside] = []
        for clips, some in groupby(self.encodings, _clips_numbers):
            if clips is None:
                found += some
            else:
                found.append(NumbersAside([each for each in some if isinstance(each, Number)]))
        return found

    def pull_back(self, table: Table, d_x: Matrix) -> dict[str, Tensor]:
        """Return gradients at the columns' own values from gradients at what `transform` returns.

        Parameters
        ----------
        table : Table
        d_x : Matrix of shape (rows, width)

        Returns
        -------
        dict of str to Tensor
            By column, of shape (rows,), (rows, codes) for a one-hot category of more
            than two, or (rows, *shape) for a tensor. Per day for a timestamp.
        """
        return {
            encoding.input.name: encoding.pull_back(
                encoding.read(table.column(encoding.input.name)), d_x[:, start:stop]
            )
            for encoding, start, stop in self._places()
        }

    def describe(self) -> list[dict[str, Any]]:
        """Say in JSON what becomes of each column."""
        return [encoding.describe() for encoding in self.encodings]


def _clips_numbers(encoding: Encoding) -> bool | None:
    """Whether numbers are clipped; None for what is no number."""
    return encoding.scaler.clips if isinstance(encoding, Number) else None


def _fit(table: Table, name: str, columns: Mapping[str, ColumnSpec]) -> Encoding:
    column = table.column(name)
    choice = filled_in(columns.get(name, ColumnSpec()), column.type)
    return encoding_of(choice).fit(column, choice)


def input_shape(shapes: Sequence[Shape], width: int) -> Shape:
    """Return the shape of what a network sees of one row.

    Parameters
    ----------
    shapes : sequence of Shape
        Of one value of each column.
    width : int
        How many numbers a row becomes.

    Returns
    -------
    Shape
        Channels, height and width if the one column holds images, else how many numbers.
    """
    if len(shapes) == 1 and len(shapes[0]) in (2, 3):
        return shapes[0] if len(shapes[0]) == 3 else (1, *shapes[0])
    return (width,)
