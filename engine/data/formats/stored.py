"""The kept table: one Arrow file, uncompressed, that training reads mapped into memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.data.table import Column, ColumnType, Table
from engine.errors import DataError


def read_table(path: Path, columns: Sequence[str] | None = None) -> Table:
    """Read a kept Arrow file, or only the named columns of it."""
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
        return to_table(table.select(list(columns)) if columns is not None else table)


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
