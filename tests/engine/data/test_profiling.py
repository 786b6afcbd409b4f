"""Profiles against figures worked out by hand."""

from __future__ import annotations

from math import inf, nan, sqrt

import numpy as np
import pytest

from engine.data.profiling import TOP, ColumnProfile, profile
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


def test_columns_are_profiled_in_order():
    rows = Table((column("b", [1.0]), column("a", ["x"])))
    assert [(p.name, p.type) for p in profile(rows)] == [("b", "number"), ("a", "category")]
