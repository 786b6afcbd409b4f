"""Arrays: the types that the engine computes with, and the memory that it computes in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Vector = NDArray[np.floating[Any]]
Matrix = NDArray[np.floating[Any]]
Labels = NDArray[np.intp]

Backward = Callable[[Matrix], Matrix | None]
"""From the gradient at an output to the gradient at the input; None where nothing below learns."""

ALIGNMENT_BYTES = 64
"""A cache line, and the width of the widest vector register."""


def aligned_zeros(size: int, dtype: DTypeLike) -> Vector:
    """Return ``size`` zeros whose memory starts at a multiple of 64 bytes."""
    size_bytes = size * np.dtype(dtype).itemsize
    memory = np.zeros(size_bytes + ALIGNMENT_BYTES, dtype=np.uint8)
    start = -memory.ctypes.data % ALIGNMENT_BYTES
    return memory[start : start + size_bytes].view(dtype)


class Workspace:
    """The arrays that a pass writes to: new ones at first, then the same ones again.

    A pass asks for its arrays in the same order every time, so after `rewind`
    it is handed those of the pass before, and training allocates nothing. Each
    batch size needs a workspace of its own, and so does each thread.

    Parameters
    ----------
    dtype : dtype
        Of every array.
    rng : numpy.random.Generator, optional
        Where dropout draws from. Without one the pass is a prediction, and nothing is dropped.
    """

    def __init__(self, dtype: DTypeLike, rng: np.random.Generator | None = None) -> None:
        self.dtype, self.rng = np.dtype(dtype), rng
        self._arrays: list[Matrix] = []
        self._handed_out = 0

    def rewind(self) -> None:
        """Begin the next pass."""
        self._handed_out = 0

    def array(self, *shape: int) -> Matrix:
        """Hand out the next array; what it holds is left over."""
        if self._handed_out == len(self._arrays):
            size = int(np.prod(shape, dtype=np.intp))
            self._arrays.append(aligned_zeros(size, self.dtype).reshape(shape))
        array = self._arrays[self._handed_out]
        self._handed_out += 1
        return array

    def ones(self, size: int) -> Vector:
        """Hand out a vector of ones."""
        ones = self.array(size)
        ones.fill(1)
        return ones
