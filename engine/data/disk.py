"""Rows on disk: encoded once into a file without a name, and read from there in every epoch.

A training takes as much memory for many rows as for few. What is gathered at random is first read
into memory of our own: of a file that is mapped, the kernel shows up to 2 MiB around every row.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.arrays import Matrix
from engine.data.batches import Batch, Batches, Examples
from engine.errors import NoRoomError

WINDOW_BYTES, WINDOW_ROWS = 2**24, 2**20
"""Rows are shuffled within windows of no more than these, but of a whole batch at least."""

BLOCKS_A_WINDOW = 128
"""A window is put together from so many places: each gives it a block of rows that lie together."""

Stretch = tuple[int, int]
"""Rows that lie together, from the first to before the last."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class RowFile:
    """A matrix on disk, written some rows at a time.

    The file has no name: however the process ends, it is gone with it.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    rows, columns : int
    dtype : dtype

    Raises
    ------
    NoRoomError
        Here and not while writing, for the room is taken at once.
    """

    def __init__(self, folder: Path, rows: int, columns: int, dtype: np.dtype[Any]) -> None:
        self._shape, self._dtype, self._folder = (rows, columns), dtype, folder
        self._bytes = rows * columns * dtype.itemsize
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < self._bytes:
            raise NoRoomError(self._bytes, free)
        with self._telling():
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open while this is there
            weakref.finalize(self, self._file.close)
            os.posix_fallocate(self._file.fileno(), 0, self._bytes)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            free = shutil.disk_usage(self._folder).free
            raise NoRoomError(self._bytes, free) from error

    @property
    def _row_bytes(self) -> int:
        return self._shape[1] * self._dtype.itemsize

    def write(self, first: int, rows: Matrix) -> None:
        """Write consecutive rows, of which ``first`` is the first."""
        with self._telling():
            self._file.seek(first * self._row_bytes)
            self._file.write(rows.data)
            self._file.flush()

    def fetch(self, rows: Stretch) -> None:
        """Have the disk begin to read some rows."""
        begin, end = (row * self._row_bytes for row in rows)
        os.posix_fadvise(self._file.fileno(), begin, end - begin, os.POSIX_FADV_WILLNEED)

    def read(self, rows: Stretch, out: Matrix) -> None:
        """Read some rows."""
        self._file.seek(rows[0] * self._row_bytes)
        self._file.readinto(out.data)

    @cached_property
    def _mapped(self) -> mmap.mmap:
        return mmap.mmap(self._file.fileno(), self._bytes, access=mmap.ACCESS_READ)

    @property
    def matrix(self) -> Matrix:
        """All rows, mapped into memory."""
        return np.frombuffer(self._mapped, self._dtype).reshape(self._shape)

    def let_go(self) -> None:
        """Take no more memory for what was looked at of the matrix."""
        self._mapped.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class DiskExamples(Examples):
    """Examples that lie on disk.

    Parameters
    ----------
    file : RowFile
        Its matrix begins with ``x``, or with that of others.
    """

    file: RowFile = field(kw_only=True)

    def let_go(self) -> None:
        """Take no more memory for rows that were read."""
        self.file.let_go()


class DiskBatches(Batches):
    """Batches of rows on disk, in an order that reads it in long stretches.

    Blocks of rows come in random order, and within a window of many blocks
    the rows do. Deviation from a shuffle of all rows: those of one block stay
    within one window.

    Parameters
    ----------
    examples : DiskExamples
    batch_size : int
    """

    def __init__(self, examples: DiskExamples, batch_size: int) -> None:
        super().__init__(examples, batch_size)
        self._on_disk, x = examples, examples.x
        window = min(WINDOW_BYTES // x.strides[0], WINDOW_ROWS)
        self._batches_a_window = max(1, window // batch_size)
        self._rows_a_block = max(1, window // BLOCKS_A_WINDOW)
        most = min(self._batches_a_window * batch_size, len(examples))
        self._window = np.empty((most if len(self) > 1 else 0, x.shape[1]), x.dtype)

    def _shuffled(self, rng: np.random.Generator, start: int) -> Iterator[Batch]:
        examples = self._on_disk
        first, passed = divmod(start, self._batches_a_window)
        blocks = rng.permutation(-(-len(examples) // self._rows_a_block))
        shuffles = rng.spawn(-(-len(self) // self._batches_a_window))[first:]
        windows = islice(self._windows(blocks), first, None)
        for shuffle, (window, after) in zip(shuffles, pairwise(chain(windows, [[]])), strict=True):
            self._examples = self._read(window)
            for rows in after:
                examples.file.fetch(rows)
            order = shuffle.permutation(len(self._examples))
            yield from self._gather(order[passed * self._batch_size :])
            passed = 0

    def _read(self, window: list[Stretch]) -> Examples:
        """Return the rows of a window, good until the next one is read."""
        examples, end = self._on_disk, 0
        for begin, after in window:
            start, end = end, end + after - begin
            examples.file.read((begin, after), self._window[start:end])
        rows = np.concatenate([np.arange(*stretch) for stretch in window])
        weights = None if examples.weights is None else examples.weights[rows]
        x, y = self._window[:end], examples.y[rows]
        return Examples(x, y, examples.outputs, examples.smoothing, weights)

    def _windows(self, blocks: NDArray[np.intp]) -> Iterator[list[Stretch]]:
        """Cut blocks into windows of whole batches, but for the last."""
        most = room = self._batches_a_window * self._batch_size
        window: list[Stretch] = []
        for block in blocks.tolist():
            begin = block * self._rows_a_block
            end = min(begin + self._rows_a_block, len(self._on_disk))
            while begin < end:
                taken = min(end - begin, room)
                window.append((begin, begin + taken))
                begin, room = begin + taken, room - taken
                if room == 0:
                    yield window
                    window, room = [], most
        if window:
            yield window


def batches_of(examples: Examples, batch_size: int) -> Batches:
    """Return what yields the examples in batches, wherever they are."""
    if isinstance(examples, DiskExamples):
        return DiskBatches(examples, batch_size)
    return Batches(examples, batch_size)
