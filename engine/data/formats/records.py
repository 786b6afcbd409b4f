"""JSON: an object a row, each on a line of its own, or all in one array."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.data.formats.decoding import encoding_of, text_of
from engine.data.formats.kinds import PIECE_BYTES, PIECE_ROWS, Options, Piece, Source
from engine.data.formats.names import check_names, check_width
from engine.data.table import json_type, named_once
from engine.errors import FormatError

ROW_LIMIT_CHARACTERS = 1 << 22
"""The longest row."""

PIECE_VALUES = 1 << 18
"""How many values are turned into columns at a time, about."""


@dataclass(frozen=True)
class Row:
    """One object, its values as strings, and the line where it begins or ends."""

    line: int
    values: dict[str, str | None]


def open_lines(path: Path, options: Options) -> Source:
    """Open a file with an object on every line; every column of it holds strings."""
    return _open(path, options, _line_by_line)


def open_array(path: Path, options: Options) -> Source:
    """Open a file with an array of objects; every column of it holds strings."""
    return _open(path, options, _one_by_one)


def _open(path: Path, options: Options, read: Callable[[Iterator[str]], Iterator[Row]]) -> Source:
    encoding = encoding_of(path, options.encoding)

    def rows() -> Iterator[Row]:
        return read(piece.decode() for piece in text_of(path, encoding))

    names: dict[str, None] = {}
    count = 0
    for count, row in enumerate(rows(), start=1):  # noqa: B007 - counted to the end
        names.update(dict.fromkeys(row.values))
        check_width(len(names), row.line)
    if not count:
        raise FormatError(None, None, 'the file holds no rows; expected objects such as {"x": 1}')
    if not names:
        raise FormatError(None, None, "the objects are empty; expected names and values in each")
    check_names(list(names))
    schema = pa.schema([(name, pa.string()) for name in names])
    return Source(schema, lambda: _pieces(rows(), schema), {"encoding": encoding})


def _pieces(rows: Iterator[Row], schema: pa.Schema) -> Iterator[Piece]:
    most = max(1, min(PIECE_ROWS, PIECE_VALUES // len(schema)))
    some: list[Row] = []
    size = 0
    for row in rows:
        some.append(row)
        size += sum(len(value) for value in row.values.values() if value is not None)
        if len(some) >= most or size > PIECE_BYTES:
            yield _piece(some, schema)
            some, size = [], 0
    if some:
        yield _piece(some, schema)


def _piece(rows: list[Row], schema: pa.Schema) -> Piece:
    lines = [row.line for row in rows]
    columns = []
    for name in schema.names:
        try:
            columns.append(pa.array([row.values.get(name) for row in rows], pa.string()))
        except UnicodeEncodeError as error:
            reason = f"holds half a surrogate pair on or after line {lines[0]:,}"
            raise FormatError(None, name, f"{reason}, which is no text") from error
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    return Piece(batch, lambda row: f"line {lines[row]:,}")


def _line_by_line(pieces: Iterator[str]) -> Iterator[Row]:
    line, rest = 0, ""
    for piece in pieces:
        *whole, rest = (rest + piece).split("\n")
        for text in whole:
            line += 1
            if text.strip():
                yield _row(_whole(text, line), line)
        if len(rest) > ROW_LIMIT_CHARACTERS:
            raise _too_long(line + 1)
    if rest.strip():
        yield _row(_whole(rest, line + 1), line + 1)


def _whole(text: str, line: int) -> Any:
    try:
        return _JSON.decode(text)
    except json.JSONDecodeError as error:
        raise FormatError(line, None, _broken(error, error.colno, text)) from error
    except (ValueError, RecursionError) as error:
        raise FormatError(line, None, _not_json(error)) from error


def _broken(error: json.JSONDecodeError, column: int, text: str) -> str:
    hint = "; an array of rows is the format `json`" if text.lstrip().startswith("[") else ""
    return (
        f"not JSON: {error.msg} at character {column}{hint or '; expected an object on the line'}"
    )


def _one_by_one(pieces: Iterator[str]) -> Iterator[Row]:
    scanner = _Scanner(pieces)
    array = scanner.peek() == "["
    if array:
        scanner.skip()
    while (next_one := scanner.peek()) not in ("", "]"):
        value = scanner.value()
        yield _row(value, scanner.line)
        if array and scanner.peek() == ",":
            scanner.skip()
            if scanner.peek() in ("]", ""):
                raise FormatError(scanner.line, None, "expected an object after the comma")
        elif array and scanner.peek() not in ("]", ""):
            raise FormatError(scanner.line, None, "expected a comma between two objects")
    if array != (next_one == "]"):
        raise FormatError(scanner.line, None, "the array is not closed; the file may be cut short")
    if array:
        scanner.skip()
        if scanner.peek():
            raise FormatError(scanner.line, None, "something follows the array; expected its end")


class _Scanner:
    """Reads one JSON value after the other, and holds no more of the text than that."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self.line = 1
        self._pieces = pieces
        self._text = ""
        self._at = 0

    def peek(self) -> str:
        """Return the next character that is no space; nothing at the end."""
        while True:
            rest = self._text[self._at : self._at + 1]
            if not rest:
                if not self._more():
                    return ""
            elif rest.isspace():
                self.line += rest == "\n"
                self._at += 1
            else:
                return rest

    def skip(self) -> None:
        """Go on behind the next character."""
        self._at += 1

    def value(self) -> Any:
        """Read a value."""
        while True:
            try:
                value, end = _JSON.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if len(self._text) - self._at > ROW_LIMIT_CHARACTERS:
                    raise _too_long(self.line) from error
                if not self._more():
                    line = self.line + self._text.count("\n", self._at, error.pos)
                    raise FormatError(line, None, f"not JSON: {error.msg}") from error
            except (ValueError, RecursionError) as error:
                raise FormatError(self.line, None, _not_json(error)) from error
            else:
                self.line += self._text.count("\n", self._at, end)
                self._at = end
                return value

    def _more(self) -> bool:
        for piece in self._pieces:
            if piece:
                self._text, self._at = self._text[self._at :] + piece, 0
                return True
        return False


def _too_long(line: int) -> FormatError:
    reason = f"a row that is longer than the {ROW_LIMIT_CHARACTERS:,} characters allowed"
    return FormatError(line, None, f"{reason}, or is not closed")


def _not_json(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


_JSON = json.JSONDecoder(
    object_pairs_hook=named_once, parse_int=str, parse_float=str, parse_constant=str
)


def _row(value: Any, line: int) -> Row:
    if not isinstance(value, dict):
        kind = "a number" if isinstance(value, str) else json_type(value)
        raise FormatError(line, None, f'expected an object such as {{"x": 1}}, got {kind}')
    return Row(line, {name: _string(name, each, line) for name, each in value.items()})


def _string(name: str, value: Any, line: int) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    reason = f"holds {json_type(value)}; give each of its parts a column of its own"
    raise FormatError(line, name[:80], reason)
