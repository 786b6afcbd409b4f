"""Parquet and Arrow: typed columns are taken as they are, and bombs by their metadata."""

from __future__ import annotations

import io
from datetime import date, datetime, time
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.data.formats import columnar, compression
from engine.data.formats.kinds import Limits
from tests.engine.data.formats.files import types, values

TABLE = pa.table(
    {
        "float": pa.array([1.5, None, 2.0], pa.float32()),
        "half": pa.array(np.array([1, 2, 3], np.float16)),
        "byte": pa.array([1, 2, 255], pa.uint8()),
        "money": pa.array([Decimal("1.25"), None, Decimal("3.00")]),
        "flag": pa.array([True, None, False]),
        "word": pa.array(["a", None, "a"]),
        "long": pa.array(["b", "c", "b"], pa.large_string()),
        "coded": pa.array(["x", "y", "x"]).dictionary_encode(),
        "number": pa.array(["1,234.5", "2", "3"]),
        "day": pa.array([date(2026, 1, 2), None, date(1969, 12, 31)]),
        "moment": pa.array([datetime(2026, 1, 2, 3)] * 3, pa.timestamp("ns", "UTC")),  # noqa: DTZ001 - Arrow's zone
        "clock": pa.array([time(10, 11)] * 3),
        "nothing": pa.nulls(3),
    }
)
TYPES = {
    "float": "number",
    "half": "number",
    "byte": "integer",
    "money": "number",
    "flag": "boolean",
    "word": "category",
    "long": "category",
    "coded": "category",
    "number": "number",
    "day": "timestamp",
    "moment": "timestamp",
    "clock": "category",
    "nothing": "number",
}


def parquet(table, **options):
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def arrow(table, make=pa.ipc.new_file, **options):
    out = io.BytesIO()
    with make(out, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return out.getvalue()


def stream(table):
    return arrow(table, pa.ipc.new_stream)


def packed(table):
    return arrow(table, compression="zstd")


EACH = pytest.mark.parametrize(
    ("write", "file_format"),
    [(parquet, "parquet"), (arrow, "arrow"), (stream, "arrow"), (packed, "arrow")],
    ids=["parquet", "file", "stream", "packed file"],
)


@EACH
def test_every_type_of_a_column_is_taken(folder, write, file_format):
    table = folder.read(write(TABLE), file_format)
    assert types(table) == TYPES
    assert values(table, "byte") == [1, 2, 255]
    assert values(table, "word") == ["a", None, "a"]
    assert values(table, "coded") == ["x", "y", "x"]
    assert values(table, "number") == [1234.5, 2, 3]
    np.testing.assert_array_equal(values(table, "money"), [1.25, np.nan, 3])
    np.testing.assert_array_equal(values(table, "flag"), [1, np.nan, 0])
    assert str(table.column("day").values[2]) == "1969-12-31T00:00:00.000000"


@EACH
def test_files_are_read_in_pieces(folder, monkeypatch, write, file_format):
    monkeypatch.setattr(columnar, "PIECE_ROWS", 7)
    rows = pa.table({"n": range(100), "word": [f"w{row % 9}" for row in range(100)]})
    result = folder.ingest(write(rows), file_format)
    assert result.rows == 100
    assert result.columns[0].mean == 49.5
    assert result.columns[1].distinct == 9


@EACH
@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pa.array([[1], [2]]), "is nested (list<"),
        (pa.array([{"a": 1}]), "is nested (struct<a: int64>); give each of its parts a column"),
        (pa.array([b"a"]), "expected numbers, booleans, strings, dates or times, got binary"),
    ],
)
def test_columns_of_other_types_are_refused(folder, write, file_format, column, reason):
    error = folder.refusal(write(pa.table({"x": column})), file_format)
    assert (error.column, error.reason.startswith(reason)) == ("x", True)


@EACH
def test_files_without_rows_or_with_bad_names_are_refused(folder, write, file_format):
    nothing = pa.table({"x": pa.array([], pa.int64())})
    assert "holds no rows" in str(folder.refusal(write(nothing), file_format))
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["x", "x"])
    assert "appears 2 times" in str(folder.refusal(write(twice), file_format))


@EACH
def test_a_file_cut_short_is_refused_wherever(folder, write, file_format):
    content = write(TABLE)
    body = len(content) - 8  # a stream may end without its mark of 8 bytes
    for size in range(0, body, body // 25):
        folder.refusal(content[:size], file_format)


@EACH
def test_another_file_is_refused(folder, write, file_format):
    what = file_format.capitalize()
    for content in (b"", b"x,y\n1,2\n", write(TABLE)[::-1]):
        assert f"not a whole {what} file" in str(folder.refusal(content, file_format))


def test_a_parquet_bomb_is_refused_by_what_its_end_says(folder, monkeypatch):
    zeros = pa.table({"x": np.zeros(2_000_000)})
    bomb = parquet(zeros, compression="zstd", use_dictionary=False)
    assert len(bomb) < 20_000
    monkeypatch.setattr(columnar, "_parquet_pieces", None)  # nothing is read
    assert "than the 1,000,000 bytes allowed" in str(
        folder.refusal(bomb, "parquet", Limits(unpacked_bytes=10**6))
    )
    assert "more than the 1,000 values" in str(folder.refusal(bomb, "parquet", Limits(cells=1000)))
    monkeypatch.setattr(compression, "HARMLESS_BYTES", 10**6)
    assert "unpacks to more than 200 times" in str(folder.refusal(bomb, "parquet"))


def test_one_long_string_in_every_row_is_refused(folder):
    column = pa.DictionaryArray.from_arrays(np.zeros(60_000, np.int32), ["a" * 30_000])
    for content, kind in (
        (parquet(pa.table({"x": column})), "parquet"),
        (arrow(pa.table({"x": column})), "arrow"),
    ):
        assert "bytes of text in" in str(folder.refusal(content, kind))


def test_an_arrow_file_whose_offsets_lead_out_of_it_is_refused(folder):
    content = arrow(pa.table({"x": ["abc", "def"]}))
    at = content.index(np.array([0, 3, 6], np.int32).tobytes())
    content = content[: at + 8] + np.int32(2**30).tobytes() + content[at + 12 :]
    assert "not a whole Arrow file" in str(folder.refusal(content, "arrow"))


@EACH
def test_strings_that_are_no_text_are_refused(folder, write, file_format):
    text = pa.array([b"abc", b"\xff"]).view(pa.string())
    assert "Invalid UTF8" in str(folder.refusal(write(pa.table({"x": text})), file_format))
