"""Ingestion: a file of any format to one Arrow file and a profile, in memory that is bounded.

A file is gone through twice, a piece at a time. The first time every column
of strings is looked at, to the end, for what its values may be; the second
time it is converted and written. What is costly to read twice is kept between
the two as an Arrow file of strings.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.data.formats.arrays import open_arrays
from engine.data.formats.columnar import open_arrow, open_parquet
from engine.data.formats.delimited import open_delimited
from engine.data.formats.images import open_images
from engine.data.formats.kinds import (
    STRING_LIMIT_BYTES,
    Format,
    Limits,
    Options,
    Piece,
    Source,
)
from engine.data.formats.names import check_cells, check_width
from engine.data.formats.records import open_array, open_lines
from engine.data.formats.stored import read_pieces, to_table, words_kept
from engine.data.formats.texts import TextColumn
from engine.data.profiling import ColumnProfile, Profiler
from engine.data.table import nearest
from engine.errors import FormatError

TEXT_LIMIT_BYTES = 1 << 27
"""How much text a piece of a file in columns may hold once it is unpacked."""


COLUMNS_AT_ONCE = 2
"""How many columns of a piece are looked at or converted at the same time."""


@dataclass(frozen=True)
class Ingested:
    """What was made of a file.

    Parameters
    ----------
    rows : int
    columns : list of ColumnProfile
    sniffed : mapping
        What was found out about the file as a whole.
    """

    rows: int
    columns: list[ColumnProfile]
    sniffed: Mapping[str, Any] = field(default_factory=dict)


def ingest(
    source: Path,
    file_format: Format,
    destination: Path,
    limits: Limits = Limits(),  # noqa: B008 - it is frozen
    options: Options = Options(),  # noqa: B008 - it is frozen
) -> Ingested:
    """Read an uploaded file, keep it as an Arrow file, and describe it.

    Parameters
    ----------
    source, destination : Path
        Beside the destination there has to be room for the file once more.
    file_format : Format
    limits : Limits
    options : Options

    Raises
    ------
    FormatError
        Saying the line or the column, what is wrong there and what would do.
    """
    with tempfile.TemporaryDirectory(dir=destination.parent) as folder:
        opened = _open(source, file_format, Path(folder), limits, options)
        check_width(len(opened.schema), limit=limits.columns)
        _check_options(opened.schema, options)
        decimal = options.decimal or opened.sniffed.get("decimal", ".")
        texts = {
            position: TextColumn(each.name, options, decimal)
            for position, each in enumerate(opened.schema)
            if _is_text(each.type)
        }
        with ThreadPoolExecutor(COLUMNS_AT_ONCE, thread_name_prefix="columns") as threads:
            read = Read(opened, texts, limits, Path(folder), threads)
            read.look()
            read.count()
            for text in texts.values():
                text.settle(read.rows)
            columns = read.write(destination)
    return Ingested(read.rows, columns, opened.sniffed)


def _open(
    path: Path, file_format: Format, folder: Path, limits: Limits, options: Options
) -> Source:
    match file_format:
        case "csv" | "tsv":
            return open_delimited(path, "\t" if file_format == "tsv" else None, options)
        case "ndjson":
            return open_lines(path, options)
        case "json":
            return open_array(path, options)
        case "parquet":
            return open_parquet(path, limits)
        case "arrow":
            return open_arrow(path, limits)
        case "npz":
            return open_arrays(path, folder, limits)
        case "images":
            return open_images(path, limits)


def _check_options(schema: pa.Schema, options: Options) -> None:
    for name in options.types:
        if name not in schema.names:
            hint = nearest(name, schema.names)
            raise FormatError(None, name, f"it is named, but the file has no such column{hint}")


class Read:
    """The two readings of a file.

    Parameters
    ----------
    source : Source
    texts : dict of int to TextColumn
        The columns of strings, by position.
    limits : Limits
    folder : Path
        For what is kept between the two.
    threads : Executor
        Work on the columns of a piece.
    """

    def __init__(
        self,
        source: Source,
        texts: dict[int, TextColumn],
        limits: Limits,
        folder: Path,
        threads: Executor,
    ) -> None:
        self.rows, self._threads = 0, threads
        self._source, self._texts, self._limits = source, texts, limits
        self._kept = None if source.again else folder / "strings.arrow"

    def look(self) -> None:
        """Go through all pieces, look at their strings, and keep them if that pays."""
        with ExitStack() as stack:
            writer = None
            if self._kept is not None:
                out = stack.enter_context(pa.OSFile(str(self._kept), "wb"))
                writer = stack.enter_context(pa.ipc.new_file(out, self._source.schema))
            for piece in self._source.pieces():
                self.rows += piece.rows.num_rows
                check_cells(self.rows * piece.rows.num_columns, self._limits.cells)
                columns = [piece.rows.column(position) for position in self._texts]
                looks = self._threads.map(_look, self._texts.values(), columns, repeat(piece))
                list(looks)  # the first column that is refused raises
                if writer is not None:
                    writer.write_batch(piece.rows)

    def count(self) -> None:
        """Collect the levels of the columns that are strings to the end."""
        for text in self._texts.values():
            text.check_dates()
        positions = [i for i, text in self._texts.items() if not text.is_open]
        if not positions:
            return
        for batch in self._again(positions):
            for place, position in enumerate(positions):
                text = self._texts[position]
                text.count(_strings(batch.column(place), text.name))

    def write(self, destination: Path) -> list[ColumnProfile]:
        """Convert all pieces, write them, and describe what was written."""
        names = self._source.schema.names
        profiler = Profiler(len(names))
        with ExitStack() as stack:
            writer = None
            for batch in self._again():
                texts = [self._texts.get(i) for i in range(len(names))]
                columns = list(self._threads.map(_converted, texts, batch.columns))
                converted = pa.RecordBatch.from_arrays(columns, schema=self._schema(columns))
                if writer is None:
                    out = stack.enter_context(pa.OSFile(str(destination), "wb"))
                    writer = stack.enter_context(pa.ipc.new_file(out, converted.schema))
                writer.write_batch(converted)
                profiler.add(to_table(pa.Table.from_batches([converted])))
        return [
            replace(each, notes=[*self._texts[i].told(), *each.notes]) if i in self._texts else each
            for i, each in enumerate(profiler.profiles())
        ]

    def _schema(self, columns: list[pa.Array]) -> pa.Schema:
        """Return the fields of what was converted, with the words of booleans in words."""
        return pa.schema(
            [
                pa.field(each.name, column.type, metadata=words_kept(self._texts[i].words))
                if i in self._texts
                else pa.field(each.name, column.type)
                for i, (each, column) in enumerate(zip(self._source.schema, columns, strict=True))
            ]
        )

    def _again(self, positions: list[int] | None = None) -> Iterator[pa.RecordBatch]:
        if self._kept is not None:
            yield from read_pieces(self._kept, positions)
            return
        for piece in self._source.pieces():
            yield piece.rows if positions is None else piece.rows.select(positions)


def _look(text: TextColumn, column: pa.Array, piece: Piece) -> None:
    strings = _strings(column, text.name)
    _check_lengths(strings, text.name, piece)
    if text.is_open:
        text.look(strings, piece.place)


def _converted(text: TextColumn | None, column: pa.Array) -> pa.Array:
    return _plain(column) if text is None else text.convert(_strings(column, text.name))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    known = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_time,
    )
    return any(is_one(kind) for is_one in known)


def _strings(column: pa.Array, name: str) -> pa.Array:
    """Return a column of strings in the one way of several that Arrow has."""
    if pa.types.is_dictionary(column.type):
        lengths = pc.take(pc.binary_length(column.dictionary), column.indices)
        if (pc.sum(lengths).as_py() or 0) > TEXT_LIMIT_BYTES:
            reason = f"holds more than {TEXT_LIMIT_BYTES:,} bytes of text in {len(column):,} rows"
            raise FormatError(None, name, reason)
    return column if pa.types.is_string(column.type) else column.cast(pa.string())


def _check_lengths(strings: pa.Array, name: str, piece: Piece) -> None:
    lengths = pc.binary_length(strings)
    longest = pc.max(lengths).as_py() or 0
    if longest > STRING_LIMIT_BYTES:
        place = piece.place(pc.index(lengths, longest).as_py())
        reason = f"{place} holds a string of {longest:,} bytes; at most {STRING_LIMIT_BYTES:,}"
        raise FormatError(None, name, f"{reason} are allowed")


def _plain(column: pa.Array) -> pa.Array:
    """Return a column that is not of strings, as it is kept."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.dictionary_decode())
    if pa.types.is_decimal(kind):
        return column.cast(pa.float64())
    if pa.types.is_float16(kind):
        return column.cast(pa.float32())
    if pa.types.is_temporal(kind):
        return column.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False)
    return column
