"""The kept file: what comes back from it, and how it is shown."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest

from engine.data.formats.stored import first_rows, read_table
from tests.engine.data.formats.files import assert_same_tables, types, values

ALL_TYPES = (
    "number,integer,boolean,category,timestamp,day,clock,nothing\n"
    "1.5,1,true,red,2026-01-02T03:04:05,2026-01-02,10:11:12,\n"
    "-2,-2,false,green,1970-01-01T00:00:00,1970-01-01,10:11:13,\n"
    "1e3,3,true,red,2026-01-02 03:04:06,1969-12-31,10:11:12,\n"
)


def test_types_are_inferred(folder):
    table = folder.read(ALL_TYPES)
    assert types(table) == {
        "number": "number",
        "integer": "integer",
        "boolean": "boolean",
        "category": "category",
        "timestamp": "timestamp",
        "day": "timestamp",
        "clock": "category",
        "nothing": "number",
    }
    assert values(table, "number") == [1.5, -2, 1000]
    assert values(table, "integer") == [1, -2, 3]
    assert values(table, "boolean") == [1, 0, 1]
    assert values(table, "category") == ["red", "green", "red"]
    assert table.column("category").levels == ("green", "red")
    assert values(table, "day")[2] == datetime(1969, 12, 31)  # noqa: DTZ001 - UTC without saying so
    assert np.isnan(values(table, "nothing")).all()
    assert table.column("timestamp").values.dtype == "datetime64[us]"
    assert all(c.values.dtype == np.float64 for c in table.columns if c.type == "number")


def test_what_is_kept_is_what_was_read(folder):
    table = folder.read(ALL_TYPES)
    assert_same_tables(read_table(folder.kept), table)
    some = read_table(folder.kept, ["category", "number"])
    assert list(types(some)) == ["category", "number"]
    assert values(some, "number") == values(table, "number")


def test_the_first_rows_are_shown_as_json_has_them(folder):
    folder.read(ALL_TYPES)
    rows = first_rows(folder.kept, 2)
    assert rows == [
        {
            "number": 1.5,
            "integer": 1,
            "boolean": True,
            "category": "red",
            "timestamp": "2026-01-02T03:04:05.000000Z",
            "day": "2026-01-02T00:00:00.000000Z",
            "clock": "10:11:12",
            "nothing": None,
        },
        {
            "number": -2.0,
            "integer": -2,
            "boolean": False,
            "category": "green",
            "timestamp": "1970-01-01T00:00:00.000000Z",
            "day": "1970-01-01T00:00:00.000000Z",
            "clock": "10:11:13",
            "nothing": None,
        },
    ]
    kinds = {type(value) for row in rows for value in row.values()}
    assert kinds == {float, int, bool, str, type(None)}


@pytest.mark.parametrize(("limit", "shown"), [(0, 0), (1, 1), (3, 3), (99, 3)])
def test_no_more_rows_are_shown_than_asked_for(folder, limit, shown):
    folder.read(ALL_TYPES)
    assert len(first_rows(folder.kept, limit)) == shown


def test_first_rows_go_over_the_pieces_of_a_large_file(folder, small_pieces):
    small_pieces(64)
    folder.read("x,y\n" + "".join(f"{row},name {row % 3}\n" for row in range(100)))
    with pa.memory_map(str(folder.kept)) as source:
        assert pa.ipc.open_file(source).num_record_batches > 3
    rows = first_rows(folder.kept, 50)
    assert rows == [{"x": row, "y": f"name {row % 3}"} for row in range(50)]
