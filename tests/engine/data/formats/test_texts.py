"""Strings: what they are taken for, and what is said about it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.data.formats import texts
from engine.data.formats.stored import first_rows, read_table
from engine.data.formats.texts import CATEGORY_LEVELS
from tests.engine.data.formats.files import assert_same_tables, types, values


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


NUMBERS = {
    "thousands": (["1,234", "12", "1,234,567.5"], [1234, 12, 1234567.5]),
    "spaces": (["1 234", "1\u00a0234,5".replace(",5", ".5"), "7"], [1234, 1234.5, 7]),
    "apostrophes": (["1'234'567", "1"], [1234567, 1]),
    "dollars": (["$1,234.50", "-$3", "$ 5"], [1234.5, -3, 5]),
    "euros": (["12 €", "3.5€", "1 EUR"], [12, 3.5, 1]),
    "percent": (["12%", "3.5 %", "-1%"], [12, 3.5, -1]),
    "signs": (["+5", "-5", ".5"], [5, -5, 0.5]),
    "exponents": (["1e3", "2E-1"], [1000, 0.2]),
    "blanks": ([" 5.5", "6 ", "  "], [5.5, 6, math.nan]),
}


def quoted(cells):
    return "".join(f'"{cell}"\n' for cell in cells)


@pytest.mark.parametrize(("cells", "numbers"), NUMBERS.values(), ids=NUMBERS)
def test_numbers_are_read_as_people_write_them(folder, cells, numbers):
    table = folder.read("x\n" + quoted(cells), delimiter=";")
    assert types(table) == {"x": "number"}
    np.testing.assert_array_equal(values(table, "x"), numbers)


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["1,5", "2", "-0,25"], [1.5, 2, -0.25]),
        (["1.234,5", "1.000.000", "7"], [1234.5, 1_000_000, 7]),
        (["1 234,5 €", "7 %"], [1234.5, 7]),
    ],
)
def test_a_comma_may_stand_before_the_fraction(folder, cells, numbers):
    table = folder.read("x\n" + quoted(cells), decimal=",", delimiter=";")
    assert values(table, "x") == numbers


@pytest.mark.parametrize(
    "cells", [["1.5", "2,5"], ["1.23.4", "1"], ["1,23,456", "1"], ["0x10", "1"]]
)
def test_what_only_looks_like_a_number_is_a_category(folder, cells):
    table = folder.read("x\n" + quoted(cells), decimal=",", delimiter=";")
    assert types(table) == {"x": "category"}


def test_a_decorated_number_is_explained(folder):
    assert folder.column("1", '"$1,234.5"', "2").notes == ["'$1,234.5' is read as 1234.5"]
    assert folder.column("1", "2.5").notes == []


TIMES = {
    "day": (["2026-01-31", "2025-12-01"], "2026-01-31T00:00:00.000000Z"),
    "month": (["2026-01", "2025-12"], "2026-01-01T00:00:00.000000Z"),
    "slashes": (["2026/01/31", "2026/1/2"], "2026-01-31T00:00:00.000000Z"),
    "minutes": (["2026-01-31 09:30", "2026-01-01 10:00"], "2026-01-31T09:30:00.000000Z"),
    "German": (["31.1.2026", "1.12.2025"], "2026-01-31T00:00:00.000000Z"),
    "German time": (["31.01.2026 9:30", "01.12.2025 10:00:01"], "2026-01-31T09:30:00.000000Z"),
    "American": (["1/31/2026", "12/01/2025"], "2026-01-31T00:00:00.000000Z"),
    "British": (["31/1/2026", "1/12/2025"], "2026-01-31T00:00:00.000000Z"),
    "dashes": (["31-01-2026", "1-12-2025"], "2026-01-31T00:00:00.000000Z"),
    "zone": (["2026-01-31T01:00:00+01:00", "2026-01-01T00:00:00Z"], "2026-01-31T00:00:00.000000Z"),
}


@pytest.mark.parametrize(("cells", "latest"), TIMES.values(), ids=TIMES)
def test_times_are_read_in_many_styles(folder, cells, latest):
    column = folder.column(*cells)
    assert (column.type, column.max, column.notes) == ("timestamp", latest, [])


def test_an_ambiguous_date_is_noted_and_the_caller_can_say(folder):
    cells = ["1/2/2026", "3/4/2026"]
    column = folder.column(*cells)
    assert column.max == "2026-03-04T00:00:00.000000Z"
    assert column.notes == [
        "dates (month/day/year) or dates (day/month/year): no value tells which; "
        "taken as dates (month/day/year), `day_first` says otherwise"
    ]
    column = folder.column(*cells, day_first=True)
    assert (column.max, column.notes) == ("2026-04-03T00:00:00.000000Z", [])


def test_one_late_day_decides_for_the_whole_column(folder, small_pieces):
    small_pieces(64)
    column = folder.column(*["1/2/2026"] * 100, "31/2/2026".replace("31/2", "31/1"))
    assert (column.min, column.notes) == ("2026-01-31T00:00:00.000000Z", [])


def test_a_day_that_no_calendar_has_is_named_with_its_line(folder):
    error = folder.refusal("x\n28.2.2026\n1.2.2026\n30.2.2026\n1.3.2026\n")
    assert str(error) == (
        "column 'x': line 4 holds '30.2.2026', but no calendar has such a day; the others are "
        "dates (day.month.year); mend it, name it in `missing`, or let `types` say category or text"
    )


NO_DAYS = {
    "29 February": ["2024-02-29", "2023-02-29", "2023-03-01"],
    "31 April": ["30/04/2023", "31/04/2023", "13/04/2023"],
    "month 13": ["2023-12-01", "2023-12-02", "2023-13-01"],
    "nothing": ["2023-12-01", "2023-12-02", "0000-00-00"],
    "American": ["02/30/2023", "02/28/2023", "12/31/2023"],
    "with a time": ["2023-02-28 09:30", "2023-02-29 09:30", "2023-03-01 10:00"],
    "with a zone": ["2023-02-28T09:30:00Z", "2023-02-29T09:30:00Z", "2023-03-01T10:00:00Z"],
    "blanks": [" 2023-12-01", "2023-12-32", "2023-12-02 ", "2023-12-03"],
    "one in ten": [*["1.3.2026"] * 18, "31.4.2026", "32.4.2026"],
}


@pytest.mark.parametrize("cells", NO_DAYS.values(), ids=NO_DAYS)
def test_a_day_that_no_calendar_has_is_refused_among_dates(folder, small_pieces, cells):
    reasons = []
    for size in (1 << 20, 8):
        small_pieces(size)
        reasons.append(str(folder.refusal("\n".join(["x", *cells, ""]), delimiter=",")))
    assert "no calendar has such a day" in reasons[0]
    assert reasons[0] == reasons[1]


NO_DATES = {
    "two values": ["2023-02-28", "2023-02-29"],
    "many": [*["1.3.2026"] * 8, "31.4.2026", "32.4.2026"],
    "numbers of a telephone": ["12-34-5678", "01-02-2003", "55-12-3456", "11-11-1111"],
    "versions": ["2024.1.1", "2024.1.2", "2024.2.0", "2024.2.1"],
    "weeks": ["2024-11", "2024-12", "2024-13"],
    "and a word": ["2023-02-28", "2023-02-29", "2023-03-01", "soon"],
    "an hour": ["2023-02-28 23:00", "2023-02-28 25:00", "2023-03-01 10:00"],
}


@pytest.mark.parametrize("cells", NO_DATES.values(), ids=NO_DATES)
def test_what_only_looks_like_a_date_is_a_category(folder, small_pieces, cells):
    for size in (1 << 20, 8):
        small_pieces(size)
        assert folder.column(*cells).type == "category"


def test_the_caller_says_what_a_day_that_no_calendar_has_is(folder):
    cells = ["2023-12-01", "2023-12-02", "0000-00-00"]
    assert folder.column(*cells, types={"x": "category"}).distinct == 3
    column = folder.column(*cells, missing=("0000-00-00",))
    assert (column.type, column.missing) == ("timestamp", 1)


@pytest.mark.parametrize(
    "cells", [["yes", "no"], ["Y", "n"], ["TRUE", "False"], ["t", "f"], ["true", "no", "Y"]]
)
def test_words_for_true_and_false_are_booleans(folder, cells):
    table = folder.read("\n".join(["x", *cells, ""]))
    assert types(table) == {"x": "boolean"}
    assert values(table, "x") == [float(cell[0].lower() in "yt") for cell in cells]


def test_other_words_than_true_and_false_are_named(folder):
    column = folder.column("yes", "No", "no", "no")
    assert column.notes == ["'yes' is read as true", "'No' and 'no' are read as false"]
    assert column.top == [["no", 3], ["yes", 1]]
    column = folder.column("true", "False")
    assert (column.notes, column.top) == ([], [[False, 1], [True, 1]])
    assert folder.column("yes", "no", "maybe").type == "category"


@pytest.mark.parametrize(
    ("cells", "levels"),
    [
        (["yes", "no"], ("no", "yes")),
        (["N", "Y", "Y", "N"], ("N", "Y")),
        (["YES", "no", "NO", "NO"], ("NO", "YES")),
        (["yes", "true", "true", "false"], ()),
        (["Yes", "Yes"], ("No", "Yes")),
        (["NO"], ("NO", "YES")),
        (["f"], ("f", "t")),
        (["N"], ("N", "Y")),
    ],
)
def test_the_words_for_true_and_false_are_kept(folder, small_pieces, cells, levels):
    for size in (1 << 20, 4):
        small_pieces(size)
        assert folder.read("\n".join(["x", *cells, ""])).column("x").levels == levels


def test_rows_show_the_words_that_are_kept(folder):
    folder.read("x,y\nNo,true\nyes,false\nyes,true\n,\nNo,true\nNo,true\n")
    shown = [(row["x"], row["y"]) for row in first_rows(folder.kept, 4)]
    assert shown == [("No", True), ("yes", False), ("yes", True), (None, None)]


MARKS = ["", "NA", "N/A", "?", "-", "null", "NULL", "NaN", "nan", " NA "]


@pytest.mark.parametrize("mark", MARKS)
def test_marks_of_what_is_missing_are_missing_in_every_type(folder, mark):
    for value in ("1", "1.5", "$5", "yes", "a", "2026-01-01", "1.1.2026"):
        content = f"x,y\n{value},1\n{mark},1\n{value},1\n"
        assert folder.ingest(content).columns[0].missing == 1


def test_marks_that_might_be_values_are_counted(folder):
    assert folder.column("1", "?", "?", "-", "2").notes == [
        "'?' counts as missing, 2 times",
        "'-' counts as missing, 1 times",
    ]


def test_the_caller_says_what_counts_as_missing(folder):
    content = "x,y\n1,?\n-999,b\n,NA\n"
    result = folder.ingest(content, missing=("-999",))
    assert [column.missing for column in result.columns] == [2, 0]
    assert result.columns[1].distinct == 3


def test_numbers_that_end_far_down_are_named_with_the_line(folder, small_pieces):
    small_pieces(10_000)
    content = "x,y\n" + "".join(f'{row},"a\nb"\n' for row in range(5000)) + "abc,c\n1,d\n"
    [column, _] = folder.ingest(content).columns
    assert column.type == "text"
    assert column.notes[0] == "whole numbers up to line 10,002, where it holds 'abc'; taken as text"


def test_a_fraction_far_down_makes_numbers_of_integers(folder, small_pieces):
    small_pieces(64)
    column = folder.column(*["1"] * 100, "1.5", *["1"] * 100)
    assert (column.type, column.max, column.notes) == ("number", 1.5, [])


@pytest.mark.parametrize(
    ("kind", "cells"),
    [
        ("number", ["1", "2"]),
        ("integer", ["1", "2"]),
        ("boolean", ["y", "n"]),
        ("category", ["1", "2"]),
        ("text", ["a", "b"]),
        ("timestamp", ["2026-01-01", "2026-01-02"]),
    ],
)
def test_the_caller_says_what_a_column_is_taken_for(folder, kind, cells):
    assert folder.column(*cells, types={"x": kind}).type == kind


@pytest.mark.parametrize("kind", ["number", "integer", "boolean", "timestamp"])
def test_a_value_that_is_not_what_the_caller_says_is_refused_with_its_line(folder, kind):
    error = folder.refusal("x\n?\nabc\n", types={"x": kind})
    assert str(error) == f"column 'x': line 3 holds 'abc', but `types` says {kind}"


def test_a_column_that_is_not_there_cannot_be_told_its_type(folder):
    error = folder.refusal("colour\na\n", types={"color": "text"})
    assert "no such column; did you mean 'colour'?" in str(error)


def test_a_category_has_only_so_many_levels(folder, monkeypatch):
    monkeypatch.setattr(texts, "FORCED_LEVELS", 30)
    words = [f"w{row}" for row in range(31)]
    assert folder.column(*words[:30], types={"x": "category"}).type == "category"
    error = folder.refusal("\n".join(["x", *words]), types={"x": "category"})
    assert "more than 30 levels; `types` may say text" in str(error)


def test_a_column_of_nothing_is_noted(folder):
    [column, _] = folder.ingest("x,y\n,1\nNA,2\n").columns
    assert (column.type, column.missing) == ("number", 2)
    assert column.notes == ["holds no value at all"]
