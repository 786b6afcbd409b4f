"""Delimited text: how it is written is sniffed, and what is wrong is said with its line."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.formats import decoding, delimited, kinds, names
from engine.spec import MAX_NAME_LENGTH
from tests.engine.data.formats.files import types, values


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


def test_a_type_that_only_a_late_row_contradicts_is_corrected(folder, small_pieces):
    small_pieces(64)
    table = folder.read("x,y\n" + "1,2\n" * 200 + "one,2.5\n")
    assert types(table) == {"x": "category", "y": "number"}


def test_a_header_may_be_longer_than_what_is_sniffed(folder):
    names = [f"{number:0{MAX_NAME_LENGTH}}" for number in range(1400)]
    table = folder.read(",".join(names) + "\n" + ",".join(["1"] * 1400) + "\n")
    assert list(types(table)) == names


SNIFFED = {
    "commas": ("a,b\n1.5,x\n", {"delimiter": ",", "decimal": "."}),
    "semicolons": ("a;b\n1,5;x\n2,25;y\n", {"delimiter": ";", "decimal": ","}),
    "semicolons, points": ("a;b\n1.5;x\n2.25;y\n", {"delimiter": ";", "decimal": "."}),
    "semicolons, three digits": ("a;b\n1,234;x\n", {"delimiter": ";", "decimal": ","}),
    "tabs": ("a\tb\n1,5\tx,y\n", {"delimiter": "\t", "decimal": ","}),
    "bars": ("a|b\n1|x,y\n2|z\n", {"delimiter": "|", "decimal": "."}),
    "quoted commas": ('a,b\n"1,5","x;y"\n"2,5","z"\n', {"delimiter": ",", "decimal": ","}),
    "thousands": ('a,b\n"1,234.5",x\n"1,000",y\n', {"delimiter": ",", "decimal": "."}),
    "one column": ("a\n1\n", {"delimiter": ",", "decimal": "."}),
    "no header": ("1.5,2\n3,4\n", {"header": False}),
    "numbered header": ("0,1,2\n5,6,7\n", {"header": True}),
    "words above numbers": ("a,2\n5,6\n", {"header": True}),
}


@pytest.mark.parametrize(("content", "expected"), SNIFFED.values(), ids=SNIFFED)
def test_how_a_file_is_written_is_sniffed(folder, content, expected):
    sniffed = folder.ingest(content).sniffed
    assert {name: sniffed[name] for name in expected} == expected


def test_a_file_without_a_header_has_numbered_columns(folder):
    table = folder.read("1.5,2\n3,4\n")
    assert types(table) == {"column_1": "number", "column_2": "integer"}
    assert values(table, "column_1") == [1.5, 3]


def test_the_caller_overrides_what_is_sniffed(folder):
    table = folder.read("1;2,5\n3;4,5\n", delimiter=";", decimal=",", header=True)
    assert types(table) == {"1": "integer", "2,5": "number"}
    assert values(table, "2,5") == [4.5]
    assert folder.read("a,b\n1,2\n", header=False).rows == 2
    assert types(folder.read("a,b\n1,2\n", delimiter=";")) == {"a,b": "number"}


TEXT = "größe,€\n1,ä\n2,ß\n"


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (TEXT.encode(), "utf-8"),
        (TEXT.encode("utf-8-sig"), "utf-8"),
        (TEXT.encode("utf-16"), "utf-16-le"),
        (TEXT.encode("utf-16-le"), "utf-16-le"),
        (TEXT.encode("utf-16-be"), "utf-16-be"),
        (("\ufeff" + TEXT).encode("utf-16-be"), "utf-16-be"),
        (TEXT.encode("cp1252"), "cp1252"),
        (TEXT.replace("€", "e").encode("latin-1"), "cp1252"),
        (TEXT.replace("\n", "\r\n").encode("cp1252"), "cp1252"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_text_is_read_in_many_encodings(folder, content, encoding):
    result = folder.ingest(content)
    assert result.sniffed["encoding"] == encoding
    assert result.columns[0].name == "größe"
    assert [value for value, _ in result.columns[1].top] == ["ß", "ä"]


@pytest.mark.parametrize("size", [5, 7, 64])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_a_letter_may_lie_across_two_pieces(folder, small_pieces, size, encoding):
    small_pieces(size)
    content = "x,y\r\n" + "aä,ö€\r\n" * 50
    table = folder.read(content.encode(encoding), encoding=encoding)
    assert values(table, "x") == ["aä"] * 50
    assert values(table, "y") == ["ö€"] * 50


def test_letters_beyond_ascii_may_come_late(folder, small_pieces):
    small_pieces(64)
    content = "x\n" + "a\n" * 200 + "é\n"
    for encoding in ("utf-8", "cp1252"):
        result = folder.ingest(content.encode(encoding))
        assert result.sniffed["encoding"] == encoding
        assert result.columns[0].top == [["a", 200], ["é", 1]]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("x\né\n".encode() + b"\xff\n", 3),
        (b"x\n1\n\x81\n", 3),
        ("x\n1\n".encode("utf-16") + b"\x00", 3),
        (b"x\n" + "ä".encode() * 100 + b"\n\xe4\n", 3),
    ],
)
def test_bytes_that_are_no_text_are_refused_with_the_line(folder, content, line):
    error = folder.refusal(content)
    assert error.line == line
    assert "that are not text in UTF-8, UTF-16 or Windows-1252; save the file as UTF-8" in str(
        error
    )


CELLS = st.text(alphabet='ab,"\nä ', max_size=4)


@given(
    rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=20),
    size=st.integers(1, 40),
    lines=st.sampled_from(["\n", "\r\n"]),
)
def test_rows_are_cut_where_a_csv_reader_ends_them(shared_folder, rows, size, lines):
    written = io.StringIO()
    csv.writer(written, lineterminator=lines).writerows([("x", "y"), *rows, ("end", "end")])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(decoding, "PIECE_BYTES", size)
        patched.setattr(delimited, "COLUMN_BYTES", 0)
        table = shared_folder.read(
            written.getvalue(), types={"x": "text", "y": "text"}, delimiter=",", header=True
        )
    for position, name in enumerate("xy"):
        expected = [row[position].strip() for row in [*rows, ("end", "end")]]
        assert [(value or "").strip() for value in values(table, name)] == expected


@given(st.text(alphabet='a,"\n', max_size=30))
def test_stray_quotes_are_cut_as_they_are_parsed(text):
    block = f"x\n{text}".encode()
    lines = block.splitlines(keepends=True)
    reader = csv.reader(io.StringIO(block.decode(), newline="\n"))
    ends = [sum(map(len, lines[: reader.line_num])) for _ in reader]
    whole = [end for end in ends if block[:end].endswith(b"\n")]
    if delimited._is_open(block, ","):  # the reader ends the last row where the text ends
        whole = [end for end in whole if end < len(block)]
    assert delimited._end_of_rows(block, ",") == max(whole)


def test_a_quote_within_a_value_is_part_of_it(folder):
    column = folder.column('5" pipe', '6"', '"7"""')
    assert [value for value, _ in column.top] == ['5" pipe', '6"', '7"']


# -- what is refused -----------------------------------------------------------------------------


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
        ('"x\nz",y\n1,2\n', 1, None, "column 1 has a name with control characters"),
        ("a\x1bb\n1\n", 1, None, "holds the control character 0x1b, which is in no text"),
        ("x\u0085,y\n1,2\n", 1, None, "column 1 has a name with control characters"),
        ("x,e\u0301\n1,2\n", 1, None, "column 2 has a name that is not in Unicode's normal form"),
        ("x,y\n1,2\n3,a\0b\n", 3, None, "holds the control character 0x00, which is in no text"),
        (
            'x,y\n1,2\n3,"4\n5,6\n',
            3,
            None,
            "a quoted value is not closed in the row that begins here",
        ),
        ('x\n1\n"2\n3\n', 3, None, "a quoted value is not closed in the row that begins here"),
        ('x\n"1\n1"\n"2\n3\n', 4, None, "a quoted value is not closed in the row that begins here"),
        ('x\n"2""\n', 2, None, "a quoted value is not closed in the row that begins here"),
        ('x,"y\n1,2\n', 1, None, "a quoted value is not closed in the row that begins here"),
        (
            'x\n1\n"' + "2\n" * 100_000,
            3,
            None,
            "a quoted value is not closed in the row that begins here",
        ),
        ('x,y\n5" a,b\n"6', 3, None, "a quoted value is not closed in the row that begins here"),
        ("x,y\n1,ä\n2\n", 3, None, "expected 2 values as in the header, got 1"),
        ("\ufeffx,y\n1,2\n3\n", 3, None, "expected 2 values as in the header, got 1"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_its_line(folder, content, line, column, reason):
    error = folder.refusal(content)
    assert (error.line, error.column) == (line, column)
    assert error.reason.startswith(reason)


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
    error = shared_folder.refusal(content)
    assert error.line == before.count("\n") + 1
    assert error.reason == "expected 2 values as in the header, got 3"


def test_a_ragged_row_far_down_is_found(folder):
    content = "x,y\n" + "1,2\n" * 100_000 + "1,2,3\n"
    assert folder.refusal(content).line == 100_002


def test_tabs_are_counted_where_tabs_separate(folder):
    assert folder.refusal("x\ty\n1\t2\n1,2\n", "tsv").line == 3


def test_a_name_may_be_so_long_and_no_longer(folder):
    longest = "ä" * MAX_NAME_LENGTH
    assert types(folder.read(f"{longest},y\n1,2\n")) == {longest: "integer", "y": "integer"}


def test_more_columns_than_a_spec_may_name_are_refused(folder, monkeypatch):
    monkeypatch.setattr(names, "MAX_COLUMNS", 3)
    assert len(folder.read("a,b,c\n1,2,3\n").columns) == 3
    assert folder.refusal("a,b,c,d\n1,2,3,4\n").reason == "4 columns; at most 3 are allowed"


@pytest.mark.parametrize(
    ("quote", "reason"), [("", "a row that is longer than"), ('"', "a quoted value is not closed")]
)
def test_a_row_that_has_no_end_is_refused(folder, monkeypatch, small_pieces, quote, reason):
    small_pieces(1000)
    monkeypatch.setattr(delimited, "ROW_LIMIT_BYTES", 5000)
    error = folder.refusal("x\n1\n" + quote + "a," * 5000)
    assert (error.line, reason in str(error)) == (3, True)


def test_a_long_value_is_refused_with_its_line(folder):
    most = kinds.STRING_LIMIT_BYTES
    assert folder.read(f"x,y\n{'a' * most},1\n").rows == 1
    error = folder.refusal(f"x,y\nb,1\n{'a' * (most + 1)},2\n")
    assert str(error).startswith("column 'x': line 3 holds a string of 32,769 bytes")
    error = folder.refusal(f"x,y\n\nb,1\n{'a' * 10 * most},2\n1,3\n")
    assert str(error).startswith("column 'x': line 4 holds a string of 327,680 bytes")


@pytest.mark.parametrize("name", ["x", '"\n"'])
def test_columns_are_counted_before_any_is_made(folder, name):
    content = f"{name}," * names.MAX_COLUMNS + "y\n1\n"
    assert f"{names.MAX_COLUMNS + 1:,} columns" in str(folder.refusal(content))


def test_values_are_counted(folder):
    content = "x,y\n" + "1,2\n" * 500
    assert folder.read(content, limits=kinds.Limits(cells=1000)).rows == 500
    error = folder.refusal(content, limits=kinds.Limits(cells=999))
    assert str(error) == "holds more than the 999 values allowed; leave out rows or columns"
