"""Batches: the rows of an epoch in random order, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import cast

import numpy as np
from numpy.typing import NDArray

from engine.arrays import Labels, Matrix, Vector, aligned_zeros
from engine.data.windows import Windows

BLOCK_BYTES = 2**20
"""Rows are gathered in blocks of about this size: one call for many batches, yet still in cache."""


@dataclass(frozen=True)
class Examples:
    """Rows as a network sees them.

    Parameters
    ----------
    x : Matrix of shape (rows, inputs + 1)
        The last column is 1: the unit whose weights are the biases. With `windows` the steps of
        all series, shape (steps, width).
    y : Matrix of shape (rows, outputs) or Labels of shape (rows,)
        Numbers, or classes from 0 on.
    outputs : int
        Of the network; 1 for two classes means that the output is that of the second.
    smoothing : float
        Share of a class's target that is spread evenly over all classes.
    weights : Vector of shape (rows,) or None
        How much each row counts; their mean is 1.
    windows : Windows or None
        Which steps of `x` are the examples, one for each of `y`.
    """

    x: Matrix
    y: Matrix | Labels
    outputs: int
    smoothing: float = 0.0
    weights: Vector | None = None
    windows: Windows | None = None

    def __len__(self) -> int:
        """How many rows."""
        return len(self.y)

    @property
    def columns(self) -> int:
        """How many numbers a network is fed for an example, with the 1."""
        width = self.x.shape[1]
        return width if self.windows is None else self.windows.units(width) + 1

    def gather(self, rows: NDArray[np.intp], out: Matrix) -> None:
        """Write what a network is fed for some examples into ``out``, shape (rows, columns)."""
        if self.windows is None:
            # mode="clip" lets `take` write to `out` directly; every index is a row.
            np.take(self.x, rows, axis=0, out=out, mode="clip")
        else:
            self.windows.take(rows).gather(self.x, out)

    def part(self, begin: int, end: int) -> Matrix:
        """Return what a network is fed for consecutive examples; a view where there is one."""
        if self.windows is None:
            return self.x[begin:end]
        rows = np.arange(len(self))[begin:end]
        out = np.empty((len(rows), self.columns), dtype=self.x.dtype)
        self.gather(rows, out)
        return out

    def let_go(self) -> None:
        """Take no more memory for rows that were read: here there is no other place for them."""

    def targets(self, y: Matrix | Labels) -> Matrix:
        """Return what the network should answer for some rows, one a column.

        Parameters
        ----------
        y : of shape (…, rows, outputs), or (…, rows) for classes

        Returns
        -------
        Matrix of shape (…, outputs, rows)
        """
        if y.dtype.kind == "f":
            return cast(Matrix, y.mT)
        if self.outputs == 1:
            t = y[..., None, :].astype(self.x.dtype)
        else:
            t = np.equal(y[..., None, :], np.arange(self.outputs)[:, None]).astype(self.x.dtype)
        if self.smoothing > 0:
            t *= 1 - self.smoothing
            t += self.smoothing / max(self.outputs, 2)
        return t


Batch = tuple[Matrix, Matrix, Vector | None]
"""Rows of shape (batch, inputs + 1), targets of shape (outputs, batch), and weights."""


class Batches:
    """Batches of shuffled rows, gathered into memory that is used again and again.

    Parameters
    ----------
    examples : Examples
    batch_size : int
        Rows in a batch; the last of an epoch has what is left.
    """

    def __init__(self, examples: Examples, batch_size: int) -> None:
        self._examples, self._batch_size, self._rows = examples, batch_size, len(examples)
        x, y, weights = examples.x, examples.y, examples.weights
        row_bytes = x.itemsize * (examples.columns + examples.outputs)
        batches = max(1, BLOCK_BYTES // (row_bytes * batch_size))
        self._block_rows = block = min(batches * batch_size, len(examples))
        self._x = aligned_zeros((block, examples.columns), x.dtype)
        self._y = np.empty((block, *y.shape[1:]), dtype=y.dtype)
        self._weights = None if weights is None else np.empty(block, dtype=weights.dtype)
        self._all: Batch | None = None

    def __len__(self) -> int:
        """How many batches an epoch has."""
        return -(-self._rows // self._batch_size)

    def epoch(self, rng: np.random.Generator, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, each good until the next block is gathered.

        Parameters
        ----------
        rng : numpy.random.Generator
            Draws the order, unless all rows are one batch.
        start : int
            How many batches to pass over.
        """
        if len(self) == 1:
            return iter([self._whole()][start:])
        return self._shuffled(rng, start)

    def _shuffled(self, rng: np.random.Generator, start: int) -> Iterator[Batch]:
        return self._gather(rng.permutation(self._rows)[start * self._batch_size :])

    def _whole(self) -> Batch:
        """Return all rows in their order."""
        if self._all is None:
            examples = self._examples
            plain = examples.windows is None
            x = examples.x if plain else examples.part(0, len(examples))
            self._all = x, examples.targets(examples.y), examples.weights
        return self._all

    def _gather(self, order: NDArray[np.intp]) -> Iterator[Batch]:
        for start in range(0, len(order), self._block_rows):
            yield from self._block(order[start : start + self._block_rows])

    def _block(self, rows: NDArray[np.intp]) -> Iterator[Batch]:
        """Gather some rows, and cut them into batches."""
        examples, size = self._examples, self._batch_size
        x, y, weights = self._x[: len(rows)], self._y[: len(rows)], None
        examples.gather(rows, x)
        np.take(examples.y, rows, axis=0, out=y, mode="clip")
        if self._weights is not None and examples.weights is not None:
            weights = self._weights[: len(rows)]
            np.take(examples.weights, rows, out=weights, mode="clip")
        rest = len(rows) % size
        whole = slice(len(rows) - rest)
        yield from self._cut(x[whole], y[whole], None if weights is None else weights[whole], size)
        if rest > 0:
            last = slice(len(rows) - rest, None)
            yield from self._cut(x[last], y[last], None if weights is None else weights[last], rest)

    def _cut(
        self, x: Matrix, y: Matrix | Labels, weights: Vector | None, size: int
    ) -> Iterator[Batch]:
        """Cut rows into batches of one size."""
        many = len(x) // size
        targets = self._examples.targets(y.reshape(many, size, *y.shape[1:]))
        by_batch = repeat(None) if weights is None else weights.reshape(many, size)
        return zip(x.reshape(many, size, x.shape[1]), targets, by_batch, strict=False)


class StackedBatches:
    """Batches of several sets of examples side by side, as far as they are of one size in all.

    Parameters
    ----------
    examples : sequence of K Examples
        All with or all without weights, and with as many batches: if that is one, as many rows.
    batch_size : int
    """

    def __init__(self, examples: Sequence[Examples], batch_size: int) -> None:
        self._examples, self._batch_size = examples, batch_size
        k, x, y, weights = len(examples), examples[0].x, examples[0].y, examples[0].weights
        fewest, most = min(map(len, examples)), max(map(len, examples))
        self._rows = fewest if fewest == most else fewest // batch_size * batch_size
        columns = examples[0].columns
        row_bytes = k * x.itemsize * (columns + examples[0].outputs)
        batches = max(1, BLOCK_BYTES // (row_bytes * batch_size))
        self._block_rows = block = min(batches * batch_size, self._rows)
        self._x = aligned_zeros((k, block, columns), x.dtype)
        self._y = np.empty((k, block, *y.shape[1:]), dtype=y.dtype)
        self._weights = None if weights is None else np.empty((k, 1, block), weights.dtype)
        self._all: Batch | None = None

    def __len__(self) -> int:
        """How many batches of an epoch are of one size in all sets."""
        return -(-self._rows // self._batch_size)

    def epoch(self, seeds: Sequence[Sequence[int]], start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, each good until the next block is gathered.

        Shapes are (K, batch, inputs + 1), (K, outputs, batch), and (K, 1, batch) for weights.

        Parameters
        ----------
        seeds : sequence of K seeds
            What each set's order is drawn from, unless all its rows are one batch.
        start : int
            How many batches to pass over.
        """
        if max(map(len, self._examples)) <= self._batch_size:
            return iter([self._whole()][start:])
        orders = [
            np.random.default_rng(seed).permutation(len(examples))[: self._rows]
            for seed, examples in zip(seeds, self._examples, strict=True)
        ]
        return self._gather(np.stack(orders)[:, start * self._batch_size :])

    def _whole(self) -> Batch:
        """Return all rows in their order."""
        if self._all is None:
            in_order = np.tile(np.arange(self._rows), (len(self._examples), 1))
            self._all = next(self._block(in_order))
        return self._all

    def _gather(self, orders: NDArray[np.intp]) -> Iterator[Batch]:
        for start in range(0, orders.shape[1], self._block_rows):
            yield from self._block(orders[:, start : start + self._block_rows])

    def _block(self, orders: NDArray[np.intp]) -> Iterator[Batch]:
        """Gather some rows of every set, and cut them into batches."""
        rows, size = orders.shape[1], self._batch_size
        x, y, weights = self._x[:, :rows], self._y[:, :rows], None
        for k, (examples, order) in enumerate(zip(self._examples, orders, strict=True)):
            examples.gather(order, x[k])
            np.take(examples.y, order, axis=0, out=y[k], mode="clip")
            if self._weights is not None and examples.weights is not None:
                weights = self._weights[..., :rows]
                np.take(examples.weights, order, out=weights[k, 0], mode="clip")
        parts = [slice(i, min(i + size, rows)) for i in range(0, rows, size)]
        for part, t in zip(parts, self._targets(y, parts), strict=True):
            yield x[:, part], t, None if weights is None else weights[..., part]

    def _targets(self, y: Matrix | Labels, parts: list[slice]) -> list[Matrix]:
        """Return the targets of each batch; those of whole ones come from one call."""
        targets, size = self._examples[0].targets, self._batch_size
        whole = y.shape[1] // size
        together = y[:, : whole * size].reshape(len(y), whole, size, *y.shape[2:])
        rest = (targets(y[:, part]) for part in parts[whole:])
        return [*targets(together).swapaxes(0, 1), *rest]
