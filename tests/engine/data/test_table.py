"""Tables: columns by name, and rows as JSON has them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from engine.data.table import InputColumn, json_type, json_value, nearest, table_from_instances
from engine.errors import DataError, SchemaError
from tests.engine.beginnings import table

INPUTS = (
    InputColumn("size", "number"),
    InputColumn("age", "integer"),
    InputColumn("new", "boolean"),
    InputColumn("paid", "boolean", ("no", "yes")),
    InputColumn("colour", "category", ("blue", "green", "red")),
    InputColumn("when", "timestamp"),
    InputColumn("image", "tensor", (), (2, 2), required=True),
)
WHEN = "a time such as 2030-01-31T12:00:00Z"
NOON = "2024-02-29T12:00:00Z"
GOOD = {
    "size": 1.5,
    "age": 3,
    "new": True,
    "paid": "yes",
    "colour": "red",
    "when": NOON,
    "image": [[1, 2], [3, 4]],
}


def test_a_column_is_found_by_its_name():
    rows = table(a=[1.0, 2.0], b=["x", "y"])
    assert rows.column("b") is rows.columns[1]
    assert rows.rows == table(a=[1.0, 2.0]).rows == 2


def test_a_name_that_is_nearly_right_is_told_the_right_one():
    with pytest.raises(SchemaError, match="did you mean 'sepal_width'"):
        table(sepal_width=[1.0], species=["x"]).column("sepal_widht")


def test_rows_are_taken_in_the_order_asked_for():
    rows = table(a=[1.0, 2.0, 3.0], b=["x", "y", "x"], c=np.arange(6.0).reshape(3, 2))
    taken = rows.take(np.array([2, 0, 2]))
    assert taken.column("a").values.tolist() == [3, 1, 3]
    assert taken.column("b").levels == ("x", "y")
    assert taken.column("b").values.tolist() == [0, 0, 0]
    assert taken.column("c").values.tolist() == [[4, 5], [0, 1], [4, 5]]
    assert taken.column("c").shape == (2,)


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("sise", ["size", "age"], "; did you mean 'size'?"),
        ("zzz", ["size", "age"], "; there are 'size', 'age'"),
        ("zzz", [], ""),
        ("z", list("abcdefghij"), f"; there are {str(list('abcdefghij'))[1:-1]}"),
        ("z", list("abcdefghijkl"), f"; there are {str(list('abcdefghij'))[1:-1]} and 2 more"),
    ],
)
def test_the_nearest_name_is_suggested_or_the_first_ones_listed(name, known, said):
    assert nearest(name, known) == said


def test_instances_by_name_and_in_order_are_the_same_rows():
    other = {**GOOD, "size": -2, "new": False, "colour": "blue", "image": [5, 6, 7, 8.5]}
    backwards = dict(reversed(other.items()))
    for rows in ([GOOD, backwards], [list(GOOD.values()), list(other.values())]):
        built = table_from_instances(INPUTS, rows)
        assert built.column("size").values.tolist() == [1.5, -2]
        assert built.column("age").values.tolist() == [3, 3]
        assert built.column("new").values.tolist() == [1, 0]
        assert built.column("colour").values.tolist() == ["red", "blue"]
        assert (built.column("when").values == np.datetime64("2024-02-29T12")).all()
        assert built.column("image").values.tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8.5]]]
        assert [column.name for column in built.columns] == [column.name for column in INPUTS]


def test_an_integer_that_only_a_float_can_hold_is_a_number():
    built = table_from_instances(INPUTS, [{**GOOD, "size": 2**70, "image": [2**70, 1, 1, 1]}])
    assert built.column("size").values.tolist() == [2.0**70]
    assert built.column("image").values[0, 0, 0] == 2.0**70


@pytest.mark.parametrize(
    ("name", "value", "expected", "got"),
    [
        ("size", "1.5", "a number", "the string '1.5'"),
        ("size", True, "a number", "a boolean (true)"),
        ("size", [1], "a number", "an array"),
        ("size", float("nan"), "a finite number", "nan"),
        ("size", float("inf"), "a finite number", "inf"),
        ("size", 10**400, "a finite number", "1" + 39 * "0"),
        ("age", {}, "a number", "an object"),
        ("new", 1, "true or false, or a word for it such as 'yes'", "a number (1)"),
        ("paid", "ja", "true or false, or a word for it such as 'yes'", "the string 'ja'"),
        ("colour", 2, "a string", "a number (2)"),
        ("colour", ["red"], "a string", "an array"),
        ("when", 2024, WHEN, "a number (2024)"),
        ("when", "noon", WHEN, "the string 'noon'"),
        ("when", "2024-02-30", WHEN, "the string '2024-02-30'"),
        ("when", "0001-01-01T00:00:00+01:00", WHEN, "the string '0001-01-01T00:00:00+01:00'"),
        ("image", 1, "numbers nested in the shape [2, 2]", "a number (1)"),
        ("image", "1234", "numbers nested in the shape [2, 2]", "the string '1234'"),
        ("image", None, "numbers nested in the shape [2, 2]", "null"),
        ("image", [], "numbers nested in the shape [2, 2]", "the shape [0]"),
        ("image", [1, 2, 3], "numbers nested in the shape [2, 2]", "the shape [3]"),
        ("image", [[1, 2, 3, 4]], "numbers nested in the shape [2, 2]", "the shape [1, 4]"),
        ("image", [[1, 2], [3]], "numbers nested in the shape [2, 2]", "an array"),
        ("image", [["1", "2"], ["3", "4"]], "numbers nested in the shape [2, 2]", "an array"),
        ("image", [[True, False]] * 2, "numbers nested in the shape [2, 2]", "an array"),
        ("image", [[{}, {}]] * 2, "numbers nested in the shape [2, 2]", "an array"),
        ("image", [[10**400, 1]] * 2, "numbers nested in the shape [2, 2]", "an array"),
        ("image", [[1, None], [3, 4]], "finite numbers", "NaN or infinity"),
        ("image", [[1, float("inf")], [3, 4]], "finite numbers", "NaN or infinity"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_row_and_column(name, value, expected, got):
    with pytest.raises(SchemaError) as refusal:
        table_from_instances(INPUTS, [GOOD, {**GOOD, name: value}])
    error = refusal.value
    assert (error.row, error.column, error.expected) == (1, name, expected)
    assert error.got == got


@pytest.mark.parametrize("as_row", [dict, lambda instance: list(instance.values())])
def test_null_is_a_missing_value(as_row):
    empty = as_row(dict.fromkeys(GOOD) | {"image": GOOD["image"]})
    built = table_from_instances(INPUTS, [as_row(GOOD), empty])
    for name in ("size", "age", "new"):
        assert np.isnan(built.column(name).values).tolist() == [False, True]
    assert built.column("colour").values.tolist() == ["red", None]
    assert np.isnat(built.column("when").values).tolist() == [False, True]


@pytest.mark.parametrize(
    ("said", "meant"), [("yes", 1), ("No", 0), ("t", 1), (True, 1), (False, 0), ("FALSE", 0)]
)
def test_a_boolean_may_come_in_words(said, meant):
    built = table_from_instances(INPUTS, [GOOD | {"paid": said, "new": said}])
    assert built.column("paid").values.tolist() == built.column("new").values.tolist() == [meant]


def test_what_is_absent_is_missing():
    built = table_from_instances(INPUTS, [GOOD, {"image": GOOD["image"]}])
    null = table_from_instances(INPUTS, [GOOD, dict.fromkeys(GOOD) | {"image": GOOD["image"]}])
    for one, other in zip(built.columns, null.columns, strict=True):
        if one.type == "text":
            assert one.values.tolist() == other.values.tolist()
        else:
            np.testing.assert_array_equal(one.values, other.values)
        assert one.values.dtype == other.values.dtype
    assert np.isnan(built.column("age").values).tolist() == [False, True]


@pytest.mark.parametrize("column", INPUTS[:-1], ids=lambda column: column.name)
def test_a_value_that_is_required_has_to_be_there(column):
    inputs = [replace(column, required=True), INPUTS[-1]]
    good = {name: GOOD[name] for name in (column.name, "image")}
    with pytest.raises(SchemaError, match="row 1, .*: expected a value, got nothing"):
        table_from_instances(inputs, [good, {"image": GOOD["image"]}])
    with pytest.raises(SchemaError, match="row 1, .*: expected .*, got null"):
        table_from_instances(inputs, [good, {**good, column.name: None}])


def test_a_level_that_was_never_seen_is_taken():
    built = table_from_instances(INPUTS, [{**GOOD, "colour": "rde"}])
    assert built.column("colour").values.tolist() == ["rde"]


@pytest.mark.parametrize(
    "time", ["2024-02-29T13:00:00+01:00", "2024-02-29 12:00", "20240229T120000", NOON]
)
def test_a_time_is_read_as_iso_8601_has_it_and_without_offset_as_utc(time):
    built = table_from_instances(INPUTS, [{**GOOD, "when": time}])
    assert built.column("when").values.tolist() == [datetime(2024, 2, 29, 12)]  # noqa: DTZ001 - UTC


def test_an_input_that_is_unknown_is_named():
    without = {name: value for name, value in GOOD.items() if name != "image"}
    with pytest.raises(SchemaError, match="row 1, column 'image': expected a value, got nothing"):
        table_from_instances(INPUTS, [GOOD, without])
    with pytest.raises(SchemaError, match="row 0, column 'sise'.*did you mean 'size'"):
        table_from_instances(INPUTS, [{**GOOD, "sise": 1}])
    built = table_from_instances(INPUTS, [{**GOOD, "sise": 1}], ignored=["sise"])
    assert len(built.columns) == len(INPUTS)


@pytest.mark.parametrize(
    ("instance", "got"),
    [
        ([1, 2], "expected 7 values in the order of the model's inputs, got 2"),
        ("text", "expected an object or an array, got a string"),
        (None, "expected an object or an array, got null"),
        (3, "expected an object or an array, got a number"),
    ],
)
def test_an_instance_that_is_no_row_is_refused(instance, got):
    with pytest.raises(DataError, match=f"row 1: {got}"):
        table_from_instances(INPUTS, [GOOD, instance])


def test_values_are_named_as_json_names_them():
    values = [None, True, 1, 1.5, "x", [], {}]
    named = ["null", "a boolean", "a number", "a number", "a string", "an array", "an object"]
    assert [json_type(value) for value in values] == named
    assert json_value("x" * 100) == f"the string {'x' * 40!r}"
