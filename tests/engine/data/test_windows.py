"""Windows: what a network is fed of each, however many are asked for at a time."""

from __future__ import annotations

import numpy as np
import pytest

from engine.data import windows as windows_module
from engine.data.batches import Batches, Examples, StackedBatches
from engine.data.windows import Windows

ROWS = np.array([[1, 10], [2, 20], [3, 30], [4, 40], [0, 0], [0, 0], [0, 0]], dtype=np.float32)
"""Four rows, and what is behind them."""


def laid_out(windows, rows=ROWS):
    out = np.full((len(windows), windows.units(rows.shape[1]) + 1), np.nan, dtype=rows.dtype)
    windows.gather(rows, out)
    return out.tolist()


def test_a_window_is_its_rows_one_after_another_and_a_one():
    found = laid_out(Windows(np.array([2, 0]), steps=2))
    assert found == [[3, 30, 4, 40, 1], [1, 10, 2, 20, 1]]


def test_a_shorter_series_ends_in_zeros_and_the_mask_says_what_is_there():
    of = Windows.of([1, 3], 3, masked=True)
    assert laid_out(of) == [
        [1, 10, 0, 0, 0, 0, 1, 0, 0, 1],
        [2, 20, 3, 30, 4, 40, 1, 1, 1, 1],
    ]
    assert laid_out(of.take(np.array([1]))) == [[2, 20, 3, 30, 4, 40, 1, 1, 1, 1]]
    assert of.ends.tolist() == [1, 4]


def test_blocks_make_no_difference(monkeypatch):
    rng = np.random.default_rng(0)
    rows = rng.random((60, 3))
    of = Windows(rng.integers(0, 50, 40), 10, rng.integers(1, 11, 40))
    whole = laid_out(of, rows)
    monkeypatch.setattr(windows_module, "BLOCK_BYTES", 1)
    assert laid_out(of, rows) == whole


def examples(count, masked, seed=0):
    """Examples whose target says where they begin."""
    rng = np.random.default_rng(seed)
    starts, lengths = rng.permutation(count), rng.integers(1, 5, count)
    of = Windows(starts, 4, lengths if masked else None)
    x = rng.random((count + 4, 2)).astype(np.float32)
    return Examples(x, starts[:, None].astype(np.float32), 1, windows=of), np.array(laid_out(of, x))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [7, 20, 50])
def test_every_window_comes_once_an_epoch_with_its_target(masked, size):
    these, whole = examples(20, masked)
    place = {start: row for row, start in enumerate(these.windows.starts)}
    seen = []
    for x, t, _ in Batches(these, size).epoch(np.random.default_rng(1)):
        seen += t[0].astype(int).tolist()
        np.testing.assert_array_equal(x, whole[[place[start] for start in t[0]]])
    assert sorted(seen) == list(range(20))
    np.testing.assert_array_equal(these.part(5, 12), whole[5:12])


def test_a_stack_is_fed_what_each_member_would_be_alone():
    pair, seeds = [examples(20, masked=True, seed=seed)[0] for seed in (1, 2)], [[3], [4]]
    singles = [
        Batches(one, 6).epoch(np.random.default_rng(seed))
        for one, seed in zip(pair, seeds, strict=True)
    ]
    together = list(StackedBatches(pair, 6).epoch(seeds))
    assert len(together) == 4
    for x, t, _ in together:
        for k, single in enumerate(singles):
            own_x, own_t, _ = next(single)
            np.testing.assert_array_equal(x[k], own_x)
            np.testing.assert_array_equal(t[k], own_t)
