"""Files: what is read from them, what is kept, and what is refused where."""

from __future__ import annotations

import gzip
import io
import math
import tracemalloc
import zipfile
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data import formats
from engine.data.formats import CATEGORY_LEVELS, decompress, first_rows, ingest, read_table
from engine.errors import FormatError
from engine.spec import MAX_NAME_LENGTH

LIMIT_BYTES = 10**7


class Folder:
    """A folder where files are read and kept."""

    def __init__(self, path):
        self.source, self.kept = path / "uploaded", path / "kept.arrow"

    def read(self, content, file_format="csv", limit_bytes=LIMIT_BYTES):
        self.source.write_bytes(content.encode() if isinstance(content, str) else content)
        return ingest(self.source, file_format, self.kept, memory_limit_bytes=limit_bytes)

    def npz(self, limit_bytes=LIMIT_BYTES, **arrays):
        return self.read(npz(**arrays), "npz", limit_bytes)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory):
    """For tests whose examples overwrite each other's files."""
    return Folder(tmp_path_factory.mktemp("shared"))


def npz(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def archive(compression=zipfile.ZIP_STORED, **members):
    """A zip file of members that may not be arrays."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as opened:
        for name, data in members.items():
            opened.writestr(f"{name}.npy", data)
    return content.getvalue()


def npy(array=None, header=None):
    """The bytes of one array, or of one that lies about itself."""
    if header is not None:
        text = header.encode()
        return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(8)
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def types(table):
    return {column.name: column.type for column in table.columns}


def values(table, name):
    column = table.column(name)
    if column.type == "category":
        return [None if code < 0 else column.levels[code] for code in column.values]
    return column.values.tolist()


def assert_same_tables(a, b):
    assert types(a) == types(b)
    for ours, theirs in zip(a.columns, b.columns, strict=True):
        assert ours.levels == theirs.levels
        np.testing.assert_array_equal(ours.values, theirs.values)


# -- CSV: what is read ---------------------------------------------------------------------------

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


def test_first_rows_go_over_the_pieces_of_a_large_file(folder, monkeypatch):
    monkeypatch.setattr(formats, "BLOCK_BYTES", 64)
    folder.read("x,y\n" + "".join(f"{row},name {row % 3}\n" for row in range(100)))
    with pa.memory_map(str(folder.kept)) as source:
        assert pa.ipc.open_file(source).num_record_batches > 3
    rows = first_rows(folder.kept, 50)
    assert rows == [{"x": row, "y": f"name {row % 3}"} for row in range(50)]


def test_missing_values_are_missing_in_every_type(folder):
    table = folder.read("n,i,b,c,t\n,,,,\n1.5,1,true,x,2026-01-01T00:00:00\nNaN,NA,,NULL,\n")
    for name in ("n", "i", "b"):
        assert np.isnan(table.column(name).values).tolist() == [True, False, True]
    assert values(table, "c") == [None, "x", None]
    assert np.isnat(table.column("t").values).tolist() == [True, False, True]
    assert first_rows(folder.kept, 1) == [dict.fromkeys("nibct")]


def test_infinity_is_a_number(folder):
    assert values(folder.read("x\ninf\n-inf\n1\n"), "x") == [math.inf, -math.inf, 1]


def test_integers_beyond_float64_are_rounded(folder):
    table = folder.read("a,b\n9007199254740993,1\n1,123456789012345678901234567890\n")
    assert types(table) == {"a": "integer", "b": "number"}
    assert values(table, "a") == [2.0**53, 1]


def test_times_of_a_zone_and_finer_than_microseconds_are_read(folder):
    text = "t,u\n2026-01-01T00:00:00+02:00,1970-01-01T00:00:00.123456789\n"
    folder.read(text + "2026-01-01T00:00:00Z,1970-01-01T00:00:00.1\n")
    assert first_rows(folder.kept, 2) == [
        {"t": "2025-12-31T22:00:00.000000Z", "u": "1970-01-01T00:00:00.123456Z"},
        {"t": "2026-01-01T00:00:00.000000Z", "u": "1970-01-01T00:00:00.100000Z"},
    ]


@pytest.mark.parametrize(
    ("distinct", "rows", "kind"),
    [
        (20, 20, "category"),
        (21, 21, "text"),
        (21, 42, "category"),
        (CATEGORY_LEVELS, 2 * CATEGORY_LEVELS, "category"),
        (CATEGORY_LEVELS + 1, 4 * CATEGORY_LEVELS, "text"),
    ],
)
def test_strings_of_few_levels_are_categories_and_others_text(folder, distinct, rows, kind):
    words = [f"word {row % distinct}" for row in range(rows)]
    table = folder.read("x\n" + "\n".join(words) + "\n")
    assert types(table) == {"x": kind}
    assert values(table, "x") == words
    assert_same_tables(read_table(folder.kept), table)
    assert first_rows(folder.kept, 3) == [{"x": word} for word in words[:3]]


def test_levels_are_sorted_whatever_comes_first(folder):
    levels = folder.read("x\nb\nä\nZ\na\n").column("x").levels
    assert levels == ("Z", "a", "b", "ä")


@pytest.mark.parametrize(
    "content",
    [
        "x,y\n1,a\n2,b\n",
        "x,y\n1,a\n2,b",
        "x,y\r\n1,a\r\n2,b\r\n",
        "x,y\r1,a\r2,b\r",
        "\ufeffx,y\n1,a\n2,b\n",
        "\ufeffx,y\r\n1,a\r\n2,b\r\n",
        'x,y\n1,"a"\n"2",b\n',
        "\nx,y\n\n1,a\n\n2,b\n\n",
    ],
    ids=["plain", "open end", "CRLF", "CR", "BOM", "BOM CRLF", "quoted", "blank lines"],
)
def test_the_same_table_is_written_in_many_ways(folder, content):
    table = folder.read(content)
    assert types(table) == {"x": "integer", "y": "category"}
    assert (values(table, "x"), values(table, "y")) == ([1, 2], ["a", "b"])


def test_tabs_separate_where_that_was_said(folder):
    table = folder.read("x\ty\n1\ta,b\n", "tsv")
    assert (values(table, "x"), values(table, "y")) == ([1], ["a,b"])


def test_quoted_values_may_hold_separators_quotes_and_lines(folder):
    table = folder.read('x,y\n1,"a,b"\n2,"say ""no"""\n3,"two\nlines"\n')
    assert values(table, "y") == ["a,b", 'say "no"', "two\nlines"]


def test_a_type_that_only_a_late_row_contradicts_is_corrected(folder, monkeypatch):
    monkeypatch.setattr(formats, "BLOCK_BYTES", 64)
    table = folder.read("x,y\n" + "1,2\n" * 200 + "one,2.5\n")
    assert types(table) == {"x": "category", "y": "number"}


def test_a_table_may_be_wider_than_a_megabyte(folder):
    names = [f"{number:0{MAX_NAME_LENGTH}}" for number in range(6000)]
    table = folder.read(",".join(names) + "\n" + ",".join(["1"] * 6000) + "\n")
    assert list(types(table)) == names


# -- CSV: what is refused ------------------------------------------------------------------------


def refusal_of(folder, content, file_format="csv"):
    with pytest.raises(FormatError) as refusal:
        folder.read(content, file_format)
    return refusal.value


@pytest.mark.parametrize(
    ("content", "line", "column", "reason"),
    [
        ("", None, None, "the file is empty; expected a header line and rows"),
        ("\n", None, None, "the file is blank; expected a header line and rows"),
        ("\r\n\r\n\n", None, None, "the file is blank; expected a header line and rows"),
        ("x,y\n", 1, None, "only a header; expected at least one row below it"),
        ("x,y", 1, None, "only a header; expected at least one row below it"),
        ("x,y\r\n\r\n", 1, None, "only a header; expected at least one row below it"),
        ("x,,z\n1,2,3\n", 1, None, "column 2 has no name; give each a name"),
        ("x,y, \n1,2,3\n", 1, None, "column 3 has no name; give each a name"),
        ("x,y,x\n1,2,3\n", 1, "x", "appears 2 times; give each column its own name"),
        (f"{'x' * 201},y\n1,2\n", 1, None, "column 1 has a name of 201 characters; at most 200"),
        ("x,y\n1,2\n3\n", 3, None, "expected 2 values as in the header, got 1"),
        ("x,y\n1,2\n3,4,5\n6,7\n", 3, None, "expected 2 values as in the header, got 3"),
        ("x,y\n1,2\n3,4,5", 3, None, "expected 2 values as in the header, got 3"),
        ("x,y\r\n1,2\r\n3,4,5\r\n", 3, None, "expected 2 values as in the header, got 3"),
        ("\n\nx,y\n\n1,2\n3,4,5\n", 6, None, "expected 2 values as in the header, got 3"),
        ('x,y\n1,"a\nb\nc"\n2,3,4\n', 5, None, "expected 2 values as in the header, got 3"),
        ('x,y\n1,"a\r\nb"\r\n2,3,4\r\n', 4, None, "expected 2 values as in the header, got 3"),
        ('"x\nz",y\n1,2\n2,3,4\n', 4, None, "expected 2 values as in the header, got 3"),
        ("x,y\n1,ä\n2\n", 3, None, "expected 2 values as in the header, got 1"),
        ("\ufeffx,y\n1,2\n3\n", 3, None, "expected 2 values as in the header, got 1"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_its_line(folder, content, line, column, reason):
    error = refusal_of(folder, content)
    assert (error.line, error.column) == (line, column)
    assert error.reason.startswith(reason)


CELLS = st.text(alphabet='ab,"\nä ', max_size=4)


@given(
    rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8),
    at=st.integers(0, 7),
    crlf=st.booleans(),
)
def test_a_ragged_row_is_found_whatever_stands_before_it(shared_folder, rows, at, crlf):
    newline = "\r\n" if crlf else "\n"
    lines = [
        ",".join('"' + cell.replace('"', '""').replace("\n", newline) + '"' for cell in row)
        for row in [("x", "y"), *rows]
    ]
    before = newline.join(lines[: 1 + at]) + newline
    content = before + "1,2,3" + newline + newline.join(lines[1 + at :])
    error = refusal_of(shared_folder, content)
    assert error.line == before.count("\n") + 1
    assert error.reason == "expected 2 values as in the header, got 3"


def test_a_ragged_row_far_down_is_found(folder):
    content = "x,y\n" + "1,2\n" * 100_000 + "1,2,3\n"
    assert refusal_of(folder, content).line == 100_002


def test_tabs_are_counted_where_tabs_separate(folder):
    assert refusal_of(folder, "x\ty\n1\t2\n1,2\n", "tsv").line == 3


@pytest.mark.parametrize(
    ("content", "column"),
    [
        ("x,y\n1,é\n".encode("latin-1"), "y"),
        ("x,é\n1,2\n".encode("latin-1"), None),
        ("x,y\n1,é\n2\n".encode("latin-1"), None),
        ("x,y\n1,2\n".encode("utf-16"), None),
        (b"x,y\n1,\xff\xfe\n", "y"),
    ],
)
def test_bytes_that_are_not_utf_8_are_refused(folder, content, column):
    error = refusal_of(folder, content)
    assert error.column == column
    assert "not UTF-8 text; save the file as UTF-8" in str(error)


def test_a_name_may_be_so_long_and_no_longer(folder):
    longest = "ä" * MAX_NAME_LENGTH
    assert types(folder.read(f"{longest},y\n1,2\n")) == {longest: "integer", "y": "integer"}


@pytest.mark.parametrize("name", ["a\0b", "a\x1bb", "a\x85b", "e\u0301"])
def test_a_name_is_printable_and_written_one_way(folder, name):
    error = refusal_of(folder, f"x,{name}\n1,2\n")
    assert (error.line, str(error)[:28]) == (1, "line 1: column 2 has a name ")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('x,y\n1,2\n3,"4\n5,6\n', 3),
        ('x\n1\n"2\n3\n', 3),
        ('x\n"1\n1"\n"2\n3\n', 4),
        ('x\n"2""\n', 2),
        ('x,"y\n1,2\n', 1),
        ('x\n1\n"' + "2\n" * 100_000, 3),
    ],
)
def test_a_quote_that_is_not_closed_swallows_no_rows(folder, content, line):
    error = refusal_of(folder, content)
    assert (error.line, error.column) == (line, None)
    assert "a quoted value is not closed" in str(error)


def test_a_quote_within_a_value_is_part_of_it(folder):
    assert folder.read('x\n5" pipe\n6"\n"7"""\n').columns[0].levels == ('5" pipe', '6"', '7"')


def test_a_value_takes_so_many_bytes_to_read_and_no_more(folder):
    content = "x,y\n" + "1,2\n" * 500
    limit = 1002 * formats.VALUE_BYTES
    assert folder.read(content, limit_bytes=limit).rows == 500
    with pytest.raises(FormatError, match=f"1,002 values, which take {limit:,} bytes to read"):
        folder.read(content, limit_bytes=limit - 1)
    with pytest.raises(FormatError, match="5,000 values"):
        folder.npz(limit_bytes=10_000, x=np.zeros(5000, np.uint8))


def test_a_long_string_is_refused_with_its_row(folder):
    most = formats.STRING_LIMIT_BYTES
    assert folder.read(f"x,y\n{'a' * most},1\n").rows == 1
    error = refusal_of(folder, f"x,y\nb,1\n{'a' * (most + 1)},2\n")
    assert (error.column, "row 2 holds a string of 32,769 bytes" in str(error)) == ("x", True)


@pytest.mark.parametrize("name", ["x", '"\n"'])
def test_columns_are_counted_before_any_is_made(folder, name, monkeypatch):
    monkeypatch.setattr(pa.csv, "read_csv", None)
    content = f"{name}," * 16_384 + "y\n1\n"
    assert "16,385 columns; at most 16,384 are allowed" in str(refusal_of(folder, content))


def test_an_archive_of_very_many_members_is_refused_unread(folder, monkeypatch):
    content = archive(zipfile.ZIP_DEFLATED, x=npy(np.zeros(3)))
    listed = len(content) - content.index(b"PK\x01\x02") - 22
    monkeypatch.setattr(formats, "DIRECTORY_LIMIT_BYTES", listed)
    assert folder.read(content, "npz").rows == 3
    monkeypatch.setattr(formats, "DIRECTORY_LIMIT_BYTES", listed - 1)
    with pytest.raises(FormatError, match=f"lists its members in {listed} bytes"):
        folder.read(content, "npz")
    for hidden in (content + b"x", content[:-22] + b"PK\x06\x07" + bytes(16) + content[-22:]):
        with pytest.raises(FormatError, match="not an NPZ file"):
            folder.read(hidden, "npz")


def test_more_columns_than_a_spec_may_name_are_refused(folder, monkeypatch):
    monkeypatch.setattr(formats, "MAX_COLUMNS", 3)
    assert len(folder.read("a,b,c\n1,2,3\n").columns) == 3
    assert refusal_of(folder, "a,b,c,d\n1,2,3,4\n").reason == "4 columns; at most 3 are allowed"


# -- NPZ: what is read ---------------------------------------------------------------------------


def test_arrays_become_columns_and_tensors(folder):
    arrays = {
        "number": np.array([1.5, math.nan]),
        "integer": np.array([1, -2]),
        "boolean": np.array([True, False]),
        "word": np.array(["b", "a"]),
        "image": np.arange(12, dtype=np.uint8).reshape(2, 3, 2),
    }
    table = folder.npz(**arrays)
    assert types(table) == {
        "number": "number",
        "integer": "integer",
        "boolean": "boolean",
        "word": "category",
        "image": "tensor",
    }
    assert values(table, "word") == ["b", "a"]
    assert table.column("image").shape == (3, 2)
    assert table.column("image").values.dtype == np.uint8
    np.testing.assert_array_equal(table.column("image").values, arrays["image"])
    assert_same_tables(read_table(folder.kept), table)
    assert first_rows(folder.kept, 1) == [
        {
            "number": 1.5,
            "integer": 1,
            "boolean": True,
            "word": "b",
            "image": [[0, 1], [2, 3], [4, 5]],
        }
    ]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [*np.typecodes["AllInteger"], "e", "f", "d"])
def test_numbers_of_every_size_and_byte_order_are_read(folder, kind, order):
    numbers = np.array([0, 1, 3], dtype=np.dtype(kind).newbyteorder(order))
    assert values(folder.npz(x=numbers), "x") == [0, 1, 3]
    tensor = folder.npz(x=np.stack([numbers, numbers], axis=1)).column("x")
    assert tensor.values.tolist() == [[0, 0], [1, 1], [3, 3]]
    assert tensor.values.dtype == np.dtype(kind)


def test_strings_of_either_byte_order_are_read(folder):
    words = np.array(["b", "ä", "b"])
    for lying in (words, words.astype(words.dtype.newbyteorder(">"))):
        assert values(folder.npz(x=lying), "x") == ["b", "ä", "b"]


def test_arrays_that_lie_otherwise_in_memory_are_read_in_order(folder):
    numbers = np.arange(12.0).reshape(3, 4)
    table = folder.npz(fortran=np.asfortranarray(numbers), every_other=numbers[:, 1][::-1])
    np.testing.assert_array_equal(table.column("fortran").values, numbers)
    assert values(table, "every_other") == [9, 5, 1]


def test_compressed_arrays_are_read(folder):
    content = io.BytesIO()
    np.savez_compressed(content, x=np.arange(5))
    assert values(folder.read(content.getvalue(), "npz"), "x") == [0, 1, 2, 3, 4]


# -- NPZ: what is refused ------------------------------------------------------------------------


class Bomb:
    """Raises where it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


@pytest.mark.parametrize(
    ("arrays", "column", "reason"),
    [
        ({"x": np.array([Bomb()])}, None, "Object arrays cannot be loaded"),
        ({"x": np.array([1, "a", None], dtype=object)}, None, "Object arrays cannot be loaded"),
        ({"x": np.array(1.0)}, "x", "has no rows; the first dimension counts the rows"),
        ({"x": np.empty(0)}, "x", "has no rows"),
        ({"x": np.empty((0, 2))}, "x", "has no rows"),
        ({"x": np.empty((2, 0))}, "x", "has the empty shape [2, 0]"),
        ({"x": np.ones(2), "y": np.ones(3)}, "y", "has 3 rows, but 'x' has 2"),
        ({"x": np.array([1j])}, "x", "expected numbers, booleans or strings, got dtype complex"),
        ({"x": np.array([b"a"])}, "x", "expected numbers, booleans or strings, got dtype |S1"),
        ({"x": np.array(["2026-01-01"], dtype="M8[D]")}, "x", "got dtype datetime64[D]"),
        ({"x": np.zeros(2, dtype=[("a", "f8")])}, "x", "expected numbers, booleans or strings"),
        ({"x": np.array([["a", "b"]])}, "x", "a tensor holds numbers, got dtype <U1"),
        ({"x": np.array([[True, False]])}, "x", "a tensor holds numbers, got dtype bool"),
        ({" ": np.ones(2)}, None, "column 1 has no name; give each a name"),
        ({"x" * 201: np.ones(2)}, None, "column 1 has a name of 201 characters"),
        ({}, None, "holds no arrays; expected for instance X and y"),
    ],
)
def test_arrays_that_are_no_columns_are_refused(folder, arrays, column, reason):
    with pytest.raises(FormatError) as refusal:
        folder.npz(**arrays)
    assert refusal.value.column == column
    assert reason in refusal.value.reason


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="here it is a double")
def test_numbers_of_more_than_double_precision_are_refused(folder):
    with pytest.raises(FormatError, match="got dtype float128"):
        folder.npz(x=np.ones(2, dtype=np.longdouble))


GOOD = npy(np.ones(4))
HUGE_HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x,y\n1,2\n",
        npy(np.ones(2)),
        archive(x=GOOD)[:-1],
        archive(x=GOOD)[:40],
        archive(x=b""),
        archive(x=b"text"),
        archive(x=GOOD[:-1]),
        archive(x=npy(header="{'descr': '<f8'")),
        archive(x=npy(header="not a dict")),
        archive(x=npy(header=HUGE_HEADER)),
        archive(x=npy(header=HUGE_HEADER.replace("1000000000000000", "-1"))),
        archive(x=npy(header=HUGE_HEADER.replace("<f8", "|O"))),
        archive(x=npy(np.array(["a", "b"]))[:-4] + b"\xff\xff\xff\xff"),
    ],
    ids=lambda content: f"{len(content)} bytes",  # not the bytes: an archive knows when it was made
)
def test_a_file_that_is_no_whole_npz_is_refused(folder, content):
    with pytest.raises(FormatError):
        folder.read(content, "npz")


def damaged(content, offset_in_directory, value):
    """Change a byte of the central directory, and its twin in the member's own header."""
    content = bytearray(content)
    start = content.index(b"PK\x01\x02")
    content[start + offset_in_directory] = value
    content[offset_in_directory - 2] = value
    return bytes(content)


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, 99)], ids=["encrypted", "unknown"])
def test_members_packed_in_other_ways_are_refused(folder, offset, value):
    with pytest.raises(FormatError, match="cannot be read as arrays"):
        folder.read(damaged(archive(x=GOOD), offset, value), "npz")


def test_a_deflated_member_that_was_damaged_is_refused(folder):
    content = bytearray(archive(zipfile.ZIP_DEFLATED, x=GOOD))
    begin = content.index(b"x.npy") + len(b"x.npy")
    content[begin : begin + 20] = b"\xff" * 20
    with pytest.raises(FormatError, match="cannot be read as arrays"):
        folder.read(bytes(content), "npz")


def test_an_archive_that_would_unpack_to_too_much_is_refused_unread(folder):
    content = io.BytesIO()
    np.savez_compressed(content, x=np.zeros((10**6, 1)), y=np.zeros((10**6, 1)))
    assert len(content.getvalue()) < 20_000
    with pytest.raises(FormatError, match=r"unpacks to 16,000,\d+ bytes; at most 10,000,000"):
        folder.read(content.getvalue(), "npz")
    size = sum(member.file_size for member in zipfile.ZipFile(content).infolist())
    with pytest.raises(FormatError, match="unpacks to"):
        folder.read(content.getvalue(), "npz", limit_bytes=size - 1)
    assert folder.read(content.getvalue(), "npz", limit_bytes=size).rows == 10**6


def test_an_archive_that_lies_about_its_size_is_refused(folder):
    content = bytearray(archive(zipfile.ZIP_DEFLATED, x=npy(np.zeros(10**6))))
    start = content.index(b"PK\x01\x02")
    content[start + 24 : start + 28] = (1000).to_bytes(4, "little")
    with pytest.raises(FormatError, match="cannot be read as arrays"):
        folder.read(bytes(content), "npz")


# -- compressed files ----------------------------------------------------------------------------

TEXT = b"x,y\n" + b"1,2\n" * 100_000


def zstd(data):
    return pa.compress(data, codec="zstd", asbytes=True)


EVERY_COMPRESSION = pytest.mark.parametrize(
    ("compression", "pack"), [("gzip", gzip.compress), ("zstd", zstd)], ids=["gzip", "zstd"]
)


FULL = Path("/dev/full")


def unpack(folder, packed, compression, limit_bytes):
    folder.source.write_bytes(packed)
    decompress(folder.source, folder.kept, compression, limit_bytes)
    return folder.kept.read_bytes()


@EVERY_COMPRESSION
def test_a_file_is_unpacked_up_to_the_limit(folder, compression, pack, monkeypatch):
    assert unpack(folder, pack(TEXT), compression, len(TEXT)) == TEXT
    assert unpack(folder, pack(b""), compression, 0) == b""
    monkeypatch.setattr(formats, "PIECE_BYTES", 1000)
    assert unpack(folder, pack(TEXT), compression, len(TEXT)) == TEXT


@EVERY_COMPRESSION
def test_a_file_in_several_parts_is_unpacked_whole(folder, compression, pack):
    assert unpack(folder, pack(TEXT) + pack(b"3,4\n"), compression, 10**6) == TEXT + b"3,4\n"


@EVERY_COMPRESSION
@pytest.mark.parametrize("limit_bytes", [0, 1, 1000, len(TEXT) - 1])
def test_what_would_unpack_to_more_than_the_limit_is_refused(
    folder, compression, pack, limit_bytes
):
    with pytest.raises(FormatError, match=f"unpacks to more than the {limit_bytes:,} bytes"):
        unpack(folder, pack(TEXT), compression, limit_bytes)


@EVERY_COMPRESSION
def test_a_bomb_is_put_out_before_it_fills_the_disk(folder, compression, pack):
    packed = pack(bytes(30 * 2**20))
    assert len(packed) < 100_000
    with pytest.raises(FormatError, match="unpacks to more than the 1,000 bytes"):
        unpack(folder, packed, compression, 1000)
    assert folder.kept.stat().st_size <= 1000


@EVERY_COMPRESSION
@pytest.mark.skipif(not FULL.exists(), reason="this system has no full disk to write to")
def test_a_full_disk_is_not_the_fault_of_the_input(folder, compression, pack):
    folder.source.write_bytes(pack(bytes(2**20)))
    with pytest.raises(OSError, match="No space left"):
        decompress(folder.source, FULL, compression, 2**30)


@EVERY_COMPRESSION
def test_memory_is_given_back_after_input_that_was_cut_off(folder, compression, pack):
    packed = pack(b"x,y\n1,2\n" * 1000)[:-9]
    tracemalloc.start()
    for _ in range(30):
        with pytest.raises(FormatError):
            unpack(folder, packed, compression, 10**6)
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept_bytes < formats.PIECE_BYTES


@EVERY_COMPRESSION
def test_input_that_was_cut_off_is_refused_wherever(folder, compression, pack):
    packed = pack(b"x,y\n1,2\n")
    for size in range(1, len(packed)):
        with pytest.raises(FormatError, match=f"not a whole {compression} file"):
            unpack(folder, packed[:size], compression, 10**6)


@EVERY_COMPRESSION
def test_what_is_not_compressed_so_is_refused(folder, compression, pack):
    other = zstd if compression == "gzip" else gzip.compress
    for content in (b"x,y\n1,2\n", other(TEXT), pack(TEXT) + b"1,2\n"):
        with pytest.raises(FormatError, match=f"not a whole {compression} file"):
            unpack(folder, content, compression, 10**6)
