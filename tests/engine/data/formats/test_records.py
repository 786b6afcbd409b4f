"""JSON: objects on lines or in an array, and what is wrong with them."""

from __future__ import annotations

import json

import pytest

from engine.data.formats import records
from engine.data.formats.stored import first_rows
from tests.engine.data.formats.files import types, values

ROWS = [
    {"n": 1, "x": 1.5, "b": True, "c": "red", "t": "2026-01-02"},
    {"n": 2, "x": None, "b": False, "c": "grün", "t": "2026-01-03", "late": 7},
    {"x": 1e3, "c": "red"},
]
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n"
BOTH = pytest.mark.parametrize("file_format", ["ndjson", "json"])


@pytest.mark.parametrize(
    ("content", "file_format"),
    [
        (LINES, "ndjson"),
        (LINES.rstrip("\n"), "ndjson"),
        (LINES.replace("\n", "\r\n\r\n"), "ndjson"),
        ("\ufeff" + LINES, "ndjson"),
        (json.dumps(ROWS), "json"),
        (json.dumps(ROWS, indent=2, ensure_ascii=False), "json"),
        ("\ufeff " + json.dumps(ROWS) + "\n\n", "json"),
        (LINES, "json"),
        (json.dumps(ROWS, indent=1).encode("utf-16"), "json"),
    ],
    ids=range(9),
)
def test_objects_are_rows_and_their_names_columns(folder, content, file_format):
    table = folder.read(content, file_format)
    assert types(table) == {
        "n": "integer",
        "x": "number",
        "b": "boolean",
        "c": "category",
        "t": "timestamp",
        "late": "integer",
    }
    assert values(table, "c") == ["red", "grün", "red"]
    assert first_rows(folder.kept, 3)[2] == {**dict.fromkeys("nbt"), "late": None} | {
        "x": 1000,
        "c": "red",
    }


@BOTH
@pytest.mark.parametrize("size", [1, 7, 40])
def test_objects_may_lie_across_pieces(folder, monkeypatch, small_pieces, file_format, size):
    small_pieces(size)
    monkeypatch.setattr(records, "PIECE_VALUES", 6)
    rows = [{"x": number, "word": f"{number} ä{{]"} for number in range(40)]
    between = "\n" if file_format == "ndjson" else ",\n"
    content = between.join(map(json.dumps, rows))
    table = folder.read(content if file_format == "ndjson" else f"[{content}]", file_format)
    assert values(table, "x") == list(range(40))
    assert values(table, "word") == [row["word"] for row in rows]


REFUSED = {
    "nothing": ("", None, None, "the file holds no rows"),
    "cut": ('{"x": 1}\n{"x": 2', 2, None, "not JSON: "),
    "word": ('{"x": 1}\n{"x": blue}\n', 2, None, "not JSON: Expecting value"),
    "number": ('{"x": 1}\n5\n', 2, None, 'expected an object such as {"x": 1}, got a number'),
    "list": ('{"x": 1}\n[1, 2]\n', 2, None, 'expected an object such as {"x": 1}, got an array'),
    "null": ("null\n", 1, None, 'expected an object such as {"x": 1}, got null'),
    "nested": ('{"x": 1}\n{"x": {"y": 1}}\n', 2, "x", "holds an object; give each of its parts"),
    "array": ('{"x": [1, 2]}\n', 1, "x", "holds an array; give each of its parts a column"),
    "twice": ('{"x": 1, "x": 2}\n', 1, None, "the name 'x' appears twice in one object"),
    "deep": ('{"x": ' + "[" * 100_000, 1, None, "nested too deeply"),
    "empty": ("{}\n{}\n", None, None, "the objects are empty"),
    "no name": ('{"": 1}\n', None, None, "column 1 has no name"),
    "control": ('{"a\\u0000": 1}\n', None, None, "column 1 has a name with control characters"),
    "half a pair": ('{"x": "\\ud800"}\n', None, "x", "holds half a surrogate pair"),
    "half a name": (
        '{"\\ud800": "x"}\n',
        None,
        None,
        "column 1 has a name with control characters",
    ),
    "NUL": ('{"x": 1}\n\0\n', 2, None, "holds the control character 0x00"),
}


@pytest.mark.parametrize(("content", "line", "column", "reason"), REFUSED.values(), ids=REFUSED)
@BOTH
def test_what_is_no_row_is_refused_with_its_line(
    folder, file_format, content, line, column, reason
):
    error = folder.refusal(content, file_format)
    assert error.reason.startswith(reason)
    assert (error.line, error.column) == (line, column)


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ('[{"x": 1},\n{"x": 2}\n', 2 + 1, "the array is not closed; the file may be cut short"),
        ('[{"x": 1},\n{"x": 2', 2, "not JSON: Expecting ',' delimiter"),
        ('[{"x": 1}\n{"x": 2}]', 2, "expected a comma between two objects"),
        ('[{"x": 1},\n]', 2, "expected an object after the comma"),
        ('[{"x": 1}]\n{"x": 2}', 2, "something follows the array; expected its end"),
        ("[]", None, "the file holds no rows"),
        ("[", 1, "the array is not closed"),
        ("]", 1, "the array is not closed"),
        ("x,y\n1,2\n", 1, "not JSON: Expecting value"),
    ],
)
def test_an_array_that_is_none_is_refused_with_its_line(folder, content, line, reason):
    error = folder.refusal(content, "json")
    assert error.reason.startswith(reason)
    assert error.line == line


def test_an_array_on_a_line_is_told_its_format(folder):
    error = folder.refusal('[{"x": 1},\n{"x": 2}]', "ndjson")
    assert str(error).endswith("an array of rows is the format `json`")


@BOTH
def test_a_row_that_has_no_end_is_refused(folder, monkeypatch, small_pieces, file_format):
    small_pieces(1000)
    monkeypatch.setattr(records, "ROW_LIMIT_CHARACTERS", 5000)
    error = folder.refusal('{"x": 1}\n{"x": "' + "a" * 100_000, file_format)
    assert (error.line, "longer than the 5,000" in str(error)) == (2, True)


def test_numbers_of_very_many_digits_are_no_trouble(folder):
    table = folder.read('{"x": 1' + "0" * 10_000 + '}\n{"x": NaN}\n{"x": -Infinity}\n', "ndjson")
    assert [str(value) for value in values(table, "x")] == ["inf", "nan", "-inf"]
