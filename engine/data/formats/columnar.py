"""Parquet and Arrow: files in columns, whose types are told, and checked before they are read."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine.data.formats.compression import check_expansion
from engine.data.formats.kinds import PIECE_CELLS, PIECE_ROWS, Limits, Piece, Source, numbered
from engine.data.formats.messages import unpacked_sizes
from engine.data.formats.names import check_cells, check_names
from engine.errors import FormatError

MAGIC = b"ARROW1"
"""How an Arrow file begins; a stream has nothing of the kind."""


def open_parquet(path: Path, limits: Limits) -> Source:
    """Open a Parquet file; refuse by its metadata what would not fit."""
    with _explained("Parquet"), pq.ParquetFile(path) as file:
        told, schema = file.metadata, file.schema_arrow
        names = schema.names  # which may be no text
    check_names(names)
    _check_types(schema)
    _check_rows(told.num_rows)
    check_cells(told.num_rows * len(schema), limits.cells)
    unpacked = sum(told.row_group(i).total_byte_size for i in range(told.num_row_groups))
    check_expansion(unpacked, path.stat().st_size, limits)
    return Source(schema, lambda: _parquet_pieces(path, schema), again=True)


def _parquet_pieces(path: Path, schema: pa.Schema) -> Iterator[Piece]:
    rows = max(1, min(PIECE_ROWS, PIECE_CELLS // len(schema)))
    texts = [field.name for field in schema if _is_text(field.type)]
    with _explained("Parquet"):
        file = pq.ParquetFile(path, read_dictionary=texts, buffer_size=PIECE_ROWS)
        with file:
            batches = file.iter_batches(batch_size=rows, use_threads=False)
            yield from _numbered(_validated(batches))


def open_arrow(path: Path, limits: Limits) -> Source:
    """Open a file or a stream of Arrow's; refuse by its messages what would not fit."""
    unpacked = 0
    with _explained("Arrow"), pa.memory_map(str(path)) as source:
        if _is_file(path):
            pa.ipc.open_file(source)  # whether its end is there; what it says is not followed
        for size in unpacked_sizes(_begun(source, path)):
            unpacked += size
            check_expansion(unpacked, path.stat().st_size, limits)
        schema = pa.ipc.open_stream(_begun(source, path)).schema
        names = schema.names  # which may be no text
    check_names(names)
    _check_types(schema)
    return Source(schema, lambda: _arrow_pieces(path, limits), again=True)


def _arrow_pieces(path: Path, limits: Limits) -> Iterator[Piece]:
    with _explained("Arrow"), pa.memory_map(str(path)) as source:

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in _validated(pa.ipc.open_stream(_begun(source, path))):
                check_cells(batch.num_rows * batch.num_columns, limits.cells)
                rows = max(1, min(PIECE_ROWS, PIECE_CELLS // len(batch.schema)))
                for start in range(0, batch.num_rows, rows):
                    yield batch.slice(start, rows)

        yield from _numbered(batches())


def _begun(source: pa.NativeFile, path: Path) -> pa.NativeFile:
    """Return where the messages begin: in a file as in a stream, but for what stands before."""
    source.seek(len(MAGIC) + 2 if _is_file(path) else 0)
    return source


def _is_file(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _validated(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Refuse what Arrow takes on trust, such as strings that are no text."""
    for batch in batches:
        batch.validate(full=True)
        yield batch


def _numbered(batches: Iterator[pa.RecordBatch]) -> Iterator[Piece]:
    before = 0
    for batch in batches:
        if batch.num_rows:
            yield Piece(batch, numbered(before + 1))
        before += batch.num_rows
    _check_rows(before)


def _check_rows(rows: int) -> None:
    if not rows:
        raise FormatError(None, None, "the file holds no rows; expected at least one")


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Refuse what Arrow refuses; a full disk is not the file's fault."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, struct.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = f"not a whole {what} file: {str(error)[:200]}"
        raise FormatError(None, None, f"{reason}; write it again, or send it once more") from error


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _check_types(schema: pa.Schema) -> None:
    for field in schema:
        kind = field.type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if isinstance(kind, pa.FixedShapeTensorType):
            continue
        if pa.types.is_nested(kind):
            reason = f"is nested ({str(kind)[:80]}); give each of its parts a column of its own"
            raise FormatError(None, field.name, reason)
        if not any(known(kind) for known in _KNOWN):
            wanted = "expected numbers, booleans, strings, dates or times"
            raise FormatError(None, field.name, f"{wanted}, got {str(kind)[:80]}")


_KNOWN = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_timestamp,
    pa.types.is_null,
)
