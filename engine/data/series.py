"""Series: rows sorted into series, and where the steps from one to the next are not even."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.encoding import TEXTS
from engine.data.table import Column, ColumnType, Table
from engine.data.targets import missing_in
from engine.errors import DataError, SchemaError
from engine.spec import SequenceSpec

ORDERS: tuple[ColumnType, ...] = ("number", "integer", "timestamp")
GROUPS: tuple[ColumnType, ...] = ("category", "text", "integer", "number", "boolean")
"""What can order the rows of a series, and what can tell series apart."""

UNEVEN_SHARE = 0.1
"""A series of which no more steps than this differ from the others has gaps; one of which more
do is not evenly spaced."""

SAME_STEP = 1e-6
"""Steps that differ by no more than this share of one are equal: these numbers were rounded."""

SEASONS = ((1, 1, 24), (24, 24, 7), (168, 168, 52), (672, 744, 12), (2160, 2208, 4))
"""Hours from one row to the next, at least and at most, and how many such steps a season has: hours
of a day, days of a week, weeks, months and quarters of a year."""

SHOWN = 3
"""So many are named in a message."""

Rows = NDArray[np.intp]
Marks = NDArray[np.bool_]


@dataclass(frozen=True)
class Series:
    """A table sorted by series, and within each by the order.

    Parameters
    ----------
    table : Table
    rows : Rows of shape (rows,)
        Where each row was before.
    starts : Rows of shape (series,)
        The first row of each series.
    moments : ndarray of shape (rows,)
        The order as numbers that grow evenly where the rows are evenly spaced.
    odd : Marks of shape (rows,)
        Where the step from the row before is of another size than most of the series.
    uneven : Marks of shape (series,)
        Which series are not evenly spaced, so that none of their steps is a gap.
    order : Column
    group : Column or None
        Both sorted.
    """

    table: Table
    rows: Rows
    starts: Rows
    moments: NDArray[Any]
    odd: Marks
    uneven: Marks
    order: Column
    group: Column | None

    @cached_property
    def lengths(self) -> Rows:
        """How many rows each series has."""
        return np.diff(self.starts, append=len(self.rows))

    @cached_property
    def places(self) -> Rows:
        """The series of each row."""
        return np.repeat(np.arange(len(self.starts)), self.lengths)

    @cached_property
    def gaps(self) -> Marks:
        """Where the step from the row before is not as all others of its series are."""
        found: Marks = self.odd & ~self.uneven[self.places]
        return found

    @cached_property
    def season(self) -> int | None:
        """How many steps a season has, by the time that lies between two rows.

        None where these are not evenly spaced, or the order is no time.
        """
        steps = np.diff(self.order.values)[self.places[1:] == self.places[:-1]]
        if self.order.type != "timestamp" or self.uneven.any() or not len(steps):
            return None
        hours = float(np.median(steps / np.timedelta64(1, "h")))
        for least, most, count in SEASONS:
            if least * (1 - SAME_STEP) <= hours <= most * (1 + SAME_STEP):
                return count
        return None

    def name(self, series: int) -> str:
        """Return what a series is called, to be read after what is said of it."""
        if self.group is None:
            return "the one series"
        return f"series {_shown(self.group, int(self.starts[series]))}"

    def names(self, series: Rows) -> str:
        """Return what some series are called."""
        named = [self.name(place) for place in series[:SHOWN]]
        more = len(series) - len(named)
        return ", ".join(named) + (f" and {more:,} more" if more else "")

    def step(self, row: int) -> str:
        """Say which step leads to a sorted row."""
        before, after = (_shown(self.order, place) for place in (row - 1, row))
        rows = f"rows {self.rows[row - 1] + 1:,} and {self.rows[row] + 1:,}"
        return f"from {before} to {after} ({rows})"

    def describe(self) -> list[str]:
        """Say how many gaps there are and which come first, and which series are not even."""
        notes, gaps = [], np.flatnonzero(self.gaps)
        if len(gaps):
            first = self._steps(gaps)
            many = "1 step is" if len(gaps) == 1 else f"{len(gaps):,} steps are"
            notes.append(f"gaps: {many} of another size than the others of its series: {first}")
        uneven = np.flatnonzero(self.uneven)
        if len(uneven):
            named = self.names(uneven)
            first = self._steps(np.flatnonzero(self.odd & ~self.gaps))
            notes.append(f"not evenly spaced, and taken as if they were: {named}; first {first}")
        return notes

    def _steps(self, rows: Rows) -> str:
        return "; ".join(self.step(int(row)) for row in rows[:SHOWN])


def arrange(table: Table, sequence: SequenceSpec) -> Series:
    """Sort the rows of a table into series; rows of one place keep none.

    Raises
    ------
    SchemaError
        A column is absent, of a type that orders nothing, or lacks a value.
    DataError
        Two rows of a series are in the same place; it names them.
    """
    order = _present(table.column(sequence.order), ORDERS)
    moments = _moments(order)
    group = None if sequence.group is None else _present(table.column(sequence.group), GROUPS)
    codes = np.zeros(table.rows, dtype=np.intp)
    if group is not None:
        _, codes = np.unique(group.values, return_inverse=True)
    rows = np.lexsort((moments, codes))
    taken = table if (rows[1:] > rows[:-1]).all() else table.take(rows)
    moments, codes = moments[rows], codes[rows]
    begins = np.append(True, codes[1:] != codes[:-1])
    starts = np.flatnonzero(begins)
    odd, uneven = _unlike(moments, begins, starts)
    by_order = taken.column(sequence.order)
    by_group = None if sequence.group is None else taken.column(sequence.group)
    series = Series(taken, rows, starts, moments, odd, uneven, by_order, by_group)
    _check_ties(series, begins)
    return series


def _present(column: Column, types: tuple[ColumnType, ...]) -> Column:
    if column.type not in types:
        raise SchemaError(column.name, f"one of the types {', '.join(types)}", column.type)
    absent = missing_in(column) if column.type in TEXTS else ~np.isfinite(column.values)
    if absent.any():
        got = f"{absent.sum():,} missing or infinite, the first in row {absent.argmax() + 1:,}"
        raise SchemaError(column.name, "a value in every row", got)
    return column


def _moments(order: Column) -> NDArray[Any]:
    """Return numbers in the same order, evenly spaced where days, or months, are."""
    if order.type != "timestamp":
        return order.values
    for days in (0, 1):
        # One more day makes the last of every month the first of the next.
        moved = order.values + np.timedelta64(days, "D")
        months = moved.astype("datetime64[M]")
        within = moved - months
        if (within == within[0]).all() and (days == 0 or within[0] < np.timedelta64(1, "D")):
            return months.astype(np.int64)
    return order.values.astype(np.int64)


def _unlike(moments: NDArray[Any], begins: Marks, starts: Rows) -> tuple[Marks, Marks]:
    """Return which steps are of another size, and which series are not evenly spaced.

    The size of a series' steps is their median, the smaller of two.
    """
    steps = np.diff(moments, prepend=moments[:1]).astype(np.float64)
    lengths = np.diff(starts, append=len(moments))
    places = np.repeat(np.arange(len(starts)), lengths)
    # The first row of a series has no step: it goes before all others, and is passed over.
    ranked = steps[np.lexsort((np.where(begins, -np.inf, steps), places))]
    median = ranked[starts + lengths // 2]
    differs = ~begins & (np.abs(steps - median[places]) > SAME_STEP * median[places])
    counts = np.bincount(places, weights=differs, minlength=len(starts))
    uneven = counts > np.maximum((lengths - 1) * UNEVEN_SHARE, 1)
    return differs, uneven


def _check_ties(series: Series, begins: Marks) -> None:
    tied = np.flatnonzero(~begins[1:] & (series.moments[1:] == series.moments[:-1])) + 1
    if not len(tied):
        return
    row = int(tied[0])
    pairs = _pairs(series.rows[tied - 1], series.rows[tied], len(tied))
    value, name = _shown(series.order, row), series.order.name
    where = "" if series.group is None else f" in {series.name(int(series.places[row]))}"
    advice = "leave one of them out, or name the column that tells series apart in `group`"
    if series.group is not None:
        advice = "leave one of them out, or order by another column"
    raise DataError(f"column {name!r} has {value} twice{where}: {pairs}; {advice}")


def name_ties(order: Column, count: int) -> str:
    """Say which rows of one series are in one place, the first of them by row.

    Parameters
    ----------
    order : Column
        As far as it was read; no value is missing.
    count : int
        How many rows of all have the value of one before them.
    """
    rows = np.argsort(order.values, kind="stable")
    same = np.flatnonzero(order.values[rows[1:]] == order.values[rows[:-1]])
    same = same[np.argsort(rows[same + 1])]
    return _pairs(rows[same], rows[same + 1], count)


def _pairs(first: Rows, second: Rows, count: int) -> str:
    """Name some of ``count`` pairs of rows."""
    shown = [f"{a + 1:,} and {b + 1:,}" for a, b in zip(first[:SHOWN], second, strict=False)]
    left = count - len(shown)
    more = f" and {left:,} more {'pair' if left == 1 else 'pairs'}" if left else ""
    return f"rows of one place are {', '.join(shown)}{more} (the first row is 1)"


def row_count(rows: int) -> str:
    """Return a number of rows in words."""
    return "1 row" if rows == 1 else f"{rows:,} rows"


def _shown(column: Column, row: int) -> str:
    """Return a value as a message shows it."""
    value = column.values[row]
    if column.type == "category":
        return repr(column.levels[value])
    if column.type == "timestamp":
        seconds = np.datetime_as_string(value, unit="s")
        return str(seconds).removesuffix("T00:00:00")
    if column.type == "text":
        return repr(str(value)[:40])
    return f"{value:g}" if column.type == "number" else f"{value:.0f}"
