"""Quantiles: several answers for one number, of which the middle one is its value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.arrays import Matrix, Tensor


def apart(y: Matrix, levels: Sequence[float]) -> Tensor:
    """Return answers of shape (rows, values * levels) in the shape (rows, values, levels)."""
    return y.reshape(len(y), y.shape[1] // len(levels), len(levels))


def rising(y: Matrix, levels: Sequence[float]) -> Matrix:
    """Return the answers with those of each value in rising order; as they are without levels."""
    if len(levels) < 2:
        return y
    return np.sort(apart(y, levels), axis=2).reshape(y.shape)


def middle(levels: Sequence[float]) -> list[int]:
    """Return the place of the level that is nearest to 0.5, or of both that are equally near."""
    distance = np.abs(np.array(levels) - 0.5)
    return np.flatnonzero(np.isclose(distance, distance.min(), atol=0)).tolist()


def values(y: Matrix, levels: Sequence[float]) -> Matrix:
    """Return the value of every number, shape (rows, values): its middle answer.

    Where two are equally near to the middle it lies halfway between them.
    """
    if not levels:
        return y
    return np.asarray(apart(y, levels)[:, :, middle(levels)].mean(axis=2))


def names(value: str, levels: Sequence[float]) -> list[str]:
    """Return what the quantiles of a value are called."""
    return [f"{value}_quantile_{level}" for level in levels]
