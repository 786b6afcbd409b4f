"""Arrays: the types that the engine computes with, and memory that starts at a cache line."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Vector = NDArray[np.floating[Any]]
Matrix = NDArray[np.floating[Any]]
Tensor = NDArray[np.floating[Any]]
Labels = NDArray[np.intp]

Shape = tuple[int, ...]

ALIGNMENT_BYTES = 64
"""A cache line, and the width of the widest vector register."""


def bits(tensor: Tensor) -> NDArray[Any]:
    """Return a view of the same memory, in which the bits of every number are a signed integer."""
    return tensor.view(f"i{tensor.itemsize}")


def aligned_zeros(shape: int | Shape, dtype: DTypeLike) -> Tensor:
    """Return zeros whose memory starts at a multiple of 64 bytes."""
    size_bytes = int(np.prod(shape, dtype=np.intp)) * np.dtype(dtype).itemsize
    memory = np.zeros(size_bytes + ALIGNMENT_BYTES, dtype=np.uint8)
    start = -memory.ctypes.data % ALIGNMENT_BYTES
    return memory[start : start + size_bytes].view(dtype).reshape(shape)


LONG_SUM = 384
SMALL_PRODUCT = 1_000_000
FEW_COLUMNS = 16
"""OpenBLAS adds a sum of more numbers in parts, but not in a product of fewer multiply-adds; and
one row times few columns, or not a multiple of so many, in an order of its own. Measured on 0.3.31
with its SkylakeX kernels."""


def least_columns(rows: int, inner: int) -> int:
    """Return from how many columns on each column of a product is added as among any others.

    Parameters
    ----------
    rows, inner : int
        The product is (rows, inner) by (inner, columns).
    """
    if rows == 1:
        return FEW_COLUMNS
    return SMALL_PRODUCT // (rows * inner) + 1 if inner > LONG_SUM else 2
