"""Profiles: what a column holds, in a few figures, worked out piece by piece.

Counts, ends, mean and deviation are exact. Distinct values, the most frequent
and quantiles are too as long as a column has no more than `DISTINCT` values;
of one that has more, quantiles come from a sample of the rows.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.data.summaries import (
    DISTINCT,
    QUANTILES,
    TOP,
    Distinct,
    Sample,
    Spread,
    weighted_quantiles,
)
from engine.data.table import NUMERIC, Column, ColumnType, Table

DISTINCT_OF_ALL = 2_000_000
"""And those of all columns together; the columns with the most are given up first."""

SAMPLED_ROWS = 1 << 15
SAMPLED_CELLS = 1 << 21
"""How many rows are sampled for quantiles, and how many cells of all columns."""

Figure = Literal["distinct", "top", "quantiles"]
Flag = Literal["constant", "identifier"]


@dataclass(frozen=True)
class ColumnProfile:
    """What a column holds.

    Parameters
    ----------
    name : str
    type : ColumnType
    missing, non_finite : int
        Values that are absent (or NaN), and values that are infinite.
    first_missing, first_non_finite : int or None
        The 1-based row of the first of them.
    distinct : int or None
        Different values that are present; not counted for a tensor.
    min, max, mean, std : scalar or None
        Of the finite values; ``std`` is the population's. Times as RFC 3339.
    quantiles : dict of str to float, or None
        Of the finite values, by the share that is not above.
    top : list of [value, count]
        The most frequent values, at most `TOP`.
    shape : list of int or None
        The shape of one value of a tensor.
    approximate : list of str
        Which figures are not exact: ``distinct`` is then the least that it is.
    flags : list of str
        ``constant``: there is one value. ``identifier``: it seems to number the rows.
    notes : list of str
        What is doubtful, in words.
    """

    name: str
    type: ColumnType
    missing: int
    non_finite: int = 0
    first_missing: int | None = None
    first_non_finite: int | None = None
    distinct: int | None = None
    min: float | str | None = None
    max: float | str | None = None
    mean: float | None = None
    std: float | None = None
    quantiles: dict[str, float] | None = None
    top: list[list[Any]] | None = None
    shape: list[int] | None = None
    approximate: list[Figure] = field(default_factory=list)
    flags: list[Flag] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def profile(table: Table) -> list[ColumnProfile]:
    """Profile every column of a table."""
    profiler = Profiler(len(table.columns))
    profiler.add(table)
    return profiler.profiles()


class Profiler:
    """Profiles a table that comes in pieces.

    Parameters
    ----------
    columns : int
        How many there are.
    """

    def __init__(self, columns: int) -> None:
        self._rows = 0
        self._columns: list[_Tally] = []
        self._sample = Sample(max(1, min(SAMPLED_ROWS, SAMPLED_CELLS // columns)))

    def add(self, table: Table) -> None:
        """Count the next rows."""
        if not self._columns:
            self._columns = [_TALLIES[column.type](column) for column in table.columns]
        drawn = self._sample.draw(table.rows)
        for tally, column in zip(self._columns, table.columns, strict=True):
            tally.add(column, self._rows, drawn)
        self._rows += table.rows
        if self._sample.is_full:
            kept = self._sample.thin()
            for tally in self._columns:
                tally.thin(kept)
        self._spare()

    def _spare(self) -> None:
        """Give up counting the distinct values of columns that have very many."""
        while sum(tally.counted for tally in self._columns) > DISTINCT_OF_ALL:
            max(self._columns, key=lambda tally: tally.counted).give_up()

    def profiles(self) -> list[ColumnProfile]:
        """Return what was counted."""
        return [tally.profile(self._rows) for tally in self._columns]


class _Tally(ABC):
    """What was counted of one column so far."""

    def __init__(self, column: Column) -> None:
        self._name, self._type = column.name, column.type
        self._missing = self._present = 0
        self._first_missing: int | None = None

    @property
    def counted(self) -> int:
        """How many distinct values are kept."""
        return 0

    def give_up(self) -> None:  # noqa: B027 - of most types nothing is given up
        """Count distinct values no more."""

    def thin(self, kept: NDArray[np.intp]) -> None:  # noqa: B027 - nor sampled
        """Keep only some rows of the sample."""

    @abstractmethod
    def add(self, column: Column, before: int, drawn: NDArray[np.intp]) -> None:
        """Count a piece that ``before`` rows precede."""

    @abstractmethod
    def profile(self, rows: int) -> ColumnProfile:
        """Return what was counted of so many rows."""

    def _miss(self, missing: NDArray[np.bool_], before: int) -> None:
        count = int(np.count_nonzero(missing))
        if count and self._first_missing is None:
            self._first_missing = before + _first(missing)
        self._missing += count
        self._present += len(missing) - count

    def _described(self, distinct: int | None, **figures: Any) -> ColumnProfile:
        """Return a profile with the flags that go by what is counted of every type."""
        exact = distinct is not None and "distinct" not in figures.get("approximate", ())
        flags: list[Flag] = figures.pop("flags", [])
        notes = []
        if distinct == 1 and exact:
            flags = ["constant"]
            notes.append("every value that is there is the same: nothing can be learnt from it")
        if "identifier" in flags:
            notes.append("no value comes twice: it seems to number the rows, not to describe them")
        return ColumnProfile(
            self._name,
            self._type,
            missing=self._missing,
            first_missing=self._first_missing,
            distinct=distinct,
            flags=flags,
            notes=notes,
            **figures,
        )


def _first(mask: NDArray[np.bool_]) -> int:
    return int(mask.argmax()) + 1


class _Numbers(_Tally):
    """A column of numbers, integers or booleans."""

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self._words = column.levels or (False, True)
        self._non_finite = 0
        self._first_non_finite: int | None = None
        self._spread, self._distinct = Spread(), Distinct(np.float64)
        self._sample = np.empty(0)
        self._last, self._rises = -np.inf, True

    @property
    def counted(self) -> int:
        return len(self._distinct.values)

    def give_up(self) -> None:
        self._distinct.give_up()

    def thin(self, kept: NDArray[np.intp]) -> None:
        self._sample = self._sample[kept]

    def add(self, column: Column, before: int, drawn: NDArray[np.intp]) -> None:
        finite = values = column.values
        if not np.isfinite(values).all():
            missing, infinite = np.isnan(values), np.isinf(values)
            self._miss(missing, before)
            if infinite.any() and self._first_non_finite is None:
                self._first_non_finite = before + _first(infinite)
            self._non_finite += int(infinite.sum())
            finite = values[~(missing | infinite)]
        else:
            self._present += len(values)
        self._spread.add(finite)
        self._distinct.add(finite)
        self._sample = np.concatenate([self._sample, values[drawn]])
        if self._rises and len(finite):
            self._rises = bool(finite[0] > self._last and (finite[1:] > finite[:-1]).all())
            self._last = float(finite[-1])

    def profile(self, rows: int) -> ColumnProfile:
        distinct, figures = self._distinct, self._spread.figures()
        count = self._present - self._non_finite
        if distinct.is_exact:
            quantiles = weighted_quantiles(distinct.values, distinct.counts)
        else:
            sample = self._sample[np.isfinite(self._sample)]
            quantiles = np.quantile(sample, QUANTILES).tolist() if len(sample) else []
        is_other = self._rises or (distinct.is_exact and len(distinct) == count)
        numbers = self._type == "integer" and rows >= MIN_IDENTIFIERS and count == rows and is_other
        steps = numbers and figures["max"] - figures["min"] + 1 == rows
        named = _IDENTIFIER.search(self._name) is not None
        return self._described(
            len(distinct),
            non_finite=self._non_finite,
            first_non_finite=self._first_non_finite,
            quantiles={f"{q:g}": value for q, value in zip(QUANTILES, quantiles, strict=False)},
            top=[
                [self._plain(distinct.values[i]), int(distinct.counts[i])] for i in distinct.most()
            ]
            if distinct.is_exact
            else None,
            approximate=[] if distinct.is_exact else ["distinct", "quantiles"],
            flags=["identifier"] if steps or (numbers and named) else [],
            **figures,
        )

    def _plain(self, value: np.float64) -> bool | str | int | float:
        if self._type == "boolean":
            return self._words[int(value)]
        return int(value) if self._type == "integer" else float(value)


MIN_IDENTIFIERS = 20
"""Of fewer rows it is no wonder if all are different."""

_IDENTIFIER = re.compile(r"(^|[_ .-])(id|key|index|no|number|nr)$|^(id|key|index)[_ .-]|Id$|ID$")


class _Categories(_Tally):
    """A column of categories; its levels are the same in every piece."""

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self._levels = column.levels
        self._counts = np.zeros(len(column.levels), np.int64)

    def add(self, column: Column, before: int, drawn: NDArray[np.intp]) -> None:  # noqa: ARG002 - the parent's
        missing = column.values < 0
        self._miss(missing, before)
        self._counts += np.bincount(column.values[~missing], minlength=len(self._levels))

    def profile(self, rows: int) -> ColumnProfile:  # noqa: ARG002 - the parent's
        most = np.argsort(-self._counts, kind="stable")[:TOP]
        return self._described(
            int((self._counts > 0).sum()),
            top=[[self._levels[i], int(self._counts[i])] for i in most],
        )


class _Texts(_Tally):
    """A column of text."""

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self._counts: Counter[str] = Counter()
        self._least: int | None = None

    @property
    def counted(self) -> int:
        return len(self._counts)

    def give_up(self) -> None:
        self._least, self._counts = len(self._counts), Counter()

    def add(self, column: Column, before: int, drawn: NDArray[np.intp]) -> None:  # noqa: ARG002 - the parent's
        missing = np.array([value is None for value in column.values], bool)
        self._miss(missing, before)
        if self._least is None:
            self._counts.update(column.values[~missing].tolist())
            if len(self._counts) > DISTINCT or sum(map(len, self._counts)) > TEXT_CHARACTERS:
                self.give_up()

    def profile(self, rows: int) -> ColumnProfile:
        if self._least is not None:
            return self._described(self._least, approximate=["distinct"])
        distinct = len(self._counts)
        return self._described(
            distinct,
            top=[[value, count] for value, count in self._counts.most_common(TOP)],
            flags=["identifier"] if distinct == rows >= MIN_IDENTIFIERS else [],
        )


TEXT_CHARACTERS = 1 << 24
"""The distinct values of a column of text are counted up to so many characters."""


class _Times(_Tally):
    """A column of times."""

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self._distinct = Distinct(column.values.dtype)
        self._least = self._most = np.datetime64("NaT", "us")

    @property
    def counted(self) -> int:
        return len(self._distinct.values)

    def give_up(self) -> None:
        self._distinct.give_up()

    def add(self, column: Column, before: int, drawn: NDArray[np.intp]) -> None:  # noqa: ARG002 - the parent's
        missing = np.isnat(column.values)
        self._miss(missing, before)
        present = column.values[~missing]
        self._distinct.add(present)
        if len(present):
            self._least = np.fmin(self._least, present.min())
            self._most = np.fmax(self._most, present.max())

    def profile(self, rows: int) -> ColumnProfile:  # noqa: ARG002 - the parent's
        return self._described(
            len(self._distinct),
            min=_moment(self._least),
            max=_moment(self._most),
            approximate=[] if self._distinct.is_exact else ["distinct"],
        )


def _moment(time: np.datetime64) -> str | None:
    return None if np.isnat(time) else f"{np.datetime_as_string(time)}Z"


class _Tensors(_Tally):
    """A column of tensors."""

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self._shape = list(column.shape)
        self._spread = Spread()
        self._non_finite = 0
        self._first_non_finite: int | None = None

    def add(self, column: Column, before: int, drawn: NDArray[np.intp]) -> None:  # noqa: ARG002 - the parent's
        inner = tuple(range(1, column.values.ndim))
        missing = np.isnan(column.values).any(axis=inner)
        infinite = np.isinf(column.values).any(axis=inner)
        self._miss(missing, before)
        if infinite.any() and self._first_non_finite is None:
            self._first_non_finite = before + _first(infinite)
        self._non_finite += int(infinite.sum())
        self._spread.add(column.values[~(missing | infinite)])

    def profile(self, rows: int) -> ColumnProfile:  # noqa: ARG002 - the parent's
        return self._described(
            None,
            non_finite=self._non_finite,
            first_non_finite=self._first_non_finite,
            shape=self._shape,
            **self._spread.figures(),
        )


_TALLIES: dict[ColumnType, type[_Tally]] = {
    **dict.fromkeys(NUMERIC, _Numbers),
    "category": _Categories,
    "text": _Texts,
    "timestamp": _Times,
    "tensor": _Tensors,
}
