"""Files to tables: CSV and NPZ are read, checked and kept as one Arrow file.

The Arrow file is what training reads: columnar, typed, and memory-mapped where
it is a local file. Uploads are untrusted: nothing here unpickles, and what
a compressed file may unpack to is bounded by the caller.
"""

from __future__ import annotations

import csv
import zipfile
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from engine.data.table import Column, ColumnType, Table
from engine.errors import DataError, FormatError
from engine.spec import MAX_COLUMNS, MAX_NAME_LENGTH

Format = Literal["csv", "tsv", "npz"]
Compression = Literal["gzip", "zstd"]

FORMATS: tuple[Format, ...] = get_args(Format)
PIECE_BYTES = 1 << 20

BLOCK_BYTES = 1 << 24
"""How much of a CSV file Arrow parses at a time; a row has to fit in."""

CATEGORY_LEVELS = 1000
"""A string column with more distinct values is text."""


def decompress(source: Path, destination: Path, compression: Compression, limit_bytes: int) -> None:
    """Unpack a file, piece by piece.

    Raises
    ------
    FormatError
        The file is not what ``compression`` says, or unpacks to more than ``limit_bytes``.
    """
    unpacked = 0
    piece = bytearray(PIECE_BYTES)  # `read` would lose its own where what is read is damaged
    try:
        with (
            pa.OSFile(str(source)) as packed,
            pa.CompressedInputStream(packed, compression) as stream,
            destination.open("wb") as out,
        ):
            while size := stream.readinto(piece):
                unpacked += size
                if unpacked > limit_bytes:
                    reason = f"unpacks to more than the {limit_bytes:,} bytes allowed"
                    raise FormatError(None, None, f"the {compression} file {reason}")
                out.write(memoryview(piece)[:size])
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's own, such as a full disk; Arrow's have no number
        raise FormatError(None, None, f"not a whole {compression} file: {error}") from error


def ingest(
    source: Path, file_format: Format, destination: Path, *, memory_limit_bytes: int
) -> Table:
    """Read an uploaded file, keep it as an Arrow file, and return it as a table.

    Parameters
    ----------
    source, destination : Path
    file_format : Format
    memory_limit_bytes : int
        What the arrays of an NPZ file may unpack to.

    Raises
    ------
    FormatError
        Saying the line or the column, what is wrong there and what would do.
    """
    if file_format == "npz":
        table = _read_npz(source, memory_limit_bytes)
    else:
        table = _read_delimited(source, "\t" if file_format == "tsv" else ",")
    with pa.OSFile(str(destination), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    return _to_table(table)


def read_table(path: Path, columns: Sequence[str] | None = None) -> Table:
    """Read a kept Arrow file, or only the named columns of it."""
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
        return _to_table(table.select(list(columns)) if columns is not None else table)


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
        columns = {name: _json_values(table.column(name)) for name in table.column_names}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _json_values(column: pa.ChunkedArray) -> list[Any]:
    if isinstance(column.type, pa.FixedShapeTensorType):
        return list(_tensor_values(column).tolist())
    if pa.types.is_temporal(column.type):
        texts = np.datetime_as_string(_timestamps(column))
        return [None if text == "NaT" else f"{text}Z" for text in texts]
    return list(column.to_pylist())


def _timestamps(column: pa.ChunkedArray) -> NDArray[np.datetime64]:
    """Return datetime64[us], NaT where missing; what is finer is cut off."""
    return np.asarray(column.cast(pa.timestamp("us"), safe=False).to_numpy())


def _read_delimited(path: Path, delimiter: str) -> pa.Table:
    if path.stat().st_size == 0:
        raise FormatError(None, None, "the file is empty; expected a header line and rows")
    options = {
        "read_options": pa.csv.ReadOptions(block_size=BLOCK_BYTES),
        "parse_options": pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        "convert_options": pa.csv.ConvertOptions(strings_can_be_null=True),
    }
    try:
        table = pa.csv.read_csv(str(path), **options)
        _check_names(table.column_names, line=1)
    except pa.ArrowException as error:
        _explain_delimited(path, delimiter, error)
    except UnicodeDecodeError as error:
        raise _not_utf8() from error
    if table.num_rows == 0:
        raise _only_a_header()
    return pa.table(
        [_stored(table.column(name), name) for name in table.column_names], names=table.column_names
    )


def _not_utf8(column: str | None = None) -> FormatError:
    return FormatError(None, column, "holds bytes that are not UTF-8 text; save the file as UTF-8")


def _only_a_header() -> FormatError:
    return FormatError(1, None, "only a header; expected at least one row below it")


def _explain_delimited(path: Path, delimiter: str, error: Exception) -> NoReturn:
    """Raise what is wrong with a file that Arrow refused.

    Arrow counts rows, not lines (a quoted value may span several), so the
    line is found by reading once more.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, delimiter=delimiter)
            rows = (row for row in reader if row)
            header, first = next(rows, None), next(rows, None)
            if header is None:
                raise FormatError(None, None, "the file is blank; expected a header line and rows")
            if first is None:
                raise _only_a_header()
            for row in chain([first], rows):
                if len(row) != len(header):
                    wanted = f"expected {len(header)} values as in the header, got {len(row)}"
                    raise FormatError(reader.line_num, None, wanted)
    except UnicodeDecodeError as not_text:
        raise _not_utf8() from not_text
    except csv.Error as not_csv:
        raise FormatError(reader.line_num, None, str(not_csv)) from not_csv
    raise FormatError(None, None, str(error)) from error


def _check_names(names: Sequence[str], line: int | None) -> None:
    """Refuse what a training spec could not name."""
    if len(names) > MAX_COLUMNS:
        reason = f"{len(names):,} columns; at most {MAX_COLUMNS:,} are allowed"
        raise FormatError(line, None, reason)
    for position, name in enumerate(names, start=1):
        if not name.strip():
            raise FormatError(line, None, f"column {position} has no name; give each a name")
        if len(name) > MAX_NAME_LENGTH:
            reason = f"has a name of {len(name)} characters; at most {MAX_NAME_LENGTH} are allowed"
            raise FormatError(line, None, f"column {position} {reason}")
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise FormatError(line, name, f"appears {count} times; give each column its own name")


def _stored(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray | pa.Array:
    """Return the column as it is kept: strings of few levels as sorted categories."""
    if pa.types.is_binary(column.type):
        raise _not_utf8(name)
    if pa.types.is_time(column.type):
        column = column.cast(pa.string())
    if not pa.types.is_string(column.type):
        return column
    levels = pc.unique(column).drop_null()
    few = len(levels) <= CATEGORY_LEVELS and (len(levels) <= 20 or 2 * len(levels) <= len(column))
    if not few:
        return column
    levels = levels.take(pc.sort_indices(levels))
    codes = pc.index_in(column, value_set=levels).combine_chunks()
    return pa.DictionaryArray.from_arrays(codes, levels)


def _read_npz(path: Path, memory_limit_bytes: int) -> pa.Table:
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise FormatError(None, None, "not an NPZ file; write it with numpy.savez") from error
    if unpacked > memory_limit_bytes:
        reason = f"unpacks to {unpacked:,} bytes; at most {memory_limit_bytes:,} are allowed"
        raise FormatError(None, None, reason)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            columns = {name: arrays[name] for name in arrays.files}
    except Exception as error:  # noqa: BLE001 - zipfile, zlib and NumPy each raise their own
        raise FormatError(None, None, f"cannot be read as arrays: {error}") from error
    if not columns:
        raise FormatError(None, None, "holds no arrays; expected for instance X and y")
    _check_names(list(columns), line=None)
    _check_rows(columns)
    return pa.table({name: _npz_column(name, array) for name, array in columns.items()})


def _check_rows(columns: dict[str, NDArray[Any]]) -> None:
    first = next(iter(columns))
    for name, array in columns.items():
        if not isinstance(array, np.ndarray):
            raise FormatError(None, name, "is not an array; write the file with numpy.savez")
        if array.ndim == 0 or len(array) == 0:
            raise FormatError(None, name, "has no rows; the first dimension counts the rows")
        if len(array) != len(columns[first]):
            wanted = f"has {len(array)} rows, but {first!r} has {len(columns[first])}"
            raise FormatError(None, name, wanted)


def _npz_column(name: str, array: NDArray[Any]) -> pa.ChunkedArray | pa.Array:
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind not in "fiubU" or size == 0 or (kind == "f" and size > 8):  # of 0 bytes: any number
        wanted = "expected numbers, booleans or strings"
        raise FormatError(None, name, f"{wanted}, got dtype {array.dtype}")
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    if array.ndim == 1:
        values = array.astype(np.float32) if array.dtype == np.float16 else array
        try:
            return _stored(pa.chunked_array([pa.array(values)]), name)
        except UnicodeDecodeError as error:
            raise FormatError(None, name, "holds characters that are not Unicode") from error
    if array.dtype.kind not in "fiu":
        raise FormatError(None, name, f"a tensor holds numbers, got dtype {array.dtype}")
    if 0 in array.shape:
        raise FormatError(None, name, f"has the empty shape {list(array.shape)}")
    return pa.FixedShapeTensorArray.from_numpy_ndarray(array)


def _to_table(table: pa.Table) -> Table:
    return Table(tuple(_to_column(name, table.column(name)) for name in table.column_names))


def _to_column(name: str, column: pa.ChunkedArray) -> Column:
    kind = column.type
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
    return Column(name, _number_type(name, kind), _numbers(column))


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
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _tensor_values(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return the numbers where they are, which is in the mapped file, if they lie in one piece."""
    whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return np.asarray(whole.to_numpy_ndarray())
