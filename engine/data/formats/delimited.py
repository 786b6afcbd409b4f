"""Delimited text: rows are cut off piece by piece.

A piece ends where a row does, so each can be parsed alone, and whatever is
wrong in one is found there with its line.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from engine.data.formats.decoding import NEWLINE, text_of
from engine.data.formats.kinds import DELIMITERS, Delimiter, Options, Piece, Source
from engine.data.formats.names import check_names, check_width
from engine.data.formats.sniffing import Dialect, sniff
from engine.errors import FormatError

ROW_LIMIT_BYTES = 1 << 24
"""The longest row."""

COLUMN_BYTES = 1 << 10
"""How much text there is for each column in a piece, at least: every column has its costs."""

QUOTE = b'"'


def open_delimited(path: Path, delimiter: Delimiter | None, options: Options) -> Source:
    """Open a file of delimited text; every column of it holds strings.

    Parameters
    ----------
    path : Path
    delimiter : str or None
        What the format says, unless the options say otherwise; None to sniff.
    options : Options
    """
    if path.stat().st_size == 0:
        raise FormatError(None, None, "the file is empty; expected a header line and rows")
    dialect = sniff(path, delimiter, options)
    names, line = _names(path, dialect)
    schema = pa.schema([(name, pa.string()) for name in names])
    return Source(schema, lambda: _pieces(path, dialect, names, line), asdict(dialect))


# -- pieces of whole rows -------------------------------------------------------------------------


def _blocks(
    path: Path, encoding: str, delimiter: str, least_bytes: int = 0
) -> Iterator[tuple[int, bytes]]:
    """Yield whole rows, each time with the line where they begin."""
    line, rest = 1, b""
    for piece in text_of(path, encoding):
        block = rest + piece
        if len(block) < least_bytes:
            rest = block
            continue
        end = _end_of_rows(block, delimiter)
        if end:
            yield line, block[:end]
            line += block.count(NEWLINE, 0, end)
        rest = block[end:]
        if len(rest) > ROW_LIMIT_BYTES:
            raise FormatError(line, None, _too_long(rest, delimiter))
    if rest:
        if _is_open(rest, delimiter):
            line += rest.count(NEWLINE, 0, _end_of_rows(rest, delimiter))
            raise FormatError(line, None, _NOT_CLOSED)
        yield line, rest + NEWLINE


_NOT_CLOSED = "a quoted value is not closed in the row that begins here; close it"


def _too_long(rest: bytes, delimiter: str) -> str:
    if _is_open(rest, delimiter):
        return f"{_NOT_CLOSED}, or send less than {ROW_LIMIT_BYTES:,} bytes a row"
    return f"a row that is longer than the {ROW_LIMIT_BYTES:,} bytes allowed"


def _end_of_rows(block: bytes, delimiter: str) -> int:
    """Return where the last whole row of a block ends."""
    if QUOTE not in block:
        return block.rfind(NEWLINE) + 1
    begins, ends = _quoted(block, delimiter)
    at = len(block)
    while (at := block.rfind(NEWLINE, 0, at)) >= 0:
        span = int(np.searchsorted(begins, at)) - 1
        if span < 0 or ends[span] <= at:
            return at + 1
        at = int(begins[span])
    return 0


def _is_open(block: bytes, delimiter: str) -> bool:
    """Whether a block ends within a quoted value."""
    _, ends = _quoted(block, delimiter)
    return bool(len(ends) and ends[-1] > len(block))


def _quoted(block: bytes, delimiter: str) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where quoted values begin, and where they end; beyond the block if they do not.

    A quote is one only where a value begins. Where that is so of all, every
    other quote opens, for a doubled quote closes and opens again; else the
    values have to be gone through.
    """
    quotes = np.flatnonzero(np.frombuffer(block, np.uint8) == ord(QUOTE))
    begins, ends = quotes[0::2], quotes[1::2] + 1
    before = np.frombuffer(block, np.uint8)[begins - 1]
    fitting = (before == ord(NEWLINE)) | (before == ord(delimiter)) | (begins == 0)
    fitting[1:] |= ends[: len(begins) - 1] == begins[1:]
    if not fitting.all():
        pattern = _VALUE[delimiter]
        spans = [found.span() for found in pattern.finditer(block)]
        begins, ends = np.array(spans, np.intp).reshape(-1, 2).T
        if len(ends) and ends[-1] == len(block) and _unclosed(block[begins[-1] :]):
            ends[-1] += 1
    elif len(ends) < len(begins):
        ends = np.append(ends, len(block) + 1)
    return begins, ends


_VALUE: dict[str, re.Pattern[bytes]] = {
    delimiter: re.compile(
        rb'(?:(?<=[\n%b])|\A)"[^"]*(?:""[^"]*)*(?:"|\Z)' % re.escape(delimiter.encode())
    )
    for delimiter in DELIMITERS
}


def _unclosed(value: bytes) -> bool:
    return value.count(QUOTE) % 2 == 1


# -- parsing --------------------------------------------------------------------------------------


def _names(path: Path, dialect: Dialect) -> tuple[list[str], int]:
    """Return the names of the columns, and the line after the header."""
    for line, block in _blocks(path, dialect.encoding, dialect.delimiter):
        blank = len(block) - len(block.lstrip(NEWLINE))
        if blank == len(block):
            continue
        at = line + blank
        reader = csv.reader(
            _narrow(_lines(block[blank:]), dialect, at), delimiter=dialect.delimiter
        )
        try:
            row = next(reader)
        except csv.Error as error:
            raise FormatError(at, None, str(error)) from error
        if not dialect.header:
            return [f"column_{position}" for position in range(1, len(row) + 1)], at
        check_names(row, at)
        return row, at + reader.line_num
    raise FormatError(None, None, "the file is blank; expected a header line and rows")


def _narrow(lines: Iterator[str], dialect: Dialect, at: int) -> Iterator[str]:
    """Pass lines on until they hold too many values for one header."""
    columns = 1
    for text in lines:
        columns += text.count(dialect.delimiter)
        check_width(columns, at)
        yield text


def _lines(block: bytes) -> Iterator[str]:
    yield from io.StringIO(block.decode(), newline="\n")


def _pieces(path: Path, dialect: Dialect, names: list[str], begin: int) -> Iterator[Piece]:
    """Parse all rows from line ``begin`` on."""
    some = False
    least_bytes = min(ROW_LIMIT_BYTES, COLUMN_BYTES * len(names))
    for line, block in _blocks(path, dialect.encoding, dialect.delimiter, least_bytes):
        if line < begin:
            block = _after(block, begin - line)
            line = begin
        if not block.strip(NEWLINE):
            continue
        some = True
        yield _piece(block, line, dialect.delimiter, names)
    if not some:
        raise FormatError(begin - 1, None, "only a header; expected at least one row below it")


def _after(block: bytes, lines: int) -> bytes:
    at = 0
    for _ in range(lines):
        at = block.index(NEWLINE, at) + 1
    return block[at:]


def _piece(block: bytes, line: int, delimiter: str, names: list[str]) -> Piece:
    strings = dict.fromkeys(names, pa.string())
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(block),
            pa.csv.ReadOptions(use_threads=False, column_names=names, block_size=len(block) + 1),
            pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            pa.csv.ConvertOptions(column_types=strings, strings_can_be_null=False),
        )
    except pa.ArrowException as error:
        _explain(block, line, delimiter, len(names), error)
    [rows] = table.combine_chunks().to_batches()
    begins = cache(lambda: _begins(block, line, delimiter))  # for all columns that ask
    return Piece(rows, lambda row: f"line {begins()[min(row, len(begins()) - 1)]:,}")


def _explain(block: bytes, line: int, delimiter: str, columns: int, error: Exception) -> NoReturn:
    """Raise what is wrong with rows that Arrow refused; it counts rows, not lines."""
    reader = csv.reader(_lines(block), delimiter=delimiter)
    try:
        for row in reader:
            if row and len(row) != columns:
                wanted = f"expected {columns} values as in the header, got {len(row)}"
                raise FormatError(line + reader.line_num - 1, None, wanted)
    except csv.Error as not_csv:
        raise FormatError(line + reader.line_num - 1, None, str(not_csv)) from not_csv
    raise FormatError(line, None, str(error)) from error


def _begins(block: bytes, line: int, delimiter: str) -> list[int]:
    """Return the line where each row of a block begins, up to one that `csv` finds too long."""
    reader = csv.reader(_lines(block), delimiter=delimiter)
    begins, before = [], 0
    with suppress(csv.Error):
        for values in reader:
            if values:
                begins.append(line + before)
            before = reader.line_num
    return [*begins, line + before]
