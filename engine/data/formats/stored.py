"""The kept table: one Arrow file, uncompressed, that training reads mapped into memory."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.data.formats.kinds import PIECE_ROWS
from engine.data.table import Column, ColumnType, Table
from engine.errors import DataError


def read_table(path: Path, columns: Sequence[str] | None = None) -> Table:
    """Read a kept Arrow file, or only the named columns of it."""
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
        return to_table(table.select(list(columns)) if columns is not None else table)


class StoredRows:
    """The rows of a kept Arrow file, read some at a time: what was read leaves memory again.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    rows : int
        How many there are.
    names : list of str
        Of the columns.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # Where a thread of Arrow's is refused memory, the process ends. And asked for some
        # fields only, it takes memory for all of them.
        options = pa.ipc.IpcReadOptions(use_threads=False)
        self._file = pa.ipc.open_file(pa.py_buffer(self._mapped), options=options)
        self.names: list[str] = self._file.schema.names
        self.rows = sum(batch.num_rows for batch in self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for position in range(self._file.num_record_batches):
            yield self._file.get_batch(position)

    def pieces(self, columns: Sequence[str], rows: int) -> Iterator[Table]:
        """Yield the named columns of all rows, at most ``rows`` at a time.

        What is yielded may lie in the mapped file.
        """
        for whole in self._batches():
            batch = whole.select(list(columns))
            for start in range(0, batch.num_rows, rows):
                yield to_table(pa.Table.from_batches([batch.slice(start, rows)]))
                self._mapped.madvise(mmap.MADV_DONTNEED)

    def take(self, rows: NDArray[np.intp], columns: Sequence[str]) -> Table:
        """Return some rows, which are to be ascending, of the named columns."""
        found: list[Column] = []
        begin = 0
        for piece in self.pieces(columns, PIECE_ROWS):
            first, last = np.searchsorted(rows, [begin, begin + piece.rows])
            found = found or [_empty(column, len(rows)) for column in piece.columns]
            for target, column in zip(found, piece.columns, strict=True):
                target.values[first:last] = column.values[rows[first:last] - begin]
            begin += piece.rows
            if last == len(rows):
                break
        return Table(tuple(found))

    def table(self, columns: Sequence[str]) -> Table:
        """Return all rows of the named columns."""
        return self.take(np.arange(self.rows), columns)


def _empty(column: Column, rows: int) -> Column:
    """Return a column like another, with so many rows to be filled."""
    return replace(column, values=np.empty((rows, *column.shape), column.values.dtype))


def read_pieces(path: Path, columns: Sequence[int] | None = None) -> Iterator[pa.RecordBatch]:
    """Read an Arrow file piece by piece, or only some columns of it by position."""
    options = pa.ipc.IpcReadOptions(included_fields=None if columns is None else list(columns))
    with pa.OSFile(str(path)) as source:
        reader = pa.ipc.open_file(source, options=options)
        for position in range(reader.num_record_batches):
            yield reader.get_batch(position)


def first_rows(path: Path, limit: int) -> list[dict[str, Any]]:
    """Return the first rows of a kept Arrow file as JSON-ready dicts."""
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        batches = []
        missing = limit
        for position in range(reader.num_record_batches):
            batches.append(reader.get_batch(position).slice(0, missing))
            missing -= batches[-1].num_rows
            if missing <= 0:
                break
        table = pa.Table.from_batches(batches, reader.schema)
        columns = {
            field.name: _json_values(field, table.column(field.name)) for field in table.schema
        }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _json_values(field: pa.Field, column: pa.ChunkedArray) -> list[Any]:
    if words := _words(field):
        return [None if value is None else words[value] for value in column.to_pylist()]
    if isinstance(column.type, pa.FixedShapeTensorType):
        return list(_tensor_values(column).tolist())
    if pa.types.is_temporal(column.type):
        texts = np.datetime_as_string(_timestamps(column))
        return [None if text == "NaT" else f"{text}Z" for text in texts]
    return list(column.to_pylist())


def _timestamps(column: pa.ChunkedArray) -> NDArray[np.datetime64]:
    """Return datetime64[us], NaT where missing; what is finer is cut off."""
    return np.asarray(pc.cast(column, pa.timestamp("us"), safe=False).to_numpy())


def to_table(table: pa.Table) -> Table:
    """Return what Arrow holds as columns of NumPy arrays."""
    return Table(tuple(_to_column(field, table.column(field.name)) for field in table.schema))


WORDS = b"words"
"""Of a field of booleans in words: the two words, as JSON."""


def words_kept(words: tuple[str, str] | None) -> dict[bytes, bytes] | None:
    """Return what a field tells of the words for false and true."""
    return None if words is None else {WORDS: json.dumps(words).encode()}


def _words(field: pa.Field) -> tuple[str, ...]:
    """Return the words for false and true, if they are others."""
    return tuple(json.loads((field.metadata or {}).get(WORDS, b"[]")))


def _to_column(field: pa.Field, column: pa.ChunkedArray) -> Column:
    name, kind = field.name, column.type
    if isinstance(kind, pa.FixedShapeTensorType):
        return Column(name, "tensor", _tensor_values(column))
    if pa.types.is_dictionary(kind):
        codes = column.combine_chunks()
        levels = tuple(codes.dictionary.to_pylist())
        values = codes.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return Column(name, "category", values.astype(np.int32, copy=False), levels)
    if pa.types.is_string(kind):
        return Column(name, "text", column.to_numpy())
    if pa.types.is_temporal(kind):
        return Column(name, "timestamp", _timestamps(column))
    return Column(name, _number_type(name, kind), _numbers(column), _words(field))


def _number_type(name: str, kind: pa.DataType) -> ColumnType:
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_floating(kind) or pa.types.is_null(kind):
        return "number"
    raise DataError(f"column {name!r} has the type {kind}, which is not known here")


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Return float64 values, NaN where missing.

    Arrow refuses to cast an integer that float64 cannot hold; such a column is
    rounded, as reading it as a number would.
    """
    return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _tensor_values(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return the numbers where they are, which is in the mapped file, if they lie in one piece."""
    whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return np.asarray(whole.to_numpy_ndarray())
