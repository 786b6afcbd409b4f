"""Profiles against figures worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan, sqrt

import numpy as np
import pytest

from engine.data import profiling, summaries
from engine.data.profiling import QUANTILES, TOP, ColumnProfile, Profiler, profile
from engine.data.table import Column, Table
from tests.engine.beginnings import column


def profiled(*columns):
    [only] = profile(Table(columns))
    return only


def test_a_number_column_by_hand():
    values = np.array([1.0, nan, 4.0, inf, 1.0, -inf, nan, 6.0])
    assert profiled(Column("x", "number", values)) == ColumnProfile(
        name="x",
        type="number",
        missing=2,
        first_missing=2,
        non_finite=2,
        first_non_finite=4,
        distinct=3,
        min=1.0,
        max=6.0,
        mean=3.0,
        std=pytest.approx(sqrt((4 + 1 + 4 + 9) / 4)),
        quantiles={
            "0.05": 1.0,
            "0.25": 1.0,
            "0.5": 2.5,
            "0.75": 4.5,
            "0.95": pytest.approx(5.7),
        },
        top=[[1.0, 2], [4.0, 1], [6.0, 1]],
    )


def test_nothing_is_first_where_nothing_is_missing():
    for values in ([1.0, 2.0], ["a", "b"], np.ones((2, 2))):
        got = profiled(column("x", values))
        assert (got.missing, got.non_finite) == (0, 0)
        assert (got.first_missing, got.first_non_finite) == (None, None)


def test_figures_of_half_precision_are_worked_out_in_double():
    got = profiled(Column("t", "tensor", np.full((9, 2), 60_000, dtype=np.float16)))
    assert (got.mean, got.std) == (60_000, 0)


def test_integers_and_booleans_are_shown_as_such():
    assert profiled(column("n", [3, 1, 3, None])).top == [[3, 2], [1, 1]]
    assert repr(profiled(column("n", [3, 1, 3])).top) == "[[3, 2], [1, 1]]"
    assert repr(profiled(column("b", [True, False, True])).top) == "[[True, 2], [False, 1]]"
    assert repr(profiled(column("x", [0.5, 0.5])).top) == "[[0.5, 2]]"


def test_a_category_column_by_hand():
    assert profiled(column("c", ["b", None, "a", "b", None])) == ColumnProfile(
        name="c",
        type="category",
        missing=2,
        first_missing=2,
        distinct=2,
        top=[["b", 2], ["a", 1]],
    )


def test_a_level_that_does_not_occur_is_not_counted():
    codes = np.array([0, 0, 2], dtype=np.int32)
    got = profiled(Column("c", "category", codes, ("a", "b", "c")))
    assert got.distinct == 2


def test_a_text_column_by_hand():
    values = np.array(["x", "y", None, "x"], dtype=object)
    assert profiled(Column("t", "text", values)) == ColumnProfile(
        name="t",
        type="text",
        missing=1,
        first_missing=3,
        distinct=2,
        top=[["x", 2], ["y", 1]],
    )


def test_a_timestamp_column_by_hand():
    values = np.array(["NaT", "2026-01-02T03:04:05", "1970-01-01"], dtype="datetime64[us]")
    assert profiled(Column("t", "timestamp", values)) == ColumnProfile(
        name="t",
        type="timestamp",
        missing=1,
        first_missing=1,
        distinct=2,
        min="1970-01-01T00:00:00.000000Z",
        max="2026-01-02T03:04:05.000000Z",
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_tensor_column_by_hand(dtype):
    values = np.array([[[1], [2]], [[nan], [inf]], [[3], [inf]], [[5], [8]]], dtype=dtype)
    assert profiled(Column("t", "tensor", values)) == ColumnProfile(
        name="t",
        type="tensor",
        missing=1,
        first_missing=2,
        non_finite=2,
        first_non_finite=2,
        min=1.0,
        max=8.0,
        mean=4.0,
        std=pytest.approx(sqrt((9 + 4 + 1 + 16) / 4)),
        shape=[2, 1],
    )


def test_a_tensor_of_integers_has_a_profile():
    got = profiled(Column("t", "tensor", np.arange(6, dtype=np.uint8).reshape(2, 3)))
    assert (got.missing, got.min, got.max, got.shape) == (0, 0.0, 5.0, [3])


@pytest.mark.parametrize("kind", ["number", "timestamp", "text", "category"])
def test_a_column_of_nothing_has_no_figures(kind):
    nothing = {
        "number": np.array([nan, nan]),
        "timestamp": np.array(["NaT", "NaT"], dtype="datetime64[us]"),
        "text": np.array([None, None], dtype=object),
        "category": np.array([-1, -1], dtype=np.int32),
    }
    got = profiled(Column("x", kind, nothing[kind]))
    assert (got.missing, got.first_missing, got.distinct) == (2, 1, 0)
    assert (got.min, got.max, got.mean, got.std) == (None, None, None, None)
    assert not got.top


def test_what_overflows_is_left_out():
    got = profiled(column("x", [1e308, -1e308, 1e308]))
    assert (got.min, got.max) == (-1e308, 1e308)
    assert got.std is None


@pytest.mark.parametrize("kind", ["integer", "category", "text"])
def test_only_the_most_frequent_values_are_shown(kind):
    numbers = [n for n in range(TOP + 3) for _ in range(n + 1)]
    columns = {
        "integer": column("x", numbers),
        "category": column("x", [f"{n:02}" for n in numbers]),
        "text": Column("x", "text", np.array([f"{n:02}" for n in numbers], dtype=object)),
    }
    got = profiled(columns[kind])
    assert got.distinct == TOP + 3
    assert [count for _, count in got.top] == list(range(TOP + 3, 3, -1))


def in_pieces(size, *columns):
    """Profile columns piece by piece."""
    profiler = Profiler(len(columns))
    for start in range(0, len(columns[0].values), size):
        rows = np.arange(start, min(start + size, len(columns[0].values)))
        profiler.add(Table(columns).take(rows))
    return profiler.profiles()


def test_a_profile_in_pieces_is_that_of_the_whole(rng):
    rows = 1000
    numbers = np.where(rng.random(rows) < 0.1, nan, rng.normal(50, 1e-3, rows).round(3))
    numbers[[5, 700]] = inf
    columns = (
        Column("number", "number", numbers),
        Column("integer", "integer", rng.integers(-5, 5, rows).astype(float)),
        Column("boolean", "boolean", np.where(rng.random(rows) < 0.5, nan, 1.0)),
        Column("category", "category", rng.integers(-1, 3, rows).astype(np.int32), ("a", "b", "c")),
        Column("text", "text", np.array([f"{n}" for n in rng.integers(0, 9, rows)], dtype=object)),
        Column("timestamp", "timestamp", rng.integers(0, 99, rows).astype("datetime64[us]")),
        Column("tensor", "tensor", rng.normal(size=(rows, 2, 3)).astype(np.float32)),
    )
    whole = profile(Table(columns))
    for size in (1, 7, 999):
        for got, expected in zip(in_pieces(size, *columns), whole, strict=True):
            if expected.mean is not None:
                assert (got.mean, got.std) == pytest.approx((expected.mean, expected.std), rel=1e-6)
            assert replace(got, mean=expected.mean, std=expected.std) == expected
    assert whole[0].quantiles == pytest.approx(
        {
            f"{q:g}": value
            for q, value in zip(
                QUANTILES, np.quantile(numbers[np.isfinite(numbers)], QUANTILES), strict=True
            )
        }
    )


def test_very_many_values_are_counted_up_to_a_bound_and_sampled(rng, monkeypatch):
    for module in (profiling, summaries):
        monkeypatch.setattr(module, "DISTINCT", 500)
    monkeypatch.setattr(profiling, "SAMPLED_ROWS", 2000)
    values = rng.normal(size=50_000)
    words = np.array([f"w{value:.5f}" for value in values], dtype=object)
    times = (values * 1e9).astype("datetime64[us]")
    number, text, time = in_pieces(
        1000,
        Column("x", "number", values),
        Column("t", "text", words),
        Column("m", "timestamp", times),
    )
    assert number.approximate == ["distinct", "quantiles"]
    assert text.approximate == time.approximate == ["distinct"]
    for got in (number, text, time):
        assert 500 < got.distinct <= 1500
        assert got.top is None
    assert (number.min, number.max) == (values.min(), values.max())
    for share in QUANTILES:
        below = (values <= number.quantiles[f"{share:g}"]).mean()
        assert below == pytest.approx(share, abs=0.04)


def test_all_columns_together_keep_only_so_many_values(monkeypatch):
    monkeypatch.setattr(profiling, "DISTINCT_OF_ALL", 1000)
    few, many = np.arange(3000.0) % 300, np.arange(3000.0)
    columns = in_pieces(100, Column("few", "number", few), Column("many", "number", many))
    assert [column.approximate for column in columns] == [[], ["distinct", "quantiles"]]
    assert columns[0].distinct == 300


def test_a_column_of_one_value_is_flagged():
    assert profiled(column("x", [5, 5, None])).flags == ["constant"]
    assert "nothing can be learnt" in profiled(column("c", ["a", "a"])).notes[0]
    assert profiled(column("x", [5, 6])).flags == []


@pytest.mark.parametrize(
    ("name", "values", "flagged"),
    [
        ("x", np.arange(100), True),
        ("x", np.arange(100)[::-1] + 7, True),
        ("x", np.arange(100) * 2, False),
        ("customer_id", np.arange(100) * 2, True),
        ("customerID", np.arange(100)[::-1] ** 2, True),
        ("identity", np.arange(100) * 2, False),
        ("id", np.arange(100) % 99, False),
        ("id", np.arange(10), False),
    ],
)
def test_a_column_that_numbers_the_rows_is_flagged(name, values, flagged):
    got = profiled(Column(name, "integer", values.astype(float)))
    assert got.flags == (["identifier"] if flagged else [])


def test_a_text_of_which_none_comes_twice_is_flagged():
    words = np.array([f"w{n}" for n in range(100)], dtype=object)
    assert profiled(Column("t", "text", words)).flags == ["identifier"]
    words[5] = words[6]
    assert profiled(Column("t", "text", words)).flags == []


def test_columns_are_profiled_in_order():
    rows = Table((column("b", [1.0]), column("a", ["x"])))
    assert [(p.name, p.type) for p in profile(rows)] == [("b", "number"), ("a", "category")]
