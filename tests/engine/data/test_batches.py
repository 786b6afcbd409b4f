"""Batches: every row once an epoch, in an order that the seed decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data import batches
from engine.data.batches import Batches as _Batches
from engine.data.batches import Examples, StackedBatches

ROWS, SIZES, SEEDS = st.integers(1, 50), st.integers(1, 60), st.integers(0, 2**32 - 1)


def Batches(x, y, size):  # noqa: N802 - stands in for the class
    """Batches of rows that say their number, and of targets that are numbers."""
    y = y if y.ndim > 1 else y[:, None].astype(x.dtype)
    return _Batches(Examples(x, y, y.shape[1]), size)


def epoch(of, seed=0, start=0):
    """The batches of an epoch, each copied before the next one is asked for."""
    return [
        (x.copy(), y[0].astype(int) if len(y) == 1 else y.T.copy())
        for x, y, _ in of.epoch(np.random.default_rng(seed), start)
    ]


def numbered(rows):
    """Rows that say their number twice, and targets that say it once."""
    numbers = np.arange(rows)
    return np.stack([numbers, numbers], axis=1).astype(np.float32), numbers


@given(rows=ROWS, size=SIZES, seed=SEEDS)
def test_each_row_comes_exactly_once_with_its_own_target(rows, size, seed):
    parts = epoch(Batches(*numbered(rows), size), seed)
    x, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    assert sorted(y) == list(range(rows))
    np.testing.assert_array_equal(x, np.stack([y, y], axis=1))


@given(rows=ROWS, size=SIZES)
def test_all_batches_are_full_but_the_last_one_which_has_what_is_left(rows, size):
    of = Batches(*numbered(rows), size)
    sizes = [len(x) for x, _ in epoch(of)]
    assert len(sizes) == len(of)
    assert sizes[:-1] == [size] * (len(sizes) - 1)
    assert sizes[-1] == rows - size * (len(sizes) - 1) > 0


@given(rows=ROWS, size=SIZES, seed=SEEDS, data=st.data())
def test_start_passes_over_exactly_so_many_batches(rows, size, seed, data):
    of = Batches(*numbered(rows), size)
    whole = epoch(of, seed)
    start = data.draw(st.integers(0, len(whole)))
    rest = epoch(of, seed, start)
    assert [y.tolist() for _, y in rest] == [y.tolist() for _, y in whole[start:]]
    assert [x.tolist() for x, _ in rest] == [x.tolist() for x, _ in whole[start:]]


@given(rows=ROWS, size=SIZES, block_bytes=st.integers(1, 400), seed=SEEDS)
def test_how_many_rows_are_gathered_at_once_changes_nothing(rows, size, block_bytes, seed):
    expected = epoch(Batches(*numbered(rows), size), seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "BLOCK_BYTES", block_bytes)
        got = epoch(Batches(*numbered(rows), size), seed)
    assert [y.tolist() for _, y in got] == [y.tolist() for _, y in expected]


def test_the_seed_decides_the_order():
    of = Batches(*numbered(30), 7)
    orders = [np.concatenate([y for _, y in epoch(of, seed)]).tolist() for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])


def test_one_batch_of_all_rows_is_neither_shuffled_nor_copied():
    x, y = numbered(5)
    [(batch, targets, weights)] = Batches(x, y, 5).epoch(np.random.default_rng(0))
    assert batch is x
    assert targets.tolist() == [y.tolist()]
    assert weights is None
    assert epoch(Batches(x, y, 9), start=1) == []


def test_the_rows_themselves_stay_as_they_are():
    x, y = numbered(20)
    epoch(Batches(x, y, 3))
    np.testing.assert_array_equal(x, numbered(20)[0])
    np.testing.assert_array_equal(y, numbered(20)[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batches_have_the_types_and_shapes_of_the_rows(dtype):
    x, y = np.ones((9, 4), dtype=dtype), np.ones((9, 2), dtype=dtype)
    for batch, targets in epoch(Batches(x, y, 4)):
        assert batch.dtype == targets.dtype == dtype
        assert (batch.shape[1:], targets.shape[1:]) == ((4,), (2,))
        assert batch.flags.c_contiguous


@given(rows=ROWS, size=SIZES, seed=SEEDS, smoothing=st.sampled_from([0.0, 0.25]))
def test_classes_come_as_columns_that_are_one_at_the_class(rows, size, seed, smoothing):
    rng = np.random.default_rng(seed)
    labels, weights = rng.integers(0, 4, rows), rng.random(rows)
    x = np.stack([labels, weights], axis=1)
    for rows_of, t, w in _Batches(Examples(x, labels, 4, smoothing, weights), size).epoch(rng):
        assert t.argmax(axis=0).tolist() == rows_of[:, 0].tolist()
        np.testing.assert_allclose(t.max(axis=0), 1 - smoothing + smoothing / 4)
        np.testing.assert_allclose(t.sum(axis=0), 1)
        np.testing.assert_array_equal(w, rows_of[:, 1])


def test_two_classes_can_be_one_output():
    labels = np.array([0, 1, 1])
    [(_, t, _)] = _Batches(Examples(np.ones((3, 2)), labels, 1, 0.2), 3).epoch(
        np.random.default_rng(0)
    )
    np.testing.assert_allclose(t, [[0.1, 0.9, 0.9]])


@pytest.mark.parametrize("block_bytes", [1, 500, 2**20])
@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    full=st.integers(0, 4),
    size=st.integers(1, 9),
    classes=st.booleans(),
    weighted=st.booleans(),
    data=st.data(),
)
def test_stacked_batches_are_those_of_each_set_as_far_as_they_are_of_one_size(
    block_bytes, sizes, full, size, classes, weighted, data
):
    sizes = sizes if full else sizes[:1] * len(sizes)
    sets = [_drawn(full * size + min(more, size), classes, weighted) for more in sizes]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(batches, "BLOCK_BYTES", block_bytes)
        stacked, singles = StackedBatches(sets, size), [_Batches(one, size) for one in sets]
    start = data.draw(st.integers(0, len(stacked)))
    seeds = [[seed, 3] for seed in range(len(sets))]
    together = [
        (x.copy(), t.copy(), None if weights is None else weights.copy())
        for x, t, weights in stacked.epoch(seeds, start)
    ]
    assert len(stacked) - start == len(together)
    assert full <= len(stacked) <= len(singles[0])
    for k, (single, seed) in enumerate(zip(singles, seeds, strict=True)):
        own = single.epoch(np.random.default_rng(seed), start)
        for (x, t, weights), expected in zip(together, own, strict=False):
            np.testing.assert_array_equal(x[k], expected[0])
            np.testing.assert_array_equal(t[k], expected[1])
            if weighted:
                np.testing.assert_array_equal(weights[k, 0], expected[2])
            else:
                assert weights is None


def _drawn(rows, classes, weighted):
    """Examples of which no two are alike."""
    rng = np.random.default_rng(rows)
    y = rng.integers(0, 3, rows) if classes else rng.random((rows, 2))
    weights = rng.random(rows) if weighted else None
    return Examples(rng.random((rows, 3)), y, 3 if classes else 2, 0.1 * classes, weights)
