"""Summaries of values that come in pieces: a sample, the spread, and which there are how often."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

TOP = 10

DISTINCT = 50_000
"""Distinct values of a column are counted up to here."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

SEED = 20_240_131
"""Of the sample: the same file has the same profile."""


class Sample:
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
        while np.count_nonzero(self._draws < self._below) > self._most:
            self._below /= 2
        kept = np.flatnonzero(self._draws < self._below)
        self._draws = self._draws[kept]
        return kept


class Spread:
    """Ends, mean and deviation of numbers that come in pieces (Chan, Golub & LeVeque 1983)."""

    def __init__(self) -> None:
        self._count = 0
        self._mean = self._squares = 0.0
        self._least, self._most = np.inf, -np.inf

    def add(self, finite: NDArray[Any]) -> None:
        """Take in the next numbers."""
        if finite.size == 0:
            return
        self._least = min(self._least, float(finite.min()))
        self._most = max(self._most, float(finite.max()))
        with np.errstate(over="ignore", invalid="ignore"):
            mean = finite.mean(dtype=np.float64)
            squares = finite.var(dtype=np.float64, mean=mean) * finite.size
            count = self._count + finite.size
            apart = mean - self._mean
            self._mean += apart * (finite.size / count)
            self._squares += squares + apart * apart * (self._count * (finite.size / count))
        self._count = count

    def figures(self) -> dict[str, float]:
        """Return min, max, mean and std, leaving out what overflows float64."""
        if not self._count:
            return {}
        with np.errstate(over="ignore", invalid="ignore"):
            std = np.sqrt(np.float64(self._squares) / self._count)
        figures = {"min": self._least, "max": self._most, "mean": self._mean, "std": std}
        return {name: float(value) for name, value in figures.items() if np.isfinite(value)}


class Distinct:
    """The distinct values of a column with their counts, as long as they are not too many."""

    def __init__(self, dtype: Any) -> None:
        self.values = np.empty(0, dtype)
        self.counts = np.empty(0, np.int64)
        self.is_exact = True

    def add(self, present: NDArray[Any]) -> None:
        """Count the next values."""
        if not self.is_exact or not len(present):
            return
        values, counts = np.unique(present, return_counts=True)
        if len(self.values):
            both = np.concatenate([self.values, values])
            self.values, where = np.unique(both, return_inverse=True)
            weights = np.concatenate([self.counts, counts])
            counts = np.bincount(where, weights, len(self.values)).astype(np.int64)
        else:
            self.values = values
        self.counts = counts
        if len(self.values) > DISTINCT:
            self.give_up()

    def give_up(self) -> None:
        """Keep nothing but that there are as many at least."""
        self.is_exact = False
        self._least = len(self.values)
        self.values, self.counts = self.values[:0], self.counts[:0]

    def __len__(self) -> int:
        return len(self.values) if self.is_exact else self._least

    def most(self) -> NDArray[np.intp]:
        """Return the positions of the most frequent."""
        return np.argsort(-self.counts, kind="stable")[:TOP]


def weighted_quantiles(values: NDArray[Any], counts: NDArray[np.int64]) -> list[float]:
    """Return what `numpy.quantile` returns of all values, each as often as it is counted."""
    if not len(values):
        return []
    ends = np.cumsum(counts)
    at = np.array(QUANTILES) * (ends[-1] - 1)
    low, high = (
        values[np.searchsorted(ends, end(at), side="right")] for end in (np.floor, np.ceil)
    )
    part = at - np.floor(at)
    found: list[float] = (2 * (low / 2 + (high / 2 - low / 2) * part)).tolist()
    return found
