"""Delimited text: what is between the values is sniffed, then rows are cut off piece by piece.

A piece ends where a row does, so each can be parsed alone, and whatever is
wrong in one is found there with its line.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from engine.data.formats.kinds import (
    DELIMITERS,
    PIECE_BYTES,
    Decimal,
    Delimiter,
    Encoding,
    Options,
    Piece,
    Source,
)
from engine.data.formats.names import check_names, check_width
from engine.errors import FormatError

SAMPLE_BYTES = 1 << 18
"""What is looked at to sniff."""

SAMPLE_ROWS = 200

ROW_LIMIT_BYTES = 1 << 24
"""The longest row."""

COLUMN_BYTES = 1 << 10
"""How much text there is for each column in a piece, at least: every column has its costs."""

NEWLINE, QUOTE = b"\n", b'"'

BOMS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True)
class Dialect:
    """How a file of delimited text is written.

    Parameters
    ----------
    encoding : str
    delimiter, decimal : str
    header : bool
        Whether the first row names the columns.
    """

    encoding: str
    delimiter: Delimiter
    decimal: Decimal
    header: bool


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
    encoding = encoding_of(path, options.encoding)
    rows = next(text_of(path, encoding))[:SAMPLE_BYTES].decode(errors="replace")
    lines = rows.splitlines(keepends=True)
    between = options.delimiter or delimiter or _delimiter(lines)
    cells = _cells(lines, between)
    header = _has_header(cells) if options.header is None else options.header
    decimal = options.decimal or _decimal(cells[1 if header else 0 :], between)
    dialect = Dialect(encoding, between, decimal, header)
    names, line = _names(path, dialect)
    sniffed = {
        "encoding": encoding,
        "delimiter": between,
        "decimal": decimal,
        "header": header,
    }
    schema = pa.schema([(name, pa.string()) for name in names])
    return Source(schema, lambda: _pieces(path, dialect, names, line), sniffed)


# -- sniffing -------------------------------------------------------------------------------------


def encoding_of(path: Path, said: Encoding | None = None) -> str:
    """Return what the file is written in, going by its first letter beyond ASCII.

    Text that is not UTF-8 there is taken for Windows-1252, of which Latin-1 is a part.
    """
    if said is not None and said != "utf-16":
        return said
    with path.open("rb") as file:
        piece = file.read(PIECE_BYTES)
        for mark, encoding in BOMS:
            if piece.startswith(mark):
                return encoding
        even, odd = (piece[start:SAMPLE_BYTES:2].count(0) for start in (0, 1))
        if 8 * max(even, odd) > len(piece[:SAMPLE_BYTES]) and 4 * min(even, odd) < max(even, odd):
            return "utf-16-be" if even > odd else "utf-16-le"
        if said is not None:
            return "utf-16-le"
        while piece and piece.isascii():
            piece = file.read(PIECE_BYTES)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(piece)
    except UnicodeDecodeError as error:
        return "cp1252" if piece[: error.start].isascii() else "utf-8"
    return "utf-8"


def _cells(lines: list[str], delimiter: str) -> list[list[str]]:
    """Return the cells of the first rows, but of none that may be cut off."""
    reader = csv.reader(lines, delimiter=delimiter)
    rows: list[list[str]] = []
    try:
        for row in reader:
            if row:
                rows.append(row)
            if len(rows) == SAMPLE_ROWS:
                break
    except csv.Error:  # it is said later, with the line
        return rows
    return rows[:-1] if len(rows) > 1 and len("".join(lines)) >= SAMPLE_BYTES // 2 else rows


def _delimiter(lines: list[str]) -> Delimiter:
    """Return what divides most rows into as many values as the first."""

    def score(delimiter: str) -> tuple[float, int]:
        rows = _cells(lines, delimiter)
        if not rows or len(rows[0]) < 2:
            return (0.0, 0)
        return sum(len(row) == len(rows[0]) for row in rows) / len(rows), len(rows[0])

    return max(DELIMITERS, key=score)


_NUMERIC = re.compile(r"\s*[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?\s*")


def _has_header(cells: list[list[str]]) -> bool:
    """Whether the first row names columns: numbers do only where they count them."""
    if len(cells) < 2 or not all(_NUMERIC.fullmatch(cell) for cell in cells[0]):
        return True
    if len(cells[0]) < 2 or not all(cell.isdecimal() for cell in cells[0]):
        return False
    first = int(cells[0][0])
    return first in (0, 1) and [int(cell) - first for cell in cells[0]] == [*range(len(cells[0]))]


_COMMA = re.compile(r"\s*[+-]?(\d{1,3}(\.\d{3})+|\d+),\d+\s*%?")
_POINT = re.compile(r"\s*[+-]?(\d{1,3}(,\d{3})+|\d*)\.\d+([eE][+-]?\d+)?\s*%?")
_THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}([.,]\d{3})+\s*%?")


def _decimal(rows: list[list[str]], delimiter: str) -> Decimal:
    """Return what stands before most fractions; 1,234 may be one, or a thousand."""
    cells = [cell for row in rows for cell in row]
    clear = [cell for cell in cells if not _THOUSANDS.fullmatch(cell)]
    commas = sum(_COMMA.fullmatch(cell) is not None for cell in clear)
    points = sum(_POINT.fullmatch(cell) is not None for cell in clear)
    if commas == points == 0 and delimiter == ";":
        commas = sum(_THOUSANDS.fullmatch(cell) is not None and "," in cell for cell in cells)
    return "," if commas > points else "."


# -- pieces of whole rows -------------------------------------------------------------------------


def text_of(path: Path, encoding: str) -> Iterator[bytes]:
    """Yield a file in UTF-8 and with plain newlines, whatever it is written in."""
    ends = io.IncrementalNewlineDecoder(None, translate=True)
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    with path.open("rb") as file:
        for mark, _ in BOMS:
            if file.read(len(mark)) == mark:
                break
            file.seek(0)
        while piece := file.read(PIECE_BYTES):
            text = ends.decode(_decoded(decoder, piece, line)).encode()
            _check_characters(text, line)
            line += text.count(NEWLINE)
            yield text
        rest = ends.decode(_decoded(decoder, b"", line, final=True), final=True)
        yield rest.encode()


def _decoded(
    decoder: codecs.IncrementalDecoder, piece: bytes, line: int, *, final: bool = False
) -> str:
    try:
        return decoder.decode(piece, final)
    except UnicodeDecodeError as error:
        at = line + error.object[: error.start].count(NEWLINE)
        known = "UTF-8, UTF-16 or Windows-1252"
        reason = f"holds bytes that are not text in {known}; save the file as UTF-8"
        raise FormatError(at, None, reason) from error


_CONTROLS = bytes({*range(0x20)} - set(b"\t\n\v\f\r"))
_CONTROL = re.compile(b"[" + re.escape(_CONTROLS) + b"]")


def _check_characters(text: bytes, line: int) -> None:
    if len(text.translate(None, _CONTROLS)) == len(text):
        return
    found = next(_CONTROL.finditer(text))
    at = line + text.count(NEWLINE, 0, found.start())
    reason = f"holds the control character {ord(found[0]):#04x}, which is in no text"
    raise FormatError(at, None, f"{reason}; remove it, or send `format` if it is another")


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
