"""Timestamps: where in the day, the week and the year they are, and how late altogether."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from engine.arrays import Tensor, Vector
from engine.data.encoding import Encoding, Values, check_type
from engine.data.scaling import Numbers, Scaler, fit_scaler
from engine.data.table import Column, InputColumn
from engine.spec import ColumnSpec

DAY_MICROSECONDS = 86_400_000_000
WEEK_DAYS = 7
MONDAY = 3
"""The first of January 1970 was so many days after one."""

CYCLES = ("day", "week", "year")
PARTS = {
    "linear": ("time",),
    "cyclic": tuple(f"{wave} of {cycle}" for cycle in CYCLES for wave in ("sine", "cosine")),
}
PARTS["calendar"] = PARTS["cyclic"] + PARTS["linear"]
"""What a timestamp becomes, by what is asked for."""


@dataclass(frozen=True)
class Timestamp(Encoding):
    """Sine and cosine of its place in the day, the week and the year, and the time in days.

    A cycle that the training rows do not move along, as that of the day where all are dates,
    vanishes. Where training rows lack a time, one more number says whether it is missing.

    Parameters
    ----------
    fill : int
        What stands for a missing time: microseconds since 1970.
    flags : bool
        Whether there is the number that says what is missing.
    """

    fill: int
    flags: bool

    @classmethod
    def fit(cls, column: Column, choice: ColumnSpec) -> Self:
        """Fit on the training rows."""
        missing = np.isnat(column.values)
        fill, flags = _fill(choice, column.values[~missing]), bool(missing.any())
        wanted = InputColumn(column.name, column.type, required=choice.impute == "none")
        width = len(PARTS[choice.encode or "calendar"]) + flags
        first = cls(wanted, choice, Scaler(np.zeros(width), np.zeros(width)), fill, flags)
        first.check_missing(missing)
        scaler = fit_scaler(choice.scale or "robust", first.numbers(column.values))
        return cls(wanted, choice, scaler, fill, flags)

    @property
    def parts(self) -> tuple[str, ...]:
        """What it becomes, beside the flag."""
        return PARTS[self.choice.encode or "calendar"]

    def read(self, column: Column) -> Values:
        """Return the times, NaT where missing."""
        check_type(column, self.input)
        self.check_missing(np.isnat(column.values))
        return column.values

    def numbers(self, values: Values) -> Numbers:
        """Return the parts, and whether the time had been missing."""
        missing = np.isnat(values)
        numbers = np.empty((len(values), self.width))
        for place, part in enumerate(_parts(self._filled(values), self.parts)):
            numbers[:, place] = part
        if self.flags:
            numbers[:, -1] = missing
        return numbers

    def gather(self, values: Values, d: Tensor) -> Tensor:
        """Return the gradients at the times, per day, shape (rows,); 0 where there is none."""
        per_day = np.zeros(len(values))
        for place, slope in enumerate(_slopes(self._filled(values), self.parts)):
            per_day += d[:, place] * slope
        return np.where(np.isnat(values), 0.0, per_day)

    def _filled(self, values: Values) -> NDArray[np.datetime64]:
        return np.where(np.isnat(values), np.datetime64(self.fill, "us"), values)

    @property
    def names(self) -> list[str]:
        """The column and its part."""
        name = self.input.name
        names = [f"{part} of {name}" for part in self.parts]
        return [*names, f"{name} is missing"] if self.flags else names

    def facts(self) -> dict[str, Any]:
        """Return what stands for a missing time, and whether it is flagged."""
        return {"fill": self.fill, "flags": self.flags}

    @classmethod
    def restore(
        cls, column: InputColumn, choice: ColumnSpec, scaler: Scaler, facts: dict[str, Any]
    ) -> Self:
        """Return the encoding of which `facts` told."""
        return cls(column, choice, scaler, int(facts["fill"]), bool(facts["flags"]))

    def describe(self) -> dict[str, Any]:
        """Say what becomes of the column."""
        fill = f"{np.datetime64(self.fill, 'us')}Z"
        return {**super().describe(), "fill": fill, "missing_flag": self.flags}


def _fill(choice: ColumnSpec, present: NDArray[np.datetime64]) -> int:
    """Return what stands for a missing time: the first of 1970 where none is present."""
    if not len(present):
        return 0
    microseconds = present.astype(np.int64)
    return int(microseconds.mean() if choice.impute == "mean" else np.median(microseconds))


def _turns(times: NDArray[np.datetime64], wanted: tuple[str, ...]) -> Iterator[tuple[Vector, Any]]:
    """Yield which part of each cycle has gone by at those times, and how much a day goes on.

    By whole numbers, so that equal parts are equal to the last bit, however many days apart.
    """
    if len(wanted) == 1:
        return
    day, moment = np.divmod(times.astype(np.int64), DAY_MICROSECONDS)
    yield moment / DAY_MICROSECONDS, 1.0
    weekday = (day + MONDAY) % WEEK_DAYS
    yield (weekday * DAY_MICROSECONDS + moment) / (WEEK_DAYS * DAY_MICROSECONDS), 1 / WEEK_DAYS
    years = times.astype("datetime64[Y]")
    begin, end = (year.astype("datetime64[D]").astype(np.int64) for year in (years, years + 1))
    gone = (day - begin) * DAY_MICROSECONDS + moment
    yield gone / ((end - begin) * DAY_MICROSECONDS), 1 / (end - begin)


def _parts(times: NDArray[np.datetime64], wanted: tuple[str, ...]) -> Iterator[Vector]:
    """Yield what times become, part by part, each of shape (rows,)."""
    for turns, _ in _turns(times, wanted):
        angle = 2 * np.pi * turns
        yield np.sin(angle)
        yield np.cos(angle)
    if wanted[-1] == "time":
        yield times.astype(np.int64) / DAY_MICROSECONDS


def _slopes(times: NDArray[np.datetime64], wanted: tuple[str, ...]) -> Iterator[Vector]:
    """Yield the slopes of the parts, per day."""
    for turns, per_day in _turns(times, wanted):
        angle, speed = 2 * np.pi * turns, 2 * np.pi * per_day
        yield speed * np.cos(angle)
        yield -speed * np.sin(angle)
    if wanted[-1] == "time":
        yield np.ones(len(times))
