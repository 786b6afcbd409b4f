"""Windows: examples of several steps each, cut out of rows that are kept but once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from engine.arrays import Matrix

BLOCK_BYTES = 2**20
"""Windows are copied in blocks of about this size, so that what is there twice stays small."""

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Windows:
    """Examples, each of consecutive rows.

    Parameters
    ----------
    starts : Rows of shape (examples,)
        The first row of each.
    steps : int
        How many rows a network is fed of each.
    lengths : Rows of shape (examples,) or None
        How many of these are its own, where the others are padding and a mask says so.
    """

    starts: Rows
    steps: int
    lengths: Rows | None = None

    @classmethod
    def of(cls, lengths: Sequence[int], steps: int, *, masked: bool) -> Windows:
        """Return examples that follow on each other, of so many rows each."""
        rows = np.asarray(lengths, dtype=np.intp)
        return cls(np.cumsum(rows) - rows, steps, rows if masked else None)

    def __len__(self) -> int:
        """How many examples."""
        return len(self.starts)

    def take(self, which: Rows) -> Windows:
        """Return some of them."""
        lengths = None if self.lengths is None else self.lengths[which]
        return Windows(self.starts[which], self.steps, lengths)

    @property
    def ends(self) -> Rows:
        """The row after the last of each."""
        return self.starts + (self.steps if self.lengths is None else self.lengths)

    def units(self, width: int) -> int:
        """Return how many numbers an example is, where a row is ``width``."""
        return self.steps * (width + (self.lengths is not None))

    def gather(self, rows: Matrix, out: Matrix) -> None:
        """Write the examples as a network is fed them.

        Parameters
        ----------
        rows : Matrix of shape (rows, width)
            C-contiguous; at least ``steps`` from every start on.
        out : Matrix of shape (examples, units + 1)
            The numbers of each step one after another, 0 where it is padding; then, with
            `lengths`, 1 for each step that is there and 0 for each that is not; and a 1.
        """
        numbers = self.steps * rows.shape[1]
        runs = sliding_window_view(rows.reshape(-1), numbers)[:: rows.shape[1]]
        block = max(1, BLOCK_BYTES // (rows.itemsize * numbers))
        for first in range(0, len(self), block):
            part = slice(first, first + block)
            out[part, :numbers] = runs[self.starts[part]]
            if self.lengths is not None:
                mask = np.arange(self.steps) < self.lengths[part, None]
                out[part, numbers:-1] = mask
                out[part, :numbers] *= mask.repeat(rows.shape[1], axis=1)
        out[:, -1] = 1
