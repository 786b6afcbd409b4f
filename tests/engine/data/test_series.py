"""Series: rows in order, whatever their order in the file, and what is uneven about them."""

from __future__ import annotations

import numpy as np
import pytest

from engine.data.series import arrange, name_ties
from engine.data.table import Column, Table
from engine.errors import DataError, SchemaError
from engine.spec import SequenceSpec
from tests.engine.beginnings import column, table

BY_T, BY_S = SequenceSpec(order="t"), SequenceSpec(order="t", group="s")


def times(*written):
    return Table((Column("t", "timestamp", np.array(written, dtype="datetime64[us]")),))


def texts(*values):
    return Column("s", "text", np.array(values, dtype=object))


def test_rows_are_sorted_by_series_and_within_each_by_the_order():
    rows = table(s=["b", "a", "b", "a", "a"], t=[2, 3, 1, 1, 2], x=[0.0, 1.0, 2.0, 3.0, 4.0])
    found = arrange(rows, BY_S)
    assert found.table.column("x").values.tolist() == [3, 4, 1, 2, 0]
    assert found.rows.tolist() == [3, 4, 1, 2, 0]
    assert (found.starts.tolist(), found.lengths.tolist()) == ([0, 3], [3, 2])
    assert found.places.tolist() == [0, 0, 0, 1, 1]
    assert found.name(1) == "series 'b'"


def test_a_table_that_is_sorted_is_not_copied():
    rows = table(t=[1, 2, 3])
    assert arrange(rows, BY_T).table is rows


@pytest.mark.parametrize(
    "groups",
    [
        column("s", [7, 2, 7]),
        column("s", [2.5, -1.0, 2.5]),
        column("s", [True, False, True]),
        texts("two words", "other", "two words"),
    ],
)
def test_series_may_be_told_apart_by_numbers_and_texts(groups):
    found = arrange(Table((groups, column("t", [1, 1, 2]))), BY_S)
    assert found.rows.tolist() == [1, 0, 2]


def test_rows_of_one_place_are_named():
    rows = table(s=["a", "b", "b", "b", "a"], t=[1, 5, 4, 5, 1])
    with pytest.raises(DataError) as refusal:
        arrange(rows, BY_S)
    assert refusal.value.reason == (
        "column 't' has 1 twice in series 'a': rows of one place are 1 and 5, 2 and 4 "
        "(the first row is 1); leave one of them out, or order by another column"
    )
    with pytest.raises(DataError, match="tells series apart in `group`"):
        arrange(times("2030-01-01", "2030-01-02", "2030-01-01"), BY_T)


@pytest.mark.parametrize(
    ("order", "count", "said"),
    [
        ([4, 9, 4], 1, "1 and 3"),
        ([4, 9, 9, 4, 9], 3, "2 and 3, 1 and 4, 3 and 5"),
        ([1, 1, 1, 1, 1], 4, "1 and 2, 2 and 3, 3 and 4 and 1 more pair"),
        ([4, 9, 4], 2_000, "1 and 3 and 1,999 more pairs"),
    ],
)
def test_rows_that_tie_are_named_in_the_order_of_the_file(order, count, said):
    named = name_ties(column("t", order), count)
    assert named == f"rows of one place are {said} (the first row is 1)"


def test_one_time_may_be_in_several_series():
    assert arrange(table(s=["a", "b"], t=[1, 1]), BY_S).starts.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("rows", "row"),
    [
        (table(t=[1.0, None, 3.0]), 2),
        (table(t=[1.0, 2.0, np.inf]), 3),
        (times("2030-01-01", "NaT"), 2),
        (Table((column("t", [1, 2]), texts("a", None))), 2),
        (Table((column("t", [1, 2]), column("s", ["a", None]))), 2),
    ],
)
def test_a_row_without_a_place_is_refused(rows, row):
    with pytest.raises(SchemaError) as refusal:
        arrange(rows, BY_S if len(rows.columns) > 1 else BY_T)
    assert refusal.value.got == f"1 missing or infinite, the first in row {row}"


def test_what_orders_nothing_is_refused():
    with pytest.raises(SchemaError, match="expected one of the types number, integer, timestamp"):
        arrange(table(t=["a", "b"]), BY_T)


def test_gaps_are_found_and_the_first_are_told():
    places = [*range(30), *range(40, 60), *range(70, 90)]
    shuffled = np.random.default_rng(0).permutation(places).tolist()
    found = arrange(table(t=shuffled), BY_T)
    assert found.moments[np.flatnonzero(found.gaps)].tolist() == [40, 70]
    rows = [[shuffled.index(place) + 1 for place in pair] for pair in [(29, 40), (59, 70)]]
    assert found.describe() == [
        "gaps: 2 steps are of another size than the others of its series: from 29 to 40 "
        f"(rows {rows[0][0]} and {rows[0][1]}); from 59 to 70 (rows {rows[1][0]} and {rows[1][1]})"
    ]


@pytest.mark.parametrize(
    "even",
    [
        table(t=[0, 5, 10, 15]),
        table(t=(np.arange(200) * 0.1).tolist()),
        times("2030-01-31", "2030-02-28", "2030-03-31", "2030-04-30"),
        times(*(f"20{year}-02-01T12:00" for year in range(24, 30))),
        times("2030-01-01", "2030-02-01", "2030-03-01", "2030-04-01"),
        times("2030-01-01T00:00", "2030-01-01T06:00", "2030-01-01T12:00"),
        table(t=[4]),
    ],
)
def test_months_and_years_are_even_steps_as_well(even):
    found = arrange(even, BY_T)
    assert not found.gaps.any()
    assert not found.uneven.any()
    assert found.describe() == []


def test_a_month_that_is_not_there_is_a_gap():
    months = [f"2030-{month:02d}-01" for month in (1, 2, 3, 5, 6)]
    assert arrange(times(*months), BY_T).gaps.tolist() == [False, False, False, True, False]


def test_each_series_has_a_step_of_its_own():
    rows = table(s=["a"] * 12 + ["b"] * 5, t=[*range(12), 0, 7, 14, 28, 35])
    found = arrange(rows, BY_S)
    assert np.flatnonzero(found.gaps).tolist() == [15]


def test_what_is_not_evenly_spaced_has_no_gaps_and_a_note():
    weekdays = [day for day in range(70) if day % 7 < 5]
    rows = table(s=["b"] * 4 + ["a"] * len(weekdays), t=[1, 2, 3, 4, *weekdays])
    found = arrange(rows, BY_S)
    assert not found.gaps.any()
    assert found.describe() == [
        "not evenly spaced, and taken as if they were: series 'a'; first "
        "from 4 to 7 (rows 9 and 10); from 11 to 14 (rows 14 and 15); "
        "from 18 to 21 (rows 19 and 20)"
    ]
