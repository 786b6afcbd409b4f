"""Targets: classes and numbers as a network learns them, and back."""

from __future__ import annotations

from math import nan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.quantiles import middle
from engine.data.table import Column, Table
from engine.data.targets import ClassEncoder, TargetScaler, has_targets
from engine.errors import DataError, SchemaError
from tests.engine.beginnings import column, table

# -- classes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "classes", "labels"),
    [
        (["b", "a", "b"], ("a", "b"), [1, 0, 1]),
        ([3, 1, 3], (1, 3), [1, 0, 1]),
        ([True, False, True], (False, True), [1, 0, 1]),
        ([0.5, -1.5, 0.5], (-1.5, 0.5), [1, 0, 1]),
    ],
)
def test_classes_are_the_sorted_values_and_labels_their_positions(values, classes, labels):
    rows = table(y=values)
    encoder = ClassEncoder.fit(rows, "y")
    assert repr(encoder.classes) == repr(classes)
    assert encoder.transform(rows).tolist() == labels
    assert encoder.transform(rows).dtype == np.intp


def in_words(*values, words=("no", "yes")):
    return Table((Column("y", "boolean", np.array(values, dtype=float), words),))


def test_classes_in_words_keep_them():
    encoder = ClassEncoder.fit(in_words(1, 0, 1, nan), "y")
    assert encoder.classes == ("no", "yes")
    assert encoder.transform(in_words(1, 0)).tolist() == [1, 0]


@pytest.mark.parametrize("words", [(), ("no", "yes"), ("F", "T")])
@pytest.mark.parametrize("later", [(), ("no", "yes"), ("N", "Y")])
def test_the_words_of_a_class_may_be_others_later(words, later):
    encoder = ClassEncoder.fit(in_words(1, 0, words=words), "y")
    assert encoder.transform(in_words(1, 0, 1, words=later)).tolist() == [1, 0, 1]


def test_a_category_later_has_the_words_that_are_classes():
    encoder = ClassEncoder.fit(in_words(1, 0), "y")
    assert encoder.transform(table(y=["yes", "no"])).tolist() == [1, 0]
    with pytest.raises(SchemaError, match="'maybe'"):
        encoder.transform(table(y=["yes", "maybe"]))


def test_of_three_classes_a_word_is_the_one_that_is_called_so():
    encoder = ClassEncoder("y", ("maybe", "no", "y", "yes"))
    assert encoder.transform(in_words(1, 0)).tolist() == [3, 1]
    with pytest.raises(SchemaError, match="got True"):
        encoder.transform(in_words(1, 0, words=()))


@pytest.mark.parametrize("name", ["yes", "Yes", "t", True])
def test_a_class_in_words_can_be_asked_for_by_what_it_means(name):
    assert ClassEncoder("y", ("no", "yes")).label(name) == 1
    assert ClassEncoder("y", (False, True)).label(name) == 1


def test_text_can_be_a_class():
    rows = Table((Column("y", "text", np.array(["b", "a", "b"], dtype=object)),))
    encoder = ClassEncoder.fit(rows, "y")
    assert encoder.classes == ("a", "b")
    assert encoder.transform(rows).tolist() == [1, 0, 1]


def test_a_level_that_no_row_has_is_no_class():
    rows = table(y=["a", "b", "c"]).take(np.array([2, 0]))
    encoder = ClassEncoder.fit(rows, "y")
    assert encoder.classes == ("a", "c")
    assert encoder.transform(rows).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("trained", "later", "got", "row"),
    [
        (["a", "b"], ["a", "c"], "'c'", 1),
        (["a", "b"], [None, "b"], "None", 0),
        ([1, 2], [1, 2, 7], "7.0", 2),
        ([1, 2], ["1", "2"], "'1'", 0),
        ([1, 2], [1, None], "nan", 1),
    ],
)
def test_a_class_that_was_not_there_when_training_is_refused(trained, later, got, row):
    encoder = ClassEncoder.fit(table(y=trained), "y")
    with pytest.raises(SchemaError) as refusal:
        encoder.transform(table(y=later))
    error = refusal.value
    assert (error.column, error.got, error.row) == ("y", got, row)
    assert error.expected == "one of the 2 classes of the model"


def test_a_tensor_is_no_class():
    encoder = ClassEncoder.fit(table(y=["a", "b"]), "y")
    with pytest.raises(SchemaError, match="expected one class a row, got the shape"):
        encoder.transform(table(y=np.ones((2, 3))))


# -- targets -------------------------------------------------------------------------------------


@given(
    values=st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)), min_size=1, max_size=9)
)
def test_scaled_targets_come_back(values):
    y, z = zip(*values, strict=True)
    rows = table(y=list(y), z=list(z))
    scaler = TargetScaler.fit(rows, ["z", "y"])
    scaled = scaler.transform(rows, np.float64)
    np.testing.assert_allclose(scaler.invert(scaled), np.stack([z, y], axis=1), atol=1e-5)
    np.testing.assert_array_equal(scaler.raw(rows, 1), np.stack([z, y], axis=1))


def test_scaled_targets_have_mean_zero_and_deviation_one():
    scaler = TargetScaler.fit(table(y=[0.1, 0.2, 0.6]), ["y"])
    assert scaler.mean.tolist() == pytest.approx([0.3])
    assert scaler.deviation.tolist() == pytest.approx([sqrt(0.14 / 3)])
    scaled = scaler.transform(table(y=[0.1, 0.2, 0.6]), np.float32)
    assert scaled.dtype == np.float32
    assert scaled.mean() == pytest.approx(0, abs=1e-6)
    assert scaled.std() == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 4.0])
def test_a_constant_target_is_scaled_by_one(value):
    scaler = TargetScaler.fit(table(y=[value] * 10, z=[1.0, 3.0] * 5), ["y", "z"])
    assert scaler.deviation.tolist() == [1, 1]
    assert scaler.transform(table(y=[value + 1], z=[2.0]), np.float64)[0] == pytest.approx([1, 0])
    assert scaler.invert(np.array([[1.0, 0.0]]))[0] == pytest.approx([value + 1, 2])


def test_predictions_in_single_precision_come_back_in_double():
    scaler = TargetScaler.fit(table(y=[1e9, 1e9 + 2]), ["y"])
    assert scaler.invert(np.array([[-1], [1]], dtype=np.float32)).tolist() == [[1e9], [1e9 + 2]]


def test_quantiles_are_learnt_side_by_side_and_come_back_rising():
    rows = table(y=[1.0, 3.0], z=[10.0, 30.0])
    scaler = TargetScaler.fit(rows, ["y", "z"], quantiles=(0.1, 0.5, 0.9))
    assert scaler.outputs == 6
    assert scaler.transform(rows, np.float64).tolist() == [[-1.0] * 6, [1.0] * 6]
    assert scaler.scale([1.0, 30.0]).tolist() == [[-1.0] * 3 + [1.0] * 3]
    crossed = np.array([[1.0, -1.0, 0.0, 0.0, 2.0, 1.0]])
    assert scaler.invert(crossed).tolist() == [[1.0, 2.0, 3.0, 20.0, 30.0, 40.0]]


@pytest.mark.parametrize(
    ("levels", "places"),
    [((0.9,), [0]), ((0.1, 0.5, 0.9), [1]), ((0.1, 0.9), [0, 1]), ((0.6, 0.7), [0])],
)
def test_the_middle_quantile_is_the_nearest_to_a_half(levels, places):
    assert middle(levels) == places


@pytest.mark.parametrize("values", [["a", "b"], [1.0, nan], np.ones((2, 2))])
def test_a_target_that_is_no_number_is_refused(values):
    with pytest.raises(DataError, match="'y'"):
        TargetScaler.fit(table(y=values), ["y"])


def test_a_row_has_its_targets_if_none_is_missing(rng):
    image = rng.random((4, 2, 2))
    image[3, 0, 1] = nan
    rows = Table(
        (
            column("number", [1.0, None, 3.0, 4.0]),
            column("class", ["a", "b", None, "a"]),
            column("image", image),
            Column("text", "text", np.array([None, "b", "c", "d"], dtype=object)),
        )
    )
    assert has_targets(rows, ["number"]).tolist() == [True, False, True, True]
    assert has_targets(rows, ["number", "class"]).tolist() == [True, False, False, True]
    assert has_targets(rows, ["image", "text"]).tolist() == [False, True, True, False]
