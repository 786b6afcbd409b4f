"""Columns in ONNX Runtime become the numbers that they become in ours."""

from __future__ import annotations

import numpy as np
import pytest

from app.export.columns import ENCODINGS, declare, encoded
from app.export.graph import Graph
from engine.data.categories import Category
from engine.data.encoding import Encoding
from engine.data.preprocessing import FeatureEncoder
from engine.data.table import Column, Table
from engine.spec import ColumnSpec
from tests.app.export.exporting import opened, raw
from tests.app.export.test_layers import kinds

ROWS = 60
EMBEDDED = {"encode": "embedding"}


def of_numbers(*values, kind="number"):
    return Column("x", kind, np.array(values, dtype=np.float64))


def of_levels(names, *codes):
    return Column("x", "category", np.array(codes, dtype=np.int32), tuple(names))


def of_texts(*values):
    texts = np.empty(len(values), dtype=object)
    texts[:] = values
    return Column("x", "text", texts)


def of_times(*values):
    return Column("x", "timestamp", np.array(values, dtype="datetime64[us]"))


GAPPED = of_numbers(1.5, np.nan, 3, 2, 10, -4, np.nan)
WHOLE = of_numbers(1e9 + 0.25, 1e9, 1e9 + 3, 1e9 + 1)
FAR = of_numbers(0, 1e9 + 2.5, -1e300, 1e300, 17)
FLAGS = of_numbers(0, 1, 1, np.nan, 0, kind="boolean")
FEW = of_levels("abc", *range(3), *range(3), 1, 2)
LATER = of_levels("cxa", 0, 1, 2, -1)
TWO = of_levels(["no", "ja"], 0, 1, 1, 0)
RARE = of_levels("abcd", *[0, 1, 2] * 200, 3)
SOME = of_levels("abc", 0, 1, 2, -1, 2)
WORDS = of_texts("one", "two", None, "two", "three", "ä")
YEARS = of_times(
    "1970-01-01",
    "2000-02-29T12:30",
    "2001-02-28T23:59:59.999999",
    "1999-12-31",
    "NaT",
    "2024-12-31",
)
DAYS = of_times(
    *np.datetime64("1896-01-01T06:07:08.9") + 61 * np.arange(3000) * np.timedelta64(1, "D")
)
FAR_TIMES = of_times("0001-01-01", "9999-12-31T23:59:59", "1600-02-29", "-0401-03-01", "2100-03-01")
IMAGES = Column("x", "tensor", np.arange(24, dtype=np.uint8).reshape(4, 2, 3))

CASES = {
    "numbers": (WHOLE, FAR, {}),
    "numbers with gaps": (GAPPED, of_numbers(np.nan, 5, -1e300), {}),
    "gaps that come later": (WHOLE, GAPPED, {}),
    "numbers all equal": (of_numbers(2, 2, 2), of_numbers(2, 7, np.nan), {}),
    "numbers as they are": (GAPPED, FAR, {"scale": "none"}),
    "numbers by mean and deviation": (GAPPED, FAR, {"scale": "standard", "impute": "mean"}),
    "numbers filled by another": (GAPPED, FAR, {"impute": 1e100}),
    "flags": (FLAGS, of_numbers(1, 0, np.nan, kind="boolean"), {}),
    "flags as levels": (FLAGS, of_numbers(1, 0, np.nan, kind="boolean"), {"type": "category"}),
    "numbers as levels": (
        of_numbers(1, 2.5, 2.5, 1e20, 0.1, np.nan, -3),
        of_numbers(0.1, 2.5, 1e20, -3, np.nan, 4, -0.0),
        {"type": "category"},
    ),
    "numbers embedded": (
        of_numbers(7, 8, 9),
        of_numbers(9, np.nan, 1),
        {"type": "category", **EMBEDDED},
    ),
    "no number as level": (of_numbers(np.nan, np.nan), of_numbers(1, np.nan), {"type": "category"}),
    "levels": (FEW, LATER, {}),
    "levels as they are": (FEW, LATER, {"scale": "none"}),
    "two levels": (TWO, of_levels(["ja", "no", "oui"], 0, 1, 2, -1), {}),
    "one level": (of_levels("a", 0, 0), LATER, {}),
    "no level": (of_levels("a", -1, -1), LATER, {}),
    "rare levels": (RARE, of_levels("dxa", 0, 1, 2, -1), {}),
    "levels and gaps": (SOME, LATER, {}),
    "levels embedded": (SOME, LATER, EMBEDDED),
    "texts": (WORDS, of_texts("ä", None, "two", "four"), {}),
    "times": (YEARS, FAR_TIMES, {}),
    "times in cycles": (DAYS, FAR_TIMES, {"encode": "cyclic"}),
    "times in a line": (YEARS, DAYS, {"encode": "linear"}),
    "many times": (YEARS, DAYS, {}),
    "tensors": (IMAGES, Column("x", "tensor", np.full((2, 2, 3), -1e200)), {}),
    "tensors as they are": (IMAGES, IMAGES, {"scale": "none"}),
}


def run(encoder, table, dtype):
    """Return what the graph of an encoder makes of a table."""
    graph = Graph("columns", [*(column.name for column in encoder.inputs), "numbers"])
    columns = {column.name: declare(graph, column) for column in encoder.inputs}
    numbers = encoded(graph, encoder.encodings, columns, dtype)
    graph.output(numbers, "numbers", dtype, (encoder.width,), "as a network sees them")
    [found] = opened(graph.model.SerializeToString()).run(None, raw(encoder, table))
    return found


@pytest.mark.parametrize(("column", "later", "choice"), CASES.values(), ids=CASES)
def test_a_column_becomes_the_same_numbers(column, later, choice):
    encoder = FeatureEncoder.fit(Table((column,)), ["x"], {"x": ColumnSpec(**choice)})
    for rows in (Table((column,)), Table((later,))):
        ours = encoder.transform(rows, np.float64)[:, :-1]
        found = run(encoder, rows, np.dtype(np.float64))
        np.testing.assert_allclose(found, ours, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns_side_by_side_keep_their_places(dtype):
    rng = np.random.default_rng(4)
    gapped = rng.normal(size=ROWS)
    gapped[::7] = np.nan
    columns = {
        "a": gapped,
        "b": rng.normal(size=ROWS),
        "constant": 3 * gapped,
        "c": rng.normal(size=ROWS) * 1e6,
        "Concat": gapped - 1,
    }
    table = Table(
        (
            *(Column(name, "number", values) for name, values in columns.items()),
            Column("d", "category", rng.integers(-1, 3, ROWS).astype(np.int32), ("x", "y", "z")),
            Column("e", "integer", rng.integers(9, size=ROWS).astype(float)),
        )
    )
    choices = {"c": ColumnSpec(scale="none"), "e": ColumnSpec(type="category")}
    encoder = FeatureEncoder.fit(table, ["e", *columns, "d"], choices)
    ours = encoder.transform(table, dtype)[:, :-1]
    found = run(encoder, table, np.dtype(dtype))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, ours, rtol=1e-6 if dtype == np.float32 else 1e-12)


def test_no_encoding_is_forgotten():
    assert set(ENCODINGS) == set(kinds(Encoding))
    assert Category in ENCODINGS
