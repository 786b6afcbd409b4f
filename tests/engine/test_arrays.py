"""The memory that a pass computes in."""

from __future__ import annotations

import numpy as np
import pytest

from engine.arrays import ALIGNMENT_BYTES, Workspace, aligned_zeros


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_memory_starts_at_a_cache_line(size, dtype):
    vectors = [aligned_zeros(size, dtype) for _ in range(8)]
    assert all(vector.ctypes.data % ALIGNMENT_BYTES == 0 for vector in vectors)
    assert all(vector.shape == (size,) and vector.dtype == dtype for vector in vectors)
    assert not np.concatenate(vectors).any()


def test_a_pass_is_handed_the_arrays_of_the_pass_before():
    workspace = Workspace(np.float32)
    first = [workspace.array(2, 3), workspace.array(5)]
    workspace.rewind()
    again = [workspace.array(2, 3), workspace.array(5)]
    assert all(a is b for a, b in zip(first, again, strict=True))
    assert [array.shape for array in again] == [(2, 3), (5,)]


def test_within_a_pass_no_array_is_handed_out_twice():
    workspace = Workspace(np.float64)
    arrays = [workspace.array(4) for _ in range(3)]
    for number, array in enumerate(arrays):
        array.fill(number)
    assert [array[0] for array in arrays] == [0, 1, 2]


def test_ones_are_ones_again_after_someone_wrote_to_them():
    workspace = Workspace(np.float32)
    workspace.ones(3).fill(7)
    workspace.rewind()
    assert workspace.ones(3).tolist() == [1, 1, 1]


def test_arrays_have_the_type_of_the_workspace():
    assert Workspace("float32").array(1).dtype == np.float32
    assert Workspace("float64").ones(1).dtype == np.float64
