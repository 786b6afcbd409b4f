"""The formats that are read, what a caller may say of a file, and how large it may be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import pyarrow as pa

from engine.data.table import ColumnType
from engine.spec import MAX_COLUMNS

Format = Literal["csv", "tsv", "ndjson", "json", "parquet", "arrow", "npz", "images"]
Compression = Literal["gzip", "zstd"]
Encoding = Literal["utf-8", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"]
Delimiter = Literal[",", ";", "\t", "|"]
Decimal = Literal[".", ","]

FORMATS: tuple[Format, ...] = get_args(Format)
DELIMITERS: tuple[Delimiter, ...] = get_args(Delimiter)

MISSING = ("NA", "N/A", "#N/A", "n/a", "na", "null", "NULL", "Null", "NaN", "nan", "NAN", "?", "-")
"""What counts as missing, beside nothing, unless the caller names others."""

PIECE_BYTES = 1 << 22
"""How much of a text file is parsed at a time."""

PIECE_ROWS = 1 << 16
"""How many rows of a file in columns are read at a time, at most."""

PIECE_CELLS = 1 << 20
"""How many cells of a file in columns are read at a time, about."""

STRING_LIMIT_BYTES = 1 << 15
"""The longest string that a table may hold; some are shown in profiles and messages."""


@dataclass(frozen=True)
class Options:
    """What a caller says of a file; whatever is None is sniffed.

    Parameters
    ----------
    delimiter, encoding, decimal, header
        Of delimited text; ``decimal`` of strings in any format.
    missing : tuple of str
        What counts as missing, beside nothing.
    day_first : bool or None
        Whether 1/2/2026 is in February.
    types : mapping of str to ColumnType
        What columns of strings are to be taken for.
    """

    delimiter: Delimiter | None = None
    encoding: Encoding | None = None
    decimal: Decimal | None = None
    header: bool | None = None
    missing: tuple[str, ...] = MISSING
    day_first: bool | None = None
    types: Mapping[str, ColumnType] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """What a file may hold, whatever its size.

    Parameters
    ----------
    cells : int
        Rows times columns, an element of a tensor counted as one.
    unpacked_bytes : int
        What its compressed parts may unpack to.
    expansion : float
        How many times its own size it may unpack to.
    columns : int
    """

    cells: int = 250_000_000
    unpacked_bytes: int = 1 << 30
    expansion: float = 200.0
    columns: int = MAX_COLUMNS


@dataclass(frozen=True)
class Piece:
    """Some rows of a file.

    Parameters
    ----------
    rows : RecordBatch
    place : callable
        Says in words where row ``i`` of them is, such as ``line 5``.
    """

    rows: pa.RecordBatch
    place: Callable[[int], str]


def numbered(first: int) -> Callable[[int], str]:
    """Return the place of rows by their number, the first of them the ``first`` of the file."""
    return lambda row: f"row {first + row:,}"


@dataclass(frozen=True)
class Source:
    """A file that was opened.

    Parameters
    ----------
    schema : Schema
        Of every piece.
    pieces : callable
        Reads the file from its beginning.
    sniffed : mapping
        What was found out about it, to be shown.
    again : bool
        Whether it is cheap to read twice.
    """

    schema: pa.Schema
    pieces: Callable[[], Iterator[Piece]]
    sniffed: Mapping[str, Any] = field(default_factory=dict)
    again: bool = False
