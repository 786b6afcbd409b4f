"""Batches: the rows of an epoch in random order, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.arrays import Labels, Matrix

BLOCK_BYTES = 2**20
"""Rows are gathered in blocks of about this size: one call for many batches, yet still in cache."""


class Batches:
    """Batches of shuffled rows, gathered into memory that is used again and again.

    Parameters
    ----------
    x : Matrix of shape (rows, inputs)
    y : Matrix of shape (rows, outputs) or Labels of shape (rows,)
    batch_size : int
        Rows in a batch; the last of an epoch has what is left.
    """

    def __init__(self, x: Matrix, y: Matrix | Labels, batch_size: int) -> None:
        self._x, self._y, self._batch_size = x, y, batch_size
        row_bytes = (x.nbytes + y.nbytes) // len(x)
        batches = max(1, BLOCK_BYTES // max(1, row_bytes * batch_size))
        self._block_rows = min(batches * batch_size, len(x))
        self._x_block = np.empty((self._block_rows, *x.shape[1:]), dtype=x.dtype)
        self._y_block = np.empty((self._block_rows, *y.shape[1:]), dtype=y.dtype)

    def __len__(self) -> int:
        """How many batches an epoch has."""
        return -(-len(self._x) // self._batch_size)

    def epoch(self, rng: np.random.Generator, start: int = 0) -> Iterator[tuple[Matrix, Any]]:
        """Yield the batches ``(x, y)`` of an epoch, which hold until the next one is asked for.

        Parameters
        ----------
        rng : numpy.random.Generator
            Draws the order, unless all rows are one batch.
        start : int
            How many batches to pass over.
        """
        if len(self) == 1:
            return iter([(self._x, self._y)][start:])
        return self._gather(rng.permutation(len(self._x))[start * self._batch_size :])

    def _gather(self, order: NDArray[np.intp]) -> Iterator[tuple[Matrix, Any]]:
        for block in range(0, len(order), self._block_rows):
            rows = order[block : block + self._block_rows]
            x, y = self._x_block[: len(rows)], self._y_block[: len(rows)]
            # mode="clip" lets `take` write to `out` directly; every index is a row.
            np.take(self._x, rows, axis=0, out=x, mode="clip")
            np.take(self._y, rows, axis=0, out=y, mode="clip")
            for i in range(0, len(rows), self._batch_size):
                yield x[i : i + self._batch_size], y[i : i + self._batch_size]
