"""The memory that a pass computes in."""

from __future__ import annotations

import numpy as np
import pytest

from engine.arrays import ALIGNMENT_BYTES, aligned_zeros


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_memory_starts_at_a_cache_line(size, dtype):
    vectors = [aligned_zeros(size, dtype) for _ in range(8)]
    assert all(vector.ctypes.data % ALIGNMENT_BYTES == 0 for vector in vectors)
    assert all(vector.shape == (size,) and vector.dtype == dtype for vector in vectors)
    assert not np.concatenate(vectors).any()
