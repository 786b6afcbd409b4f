"""Splits: which rows train and which validate."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from engine.arrays import Labels

Rows = NDArray[np.intp]


def split(
    rows: int, fraction: float, rng: np.random.Generator, labels: Labels | None = None
) -> tuple[Rows, Rows]:
    """Divide the rows 0 to ``rows - 1`` at random.

    Parameters
    ----------
    rows : int
        At least 1.
    fraction : float
        Share of the rows to validate on, from 0 to below 1. Above 0 it gives at
        least one row where there are two; one row always remains to train on.
    rng : numpy.random.Generator
    labels : Labels of shape (rows,), optional
        Each class gets its share of the validation rows, by largest remainder;
        a class keeps at least one row to train on.

    Returns
    -------
    training, validation : ndarray of intp
        Both ascending.
    """
    wanted = max(round(rows * fraction), 1) if fraction > 0 else 0
    sizes = [rows] if labels is None else np.unique(labels, return_counts=True)[1].tolist()
    shares = _shares(sizes, wanted)
    trains = np.ones(rows, dtype=np.bool_)
    for group, share in zip(_groups(rows, labels), shares, strict=True):
        trains[rng.permutation(group)[:share]] = False
    return np.flatnonzero(trains), np.flatnonzero(~trains)


def folds(
    rows: int, count: int, rng: np.random.Generator, labels: Labels | None = None
) -> Iterator[tuple[Rows, Rows]]:
    """Divide the rows 0 to ``rows - 1`` at random into parts, and yield each with all the others.

    Parameters
    ----------
    rows : int
    count : int
        How many parts, at most ``rows``; their sizes differ by one at most.
    rng : numpy.random.Generator
    labels : Labels of shape (rows,), optional
        The rows of each class are spread evenly over the parts.

    Yields
    ------
    training, validation : ndarray of intp
        Both ascending.
    """
    dealt = np.concatenate([rng.permutation(group) for group in _groups(rows, labels)])
    for first in range(count):
        validation = np.sort(dealt[first::count])
        yield np.setdiff1d(np.arange(rows), validation, assume_unique=True), validation


def _groups(rows: int, labels: Labels | None) -> Iterator[Rows]:
    """Yield the rows of each class, or all of them."""
    if labels is None:
        yield np.arange(rows)
        return
    for label in np.unique(labels):
        yield np.flatnonzero(labels == label)


def _shares(sizes: list[int], wanted: int) -> list[int]:
    """Divide ``wanted`` among groups in proportion to size, one member of each staying out.

    What rounding down leaves over goes to the largest remainders.
    """
    limits = [size - 1 for size in sizes]
    wanted = min(wanted, sum(limits))
    exact = [wanted * size / sum(sizes) for size in sizes]
    shares = [min(int(share), limit) for share, limit in zip(exact, limits, strict=True)]
    while sum(shares) < wanted:
        open_groups = [i for i in range(len(sizes)) if shares[i] < limits[i]]
        shares[max(open_groups, key=lambda i: exact[i] - shares[i])] += 1
    return shares
