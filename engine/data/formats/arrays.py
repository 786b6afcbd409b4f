"""NPZ: an archive of NumPy arrays, each a column; unpacked to disk and mapped from there."""

from __future__ import annotations

import errno
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.data.formats.compression import PIECE_BYTES, check_expansion
from engine.data.formats.kinds import PIECE_CELLS, PIECE_ROWS, Limits, Piece, Source, numbered
from engine.data.formats.names import check_cells, check_names
from engine.errors import FormatError

DIRECTORY_LIMIT_BYTES = 1 << 22
"""The largest list of members of an archive: each takes ten times as much in memory."""

SUFFIX, MAGIC = ".npy", b"\x93NUMPY"


def open_arrays(path: Path, folder: Path, limits: Limits) -> Source:
    """Open an NPZ file; its members are unpacked into ``folder``."""
    check_directory(path, "an NPZ file; write it with numpy.savez")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            size = path.stat().st_size
            check_expansion(sum(member.file_size for member in members), size, limits)
            names = [member.filename.removesuffix(SUFFIX) for member in members]
            if not names:
                raise FormatError(None, None, "holds no arrays; expected for instance X and y")
            check_names(names)
            columns = {
                name: _array(archive, member, name, folder / f"{position}{SUFFIX}")
                for position, (name, member) in enumerate(zip(names, members, strict=True))
            }
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise FormatError(None, None, f"cannot be read as arrays: {error}") from error
    rows = _check_rows(columns)
    check_cells(rows * len(columns), limits.cells)
    pieces = _columns(columns, slice(0, 1))
    schema = pa.schema([(name, column.type) for name, column in pieces.items()])
    return Source(schema, lambda: _pieces(columns, rows), again=True)


def check_directory(path: Path, what: str) -> None:
    """Refuse an archive whose list of members would fill the memory once it is read.

    What is looked at is the end of the file as it is usually written: no
    comment, and none of the records for archives beyond 4 GiB, which would
    say another size.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 42))
        tail = file.read()
    if len(tail) < 22:
        raise FormatError(None, None, f"not {what}")
    signature, *_, listed_bytes, _start, comment_bytes = struct.unpack("<4s4H2LH", tail[-22:])
    if signature != b"PK\x05\x06" or comment_bytes or tail[:-22].startswith(b"PK\x06\x07"):
        raise FormatError(None, None, f"not {what}")
    if listed_bytes > DIRECTORY_LIMIT_BYTES:
        reason = f"lists its members in {listed_bytes:,} bytes"
        raise FormatError(None, None, f"{reason}; at most {DIRECTORY_LIMIT_BYTES:,} are allowed")


def _array(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, file: Path
) -> NDArray[Any]:
    """Unpack a member and map it; NumPy checks the header against the size of the file."""
    try:
        with archive.open(member) as packed, file.open("wb") as out:
            _copy(packed, out, member.file_size)
        _check_magic(name, file)
        array = _mapped(file)
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # which is where a place is not in the file
            raise
        raise _unreadable(name, error) from error
    except FormatError:
        raise
    except Exception as error:  # noqa: BLE001 - zipfile, zlib and NumPy each raise their own
        raise _unreadable(name, error) from error
    return array


def _mapped(file: Path) -> NDArray[Any]:
    with np.errstate(over="raise"):  # where the header has a size beyond all numbers
        array: np.memmap[Any, Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    more = file.stat().st_size - array.offset - array.nbytes
    if more:
        raise ValueError(f"{more:,} bytes follow the last value")
    return array


def _check_magic(name: str, file: Path) -> None:
    with file.open("rb") as unpacked:
        if unpacked.read(len(MAGIC)) != MAGIC:
            raise FormatError(None, name, "is not an array; write the file with numpy.savez")


def _unreadable(name: str, error: Exception) -> FormatError:
    reason = f"cannot be read as arrays: {str(error)[:200]}"
    return FormatError(None, name, f"{reason}; write the file with numpy.savez")


def _copy(packed: IO[bytes], out: IO[bytes], announced: int) -> None:
    copied = 0
    while piece := packed.read(PIECE_BYTES):
        copied += len(piece)
        if copied > announced:
            raise ValueError(f"a member is larger than the {announced:,} bytes announced")
        out.write(piece)


def _check_rows(columns: dict[str, NDArray[Any]]) -> int:
    first = next(iter(columns))
    for name, array in columns.items():
        if array.ndim == 0 or len(array) == 0:
            raise FormatError(None, name, "has no rows; the first dimension counts the rows")
        if len(array) != len(columns[first]):
            wanted = f"has {len(array)} rows, but {first!r} has {len(columns[first])}"
            raise FormatError(None, name, wanted)
        _check_values(name, array)
    return len(columns[first])


def _check_values(name: str, array: NDArray[Any]) -> None:
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind not in "fiubU" or size == 0 or (kind == "f" and size > 8):  # of 0 bytes: any number
        wanted = "expected numbers, booleans or strings"
        raise FormatError(None, name, f"{wanted}, got dtype {array.dtype}")
    if array.ndim > 1 and kind not in "fiu":
        raise FormatError(None, name, f"a tensor holds numbers, got dtype {array.dtype}")
    if 0 in array.shape:
        raise FormatError(None, name, f"has the empty shape {list(array.shape)}")


def _pieces(columns: dict[str, NDArray[Any]], rows: int) -> Iterator[Piece]:
    width = sum(max(1, array[0].nbytes // 8) for array in columns.values())
    most = max(1, min(PIECE_ROWS, PIECE_CELLS // width))
    for start in range(0, rows, most):
        batch = pa.record_batch(_columns(columns, slice(start, start + most)))
        yield Piece(batch, numbered(start + 1))


def _columns(columns: dict[str, NDArray[Any]], rows: slice) -> dict[str, pa.Array]:
    return {name: _column(name, array[rows]) for name, array in columns.items()}


def _column(name: str, array: NDArray[Any]) -> pa.Array:
    values = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    if array.ndim > 1:
        return pa.FixedShapeTensorArray.from_numpy_ndarray(values)
    try:
        return pa.array(values.astype(np.float32) if values.dtype == np.float16 else values)
    except UnicodeDecodeError as error:
        raise FormatError(None, name, "holds characters that are not Unicode") from error
