"""Files to tables: CSV and NPZ are read, checked and kept as one Arrow file.

The Arrow file is what training reads: columnar, typed, and memory-mapped where
it is a local file. Uploads are untrusted: nothing here unpickles, and what
a compressed file may unpack to is bounded by the caller.
"""

from __future__ import annotations

import csv
import struct
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal, NoReturn, get_args

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

VALUE_BYTES = 24
"""What a number takes while a file is read: in Arrow, for the profile, and on the way there."""

STRING_LIMIT_BYTES = 1 << 15
"""The longest string that a table may hold; some are shown in profiles and messages."""

DIRECTORY_LIMIT_BYTES = 1 << 22
"""The largest list of members that an NPZ file may have: each takes ten times as much in memory."""


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
        What the arrays of an NPZ file may unpack to, and what the values of any file may take.

    Raises
    ------
    FormatError
        Saying the line or the column, what is wrong there and what would do.
    """
    if file_format == "npz":
        table = _read_npz(source, memory_limit_bytes)
    else:
        table = _read_delimited(source, "\t" if file_format == "tsv" else ",", memory_limit_bytes)
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


def _read_delimited(path: Path, delimiter: str, memory_limit_bytes: int) -> pa.Table:
    if path.stat().st_size == 0:
        raise FormatError(None, None, "the file is empty; expected a header line and rows")
    _check_text(path, delimiter, memory_limit_bytes)
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


def _check_text(path: Path, delimiter: str, memory_limit_bytes: int) -> None:
    """Refuse what Arrow would take much memory for, or would take for something else.

    A column costs it 9 KB however few its rows are, and it ends a quoted value
    that is not closed where the file ends.
    """
    counts: Counter[bytes] = Counter()
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            counts.update({mark: piece.count(mark) for mark in (delimiter.encode(), b"\n", b'"')})
    quotes = counts.pop(b'"')
    _check_width(path, delimiter)
    _check_values(counts.total(), memory_limit_bytes)
    if quotes % 2:
        _check_quotes(path, delimiter)


def _check_width(path: Path, delimiter: str) -> None:
    """Refuse a header of too many columns before any is made."""
    columns = 1

    def counted(lines: Iterator[str]) -> Iterator[str]:
        nonlocal columns
        for line in lines:
            columns += line.count(delimiter)
            if columns > MAX_COLUMNS:
                raise _too_many_columns(columns, line=1)
            yield line

    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            next(csv.reader(counted(_lines(file)), delimiter=delimiter), None)
        except csv.Error as error:
            raise FormatError(1, None, str(error)) from error


def _check_values(values: int, memory_limit_bytes: int) -> None:
    if values * VALUE_BYTES > memory_limit_bytes:
        takes = f"{values:,} values, which take {values * VALUE_BYTES:,} bytes to read"
        raise FormatError(None, None, f"{takes}; at most {memory_limit_bytes:,} are allowed")


def _check_quotes(path: Path, delimiter: str) -> None:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(_lines(file), delimiter=delimiter, strict=True)
        begin = 1
        try:
            for _ in reader:
                begin = reader.line_num + 1
        except csv.Error as error:
            reason = "a quoted value is not closed in the row that begins here; close it"
            raise FormatError(begin, None, reason) from error


def _lines(file: IO[str]) -> Iterator[str]:
    """Yield the lines of a file, none of them longer than Arrow takes."""
    number = 0
    while line := file.readline(BLOCK_BYTES):
        number += 1
        if len(line) == BLOCK_BYTES:
            raise FormatError(number, None, f"longer than the {BLOCK_BYTES:,} characters allowed")
        yield line


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
            reader = csv.reader(_lines(lines), delimiter=delimiter)
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
        raise _too_many_columns(len(names), line)
    for position, name in enumerate(names, start=1):
        if not name.strip():
            raise FormatError(line, None, f"column {position} has no name; give each a name")
        if len(name) > MAX_NAME_LENGTH:
            reason = f"has a name of {len(name)} characters; at most {MAX_NAME_LENGTH} are allowed"
            raise FormatError(line, None, f"column {position} {reason}")
        if any(unicodedata.category(character) == "Cc" for character in name):
            reason = "has a name with control characters; use printable ones"
            raise FormatError(line, None, f"column {position} {reason}")
        if not unicodedata.is_normalized("NFC", name):
            reason = "has a name that is not in Unicode's normal form; write it in NFC"
            raise FormatError(line, None, f"column {position} {reason}")
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise FormatError(line, name, f"appears {count} times; give each column its own name")


def _too_many_columns(columns: int, line: int | None) -> FormatError:
    reason = f"{columns:,} columns; at most {MAX_COLUMNS:,} are allowed"
    return FormatError(line, None, reason)


def _stored(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray | pa.Array:
    """Return the column as it is kept: strings of few levels as sorted categories."""
    if pa.types.is_binary(column.type):
        raise _not_utf8(name)
    if pa.types.is_time(column.type):
        column = column.cast(pa.string())
    if not pa.types.is_string(column.type):
        return column
    longest = pc.max(pc.binary_length(column)).as_py() or 0
    if longest > STRING_LIMIT_BYTES:
        row = pc.index(pc.binary_length(column), longest).as_py() + 1
        reason = f"row {row} holds a string of {longest:,} bytes; at most {STRING_LIMIT_BYTES:,}"
        raise FormatError(None, name, f"{reason} are allowed")
    levels = pc.unique(column).drop_null()
    few = len(levels) <= CATEGORY_LEVELS and (len(levels) <= 20 or 2 * len(levels) <= len(column))
    if not few:
        return column
    levels = levels.take(pc.sort_indices(levels))
    codes = pc.index_in(column, value_set=levels).combine_chunks()
    return pa.DictionaryArray.from_arrays(codes, levels)


def _read_npz(path: Path, memory_limit_bytes: int) -> pa.Table:
    _check_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise _no_npz() from error
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
    flat = sum(a.size for a in columns.values() if a.ndim == 1 and a.itemsize)
    _check_values(flat, memory_limit_bytes)
    return pa.table({name: _npz_column(name, array) for name, array in columns.items()})


def _check_directory(path: Path) -> None:
    """Refuse an archive whose list of members would fill the memory once it is read.

    What is looked at is the end of the file as `numpy.savez` writes it: no
    comment, and none of the records for archives beyond 4 GiB, which would
    say another size.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 42))
        tail = file.read()
    if len(tail) < 22:
        raise _no_npz()
    signature, *_, listed_bytes, _start, comment_bytes = struct.unpack("<4s4H2LH", tail[-22:])
    if signature != b"PK\x05\x06" or comment_bytes or tail[:-22].startswith(b"PK\x06\x07"):
        raise _no_npz()
    if listed_bytes > DIRECTORY_LIMIT_BYTES:
        reason = f"lists its members in {listed_bytes:,} bytes"
        raise FormatError(None, None, f"{reason}; at most {DIRECTORY_LIMIT_BYTES:,} are allowed")


def _no_npz() -> FormatError:
    return FormatError(None, None, "not an NPZ file; write it with numpy.savez")


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
