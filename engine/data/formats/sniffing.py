"""Sniffing: how delimited text is written, going by its first rows."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from engine.data.formats.decoding import encoding_of, text_of
from engine.data.formats.kinds import DELIMITERS, Decimal, Delimiter, Options

SAMPLE_BYTES = 1 << 18
"""What is looked at to sniff."""

SAMPLE_ROWS = 200


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


def sniff(path: Path, delimiter: Delimiter | None, options: Options) -> Dialect:
    """Find out how a file is written, but for what the format or the options say.

    Parameters
    ----------
    path : Path
    delimiter : str or None
        What the format says, unless the options say otherwise; None to sniff.
    options : Options
    """
    encoding = encoding_of(path, options.encoding)
    rows = next(text_of(path, encoding))[:SAMPLE_BYTES].decode(errors="replace")
    lines = rows.splitlines(keepends=True)
    between = options.delimiter or delimiter or _delimiter(lines)
    cells = _cells(lines, between)
    header = _has_header(cells) if options.header is None else options.header
    decimal = options.decimal or _decimal(cells[1 if header else 0 :], between)
    return Dialect(encoding, between, decimal, header)


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
