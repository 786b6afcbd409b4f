"""Rows on disk come in batches as those in memory do, and the file goes with the process."""

from __future__ import annotations

import os
import resource
import signal
from multiprocessing import get_context

import numpy as np
import pytest

from engine.data import disk
from engine.data.disk import DiskBatches, DiskExamples, RowFile
from engine.errors import NoRoomError

ROWS, COLUMNS = 1000, 4
ROW_BYTES = COLUMNS * 4


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """Rows that say their number, in windows of 128 rows out of 32 places."""
    monkeypatch.setattr(disk, "WINDOW_BYTES", 128 * ROW_BYTES)
    monkeypatch.setattr(disk, "BLOCKS_A_WINDOW", 32)
    x = np.arange(ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS)
    file = RowFile(tmp_path, ROWS, COLUMNS, x.dtype)
    for start in range(0, ROWS, 300):
        file.write(start, x[start : start + 300])
    y, weights = np.arange(ROWS) % 3, np.arange(ROWS, dtype=np.float32)
    return DiskExamples(file.matrix, y, 3, weights=weights, file=file)


def epoch(examples, batch_size, seed=0, start=0):
    """The numbers of the rows of each batch; their targets and weights belong to them."""
    batches = []
    for x, targets, weights in DiskBatches(examples, batch_size).epoch(
        np.random.default_rng(seed), start
    ):
        rows = (x[:, 0] / COLUMNS).astype(int)
        np.testing.assert_array_equal(x, examples.x[rows])
        np.testing.assert_array_equal(targets.argmax(axis=0), rows % 3)
        np.testing.assert_array_equal(weights, rows)
        batches.append(rows.tolist())
    return batches


@pytest.mark.parametrize("batch_size", [1, 7, 32, 100, 128, 500, 999])
def test_every_row_comes_once_an_epoch(examples, batch_size):
    batches = epoch(examples, batch_size)
    assert sorted(row for batch in batches for row in batch) == list(range(ROWS))
    assert {len(batch) for batch in batches[:-1]} == {batch_size}
    assert len(batches) == len(DiskBatches(examples, batch_size))


def test_all_rows_in_one_batch_come_in_their_order(examples):
    assert epoch(examples, ROWS) == [list(range(ROWS))]


def test_the_order_is_that_of_the_seed(examples):
    assert epoch(examples, 32) == epoch(examples, 32)
    assert epoch(examples, 32) != epoch(examples, 32, seed=1)


@pytest.mark.parametrize("batch_size", [7, 32, 500])
def test_an_epoch_is_entered_at_any_batch(examples, batch_size):
    whole = epoch(examples, batch_size)
    for start in range(0, len(whole) + 1, max(1, len(whole) // 10)):
        assert epoch(examples, batch_size, start=start) == whole[start:]


def test_epochs_of_one_training_follow_on_each_other(examples):
    batches = DiskBatches(examples, 32)
    first, second = (
        [x[:, 0].tolist() for x, _, _ in batches.epoch(np.random.default_rng(seed))]
        for seed in (0, 0)
    )
    assert first == second


def test_a_batch_comes_from_all_over_the_file(examples):
    spreads = [np.ptp(batch) for batch in epoch(examples, 32)[:-1]]
    assert min(spreads) > ROWS / 2


def test_the_file_has_no_name(tmp_path):
    folder = tmp_path / "scratch"
    file = RowFile(folder, ROWS, COLUMNS, np.dtype(np.float32))
    assert list(folder.iterdir()) == []
    assert len(file.matrix) == ROWS


def test_a_file_goes_with_a_process_that_is_killed(tmp_path):
    child = get_context("fork").Process(target=_write_and_die, args=[tmp_path])
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def _write_and_die(folder):
    file = RowFile(folder, ROWS, COLUMNS, np.dtype(np.float32))
    file.write(0, np.ones((ROWS, COLUMNS), dtype=np.float32))
    os.kill(os.getpid(), signal.SIGKILL)


def test_rows_that_the_disk_has_no_room_for_are_refused_before_any_is_written(tmp_path):
    with pytest.raises(NoRoomError, match="the rows take 4,503,599,627,370,496 bytes of disk, "):
        RowFile(tmp_path, 2**40, 2**10, np.dtype(np.float32))


def test_rows_that_a_limit_has_no_room_for_are_refused_before_any_is_written(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROWS * ROW_BYTES - 1, hard))
    try:
        with pytest.raises(NoRoomError):
            RowFile(tmp_path, ROWS, COLUMNS, np.dtype(np.float32))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
