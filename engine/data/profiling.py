"""Profiles: what a column holds, in a few figures, worked out piece by piece.

Counts, ends, mean and deviation are exact. Distinct values, the most frequent
and quantiles are too as long as a column has no more than `DISTINCT` values;
of one that has more, quantiles come from a sample of the rows.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.data.table import NUMERIC, Column, ColumnType, Table

TOP = 10

DISTINCT = 50_000
"""Distinct values of a column are counted up to here."""

DISTINCT_OF_ALL = 2_000_000
"""And those of all columns together; the columns with the most are given up first."""

SAMPLED_ROWS = 1 << 15
SAMPLED_CELLS = 1 << 21
"""How many rows are sampled for quantiles, and how many cells of all columns."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

SEED = 20_240_131
"""Of the sample: the same file has the same profile."""

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
        self._sample = _Sample(max(1, min(SAMPLED_ROWS, SAMPLED_CELLS // columns)))

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


class _Sample:
    """Rows at random, each as likely as any other, and no more than ``most``."""

    def __init__(self, most: int) -> None:
        self._rng = np.random.default_rng(SEED)
        self._most, self._below = most, 1.0
        self._draws = np.empty(0)

    def draw(self, rows: int) -> NDArray[np.intp]:
        """Return which of the next rows are taken."""
        draws = self._rng.random(rows)
        taken = np.flatnonzero(draws < self._below)
        self._draws = np.concatenate([self._draws, draws[taken]])
        return taken

    @property
    def is_full(self) -> bool:
        """Whether there are too many."""
        return len(self._draws) > self._most

    def thin(self) -> NDArray[np.intp]:
        """Return which of the rows that were taken are kept."""
        while self.is_full:
            self._below /= 2
            self._draws = ...
        ...
