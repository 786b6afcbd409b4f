"""Sequences: examples of several rows each, cut out of series, and their split.

A forecast sees a window of consecutive rows and predicts what comes next; a
whole series is padded at its end and predicts what all of its rows say.

A relative forecast is told as the difference from the last value in the window,
so that a level or a slope that was never seen is no matter: the NLinear of Zeng,
Chen, Zhang & Xu (2023, "Are transformers effective for time series forecasting?",
section 4). Deviation: the inputs keep their level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.arrays import Labels, Matrix
from engine.data.series import Marks, Rows, Series, arrange, row_count
from engine.data.splits import split
from engine.data.table import Table
from engine.data.targets import has_targets, missing_in
from engine.data.windows import Windows
from engine.errors import DataError, SchemaError
from engine.spec import SequenceSpec


@dataclass(frozen=True)
class Sequences:
    """Examples of one table.

    Parameters
    ----------
    series : Series
    windows : Windows
        The rows that each example is made from.
    answers : Rows of shape (examples, horizon)
        The rows whose targets it predicts.
    targets : tuple of str
    relative : bool
        Whether targets are told as differences from their last values in the window.
    notes : tuple of str
        What was noticed, and what was left out.
    """

    series: Series
    windows: Windows
    answers: Rows
    targets: tuple[str, ...]
    relative: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """How many examples."""
        return len(self.windows)

    @property
    def table(self) -> Table:
        """All rows, sorted into series."""
        return self.series.table

    @property
    def begins(self) -> Rows:
        """The first row of the series of each example."""
        return self.series.starts[self.series.places[self.windows.starts]]

    @property
    def next_step(self) -> Sequences:
        """The same, but that no more is predicted than the first step."""
        return replace(self, answers=self.answers[:, :1])

    def take(self, which: Rows) -> Sequences:
        """Return some of the examples, over the same table."""
        return replace(self, windows=self.windows.take(which), answers=self.answers[which])

    @property
    def answered(self) -> Table:
        """The targets that are predicted, one example's after another's."""
        return self._targets.take(self.answers.reshape(-1))

    @property
    def bases(self) -> Matrix | None:
        """What the targets are told as differences from, shape (examples, targets)."""
        if not self.relative:
            return None
        return last_values(self.table, self.windows, self.targets)

    @property
    def _targets(self) -> Table:
        return Table(tuple(self.table.column(name) for name in self.targets))

    @property
    def touched(self) -> Table:
        """The rows that the examples are made from, or predict."""
        rows = self.table.rows
        first = np.bincount(self.windows.starts, minlength=rows + 1)
        inside = np.cumsum(first - np.bincount(self.windows.ends, minlength=rows + 1)) > 0
        inside[self.answers] = True
        return self.table.take(np.flatnonzero(inside[:rows]))


def sequences(table: Table, sequence: SequenceSpec, targets: list[str]) -> Sequences:
    """Sort a table into series, and cut its examples.

    Raises
    ------
    SchemaError
        A column is absent, or orders nothing.
    DataError
        Rows are in one place, no series is long enough, or a series is too long or of two minds.
    """
    if not table.rows:
        raise DataError("there is no row that a sequence could begin with")
    series = arrange(table, sequence)
    cut = _whole if sequence.window is None else _windows
    windows, answers, left_out = cut(series, sequence, targets)
    return Sequences(
        series,
        windows,
        answers,
        tuple(targets),
        bool(sequence.relative),
        (*series.describe(), *left_out),
    )


def _windows(
    series: Series, sequence: SequenceSpec, targets: list[str]
) -> tuple[Windows, Rows, list[str]]:
    """Cut every window whose rows and answers are of one series, in even steps and not missing."""
    window, horizon = sequence.window or 1, sequence.horizon or 1
    span, lengths, notes = window + horizon, series.lengths, []
    short = np.flatnonzero(lengths < span)
    needed = f"window + horizon, which is {span:,} rows"
    if len(short) == len(lengths):
        longest = row_count(int(lengths.max()))
        raise DataError(f"the longest series has {longest}, fewer than {needed}")
    if len(short):
        named = series.names(short)
        notes.append(f"left out, as they are shorter than {needed}: {named}")
    starts = np.arange(len(series.rows) - span + 1)
    starts = starts[series.places[starts] == series.places[starts + span - 1]]
    gapless = starts[count_marked(series.gaps, starts + 1, starts + span) == 0]
    if len(gapless) < len(starts):
        notes.append(f"windows left out, as they reach over a gap: {len(starts) - len(gapless):,}")
    absent = ~has_targets(series.table, targets)
    complete = gapless[count_marked(absent, gapless + window, gapless + span) == 0]
    if len(complete) < len(gapless):
        found = len(gapless) - len(complete)
        notes.append(f"windows left out, as a target after them is missing: {found:,}")
    if sequence.relative:
        last = last_known(series.table, targets)[complete + window - 1]
        known = last.min(axis=1) >= complete
        if not known.all():
            lost = len(complete) - int(known.sum())
            notes.append(f"windows left out, as they have no value of a target: {lost:,}")
        complete = complete[known]
    if not len(complete):
        raise DataError("; ".join(["no window is left to learn from", *series.describe(), *notes]))
    answers = complete[:, None] + np.arange(window, span)
    return Windows(complete, window), answers, notes


def last_known(table: Table, targets: Sequence[str]) -> Rows:
    """Return up to each row the last one that has a value in each target, -1 where none has.

    Of shape (rows, targets).
    """
    rows = np.arange(table.rows)
    absent = [missing_in(table.column(name)) for name in targets]
    known = [np.maximum.accumulate(np.where(missing, -1, rows)) for missing in absent]
    return np.stack(known, axis=1)


def last_values(table: Table, windows: Windows, targets: Sequence[str]) -> Matrix:
    """Return the last value of each target in each window, shape (examples, targets).

    Raises
    ------
    SchemaError
        A window has none; its ``row`` is its last one.
    """
    last = last_known(table, targets)[windows.ends - 1]
    bare = np.argwhere(last < windows.starts[:, None])
    if len(bare):
        example, place = bare[0]
        wanted = "a value in some row of every window"
        raise SchemaError(targets[place], wanted, "none", int(windows.ends[example]) - 1)
    columns = (table.column(name).values for name in targets)
    values = [column[rows] for column, rows in zip(columns, last.T, strict=True)]
    return np.stack(values, axis=1)


def count_marked(marks: Marks, begin: Rows, end: Rows) -> Rows:
    """Return how many rows are marked from each beginning to before its end."""
    before = np.append(0, np.cumsum(marks))
    counts: Rows = before[end] - before[begin]
    return counts


def _whole(
    series: Series, sequence: SequenceSpec, targets: list[str]
) -> tuple[Windows, Rows, list[str]]:
    """Take every series that has a target as one example."""
    length, lengths = sequence.steps, series.lengths
    long = np.flatnonzero(lengths > length)
    if len(long):
        reason = f"{series.name(int(long[0]))} has {row_count(int(lengths[long[0]]))}"
        raise DataError(f"{reason}, but `length` is {length:,}; it must be that of the longest")
    if not sequence.mask and (lengths < length).any():
        short = int((lengths < length).argmax())
        rows = row_count(int(lengths[short]))
        reason = f"{series.name(short)} has {rows}, where `length` is {length:,}"
        raise DataError(f"{reason}; with `mask` series may differ")
    for name in targets:
        _check_same(series, name)
    kept, notes = np.flatnonzero(has_targets(series.table, targets)[series.starts]), []
    if len(kept) < len(lengths):
        lost = np.setdiff1d(np.arange(len(lengths)), kept)
        notes.append(f"left out, as they have no target: {series.names(lost)}")
    if not len(kept):
        raise DataError("no series has a target; there is nothing to learn")
    starts = series.starts[kept]
    windows = Windows(starts, length, lengths[kept] if sequence.mask else None)
    return windows, starts[:, None], notes


def _check_same(series: Series, target: str) -> None:
    """Refuse a series whose rows do not all have the same target."""
    column = series.table.column(target)
    values, missing = column.values, missing_in(column)
    same = (values[1:] == values[:-1]) | (missing[1:] & missing[:-1])
    differs = np.flatnonzero(~same & (series.places[1:] == series.places[:-1])) + 1
    if len(differs):
        row = int(differs[0])
        rows = f"rows {series.rows[row - 1] + 1:,} and {series.rows[row] + 1:,} (the first is 1)"
        many = len(np.unique(series.places[differs]))
        reason = f"column {target!r} has more than one value in {many:,} series, such as "
        advice = "all rows of a series must have the same; to forecast it, give a `window`"
        where = f"{series.name(int(series.places[row]))}, {rows}"
        raise DataError(f"{reason}{where}; {advice}")


def split_sequences(
    examples: Sequences,
    sequence: SequenceSpec,
    fraction: float,
    rng: np.random.Generator,
    labels: Labels | None = None,
) -> tuple[Sequences, Sequences | None]:
    """Divide examples into those to train on and those to validate on.

    Whole series are drawn at random, each class its share. Windows are cut by time, at one moment
    for all series: what is predicted in validation is later than all that a window of training
    touches. Windows that predict both before and after it are left out.
    """
    if fraction == 0:
        return examples, None
    if sequence.window is None:
        training, rest = split(len(examples), fraction, rng, labels)
        return examples.take(training), examples.take(rest) if len(rest) else None
    moments = examples.series.moments
    first, last = (moments[examples.answers[:, place]] for place in (0, -1))
    begins, counts = np.unique(first, return_counts=True)
    later = len(first) - np.cumsum(counts)[:-1]
    if not len(later):
        advice = "`validation` with a `fraction` of 0 would do"
        raise DataError(f"all windows end at the same time, so none can validate; {advice}")
    cut = begins[np.abs(later - len(first) * fraction).argmin()]
    training, rest = np.flatnonzero(last <= cut), np.flatnonzero(first > cut)
    if not len(training):
        found = f"of {len(first):,} windows the latest {len(rest):,} would validate"
        advice = "use a smaller horizon or `fraction`, or a `fraction` of 0"
        raise DataError(f"{found}, and none ends before these begin to predict; {advice}")
    between = len(first) - len(training) - len(rest)
    notes = examples.notes
    if between:
        notes += (f"windows left out, as they predict both before and after the cut: {between:,}",)
    return replace(examples.take(training), notes=notes), examples.take(rest)
