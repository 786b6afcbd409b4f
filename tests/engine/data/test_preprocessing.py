"""Preprocessing: what is fitted, what comes of it, and what cannot be fed to a network."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.preprocessing import FeatureEncoder
from engine.data.scaling import CLIP
from engine.data.table import Column, InputColumn, Table
from engine.errors import SchemaError
from tests.engine.beginnings import column, table

FINITE = st.floats(allow_nan=False, allow_infinity=False)


def clip(x):
    return x / np.sqrt(1 + (x / CLIP) ** 2)


def encoded(dtype=np.float64, **columns):
    """Columns as a network sees them after fitting on themselves."""
    rows = table(**columns)
    return FeatureEncoder.fit(rows, list(columns)).transform(rows, dtype)[:, :-1]


# -- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [1.0, 1e-45, 1e-9, 1e90])
def test_numbers_are_scaled_by_median_and_quartiles_and_clipped_smoothly(unit):
    x = encoded(x=[unit * number for number in (1, 2, 3, 4, 100)])[:, 0]
    np.testing.assert_allclose(x, clip((np.array([1, 2, 3, 4, 100]) - 3) / 2), rtol=1e-13)


def test_numbers_that_are_mostly_equal_are_scaled_by_their_span():
    x = encoded(x=[5.0] * 9 + [7.0])[:, 0]
    np.testing.assert_allclose(x, [0] * 9 + [clip(2.0)], rtol=1e-15)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e-300, 1e300])
def test_a_constant_column_vanishes_and_stays_away(value):
    fitted = FeatureEncoder.fit(table(x=[value] * 10), ["x"])
    assert not fitted.transform(table(x=[value, value + 1, 5.0]), np.float64)[:, :-1].any()


@pytest.mark.parametrize("value", [0.0, 0.1, -1e-300, 1e300])
def test_a_constant_tensor_vanishes_and_stays_away(value):
    fitted = FeatureEncoder.fit(table(x=np.full((10, 2, 2), value)), ["x"])
    assert not fitted.transform(table(x=np.full((3, 2, 2), value + 1)), np.float64)[:, :-1].any()


@given(values=st.lists(FINITE, min_size=1, max_size=9), later=st.lists(FINITE, min_size=1))
def test_no_finite_number_leaves_the_clip_or_overflows(values, later):
    fitted = FeatureEncoder.fit(table(x=values), ["x"])
    assert np.isfinite(fitted.scale).all()
    for rows in (values, later):
        x = fitted.transform(table(x=rows), np.float64)[:, :-1]
        assert (np.abs(x) <= CLIP).all()
        order = np.argsort(rows, kind="stable")
        assert (np.diff(x[order, 0]) >= 0).all()


def test_an_extreme_lands_at_the_edge_and_not_in_the_middle():
    fitted = FeatureEncoder.fit(table(x=[0.0, 1.0, 2.0, 3.0]), ["x"])
    x = fitted.transform(table(x=[1e5, 1e155, 1.7e308, -1.7e308]), np.float64)[:, :-1]
    assert x[:, 0] == pytest.approx([CLIP, CLIP, CLIP, -CLIP])


def test_the_clip_leaves_small_numbers_nearly_alone():
    small = np.array([-0.1, 0.0, 0.1])
    np.testing.assert_allclose(clip(small), small, rtol=1e-3)
    x = encoded(x=np.linspace(-1, 1, 101).tolist())
    np.testing.assert_allclose(x[:, 0], clip(np.linspace(-1, 1, 101)), rtol=1e-12, atol=1e-15)


def test_what_is_fitted_does_not_change_with_what_is_transformed():
    fitted = FeatureEncoder.fit(table(x=[1.0, 2.0, 3.0, 4.0, 5.0]), ["x"])
    x = fitted.transform(table(x=[3.0, 5.0, 300.0]), np.float64)[:, :-1]
    assert x[:, 0] == pytest.approx([0, clip(1.0), clip(148.5)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_integers_and_booleans_are_numbers(dtype):
    x = encoded(dtype, n=[1, 2, 3, 4, 5], b=[True, False, True, False, False])
    assert (x.dtype, x.shape) == (dtype, (5, 2))
    np.testing.assert_allclose(x[:, 0], clip(np.array([-1, -0.5, 0, 0.5, 1])), rtol=1e-6)
    np.testing.assert_allclose(x[:, 1], clip(np.array([1, 0, 1, 0, 0])), rtol=1e-6)


def test_the_elements_of_a_tensor_share_one_scale(rng):
    image = rng.normal(5, 2, (50, 3, 4))
    image[:, 0, 0] = 5.0
    x = encoded(image=image)
    expected = clip((image - image.mean()) / image.std()).reshape(50, 12)
    np.testing.assert_allclose(x, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float32])
def test_tensors_of_all_types_are_scaled_in_double_precision(dtype, rng):
    image = rng.integers(0, 256, (50, 3, 4)).astype(dtype)
    np.testing.assert_array_equal(encoded(image=image), encoded(image=image.astype(np.float64)))


# -- categories ----------------------------------------------------------------------------------


def test_two_levels_become_one_number_of_two_signs():
    x = encoded(side=["left", "right", "left", "right"])
    np.testing.assert_allclose(x[:, 0], [-clip(0.5), clip(0.5)] * 2, rtol=1e-15)


def test_more_levels_become_one_number_each():
    x = encoded(colour=["red", "green", "blue", "green"])
    present = x > x.min(axis=0)
    assert present.astype(int).tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 1, 0]]
    assert all(len(np.unique(number)) == 2 for number in x.T)


def test_one_level_says_nothing():
    assert encoded(colour=["red", "red"]).tolist() == [[0], [0]]


@pytest.mark.parametrize(("levels", "width"), [(1, 1), (2, 1), (3, 3), (10, 10)])
def test_the_width_of_a_category_is_known_before_it_is_fitted(levels, width):
    names = [f"level {number}" for number in range(levels)]
    rows = table(colour=names)
    inputs = [InputColumn.of(rows.column("colour"))]
    assert input_shape(inputs, coded=False) == (width,)
    assert width == FeatureEncoder.fit(rows, ["colour"]).width


def test_a_level_that_no_training_row_has_vanishes():
    rows = table(colour=["red", "green", "blue"])
    fitted = FeatureEncoder.fit(rows.take(np.array([0, 1])), ["colour"])
    blue = fitted.transform(rows, np.float64)[:, 0]
    assert blue.tolist() == [0, 0, 0]


def test_levels_in_another_order_are_the_same_levels():
    fitted = FeatureEncoder.fit(table(colour=["red", "green", "blue"]), ["colour"])
    expected = fitted.transform(table(colour=["red", "blue", "green"]), np.float64)[:, :-1]
    codes = np.array([0, 2, 1], dtype=np.int32)
    other = Table((Column("colour", "category", codes, ("red", "green", "blue")),))
    np.testing.assert_array_equal(fitted.transform(other, np.float64)[:, :-1], expected)
    fewer = table(colour=["red", "blue"])
    np.testing.assert_array_equal(fitted.transform(fewer, np.float64)[:, :-1], expected[:2])


def test_columns_stand_side_by_side_in_the_order_of_the_features(rng):
    rows = table(
        a=rng.standard_normal(9).tolist(),
        b=["x", "y", "z"] * 3,
        c=rng.standard_normal((9, 2, 2)),
    )
    together = FeatureEncoder.fit(rows, ["c", "a", "b"]).transform(rows, np.float64)[:, :-1]
    alone = [FeatureEncoder.fit(rows, [name]).transform(rows, np.float64)[:, :-1] for name in "cab"]
    np.testing.assert_array_equal(together, np.hstack(alone))


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trained", "later", "expected", "got", "row"),
    [
        ([1.0, 2.0], ["a", "b"], "the type number", "the type category", None),
        (["a", "b"], [1.0, 2.0], "the type category", "the type number", None),
        (["a", "b"], ["a", "c", "b"], "one of the levels seen in training", "'c'", 1),
        (["a", "b"], ["a", None], "a value in every row", "a missing value", 1),
        ([1.0, 2.0], [1.0, 2.0, nan], "a value in every row", "a missing value", 2),
        ([1.0, 2.0], [inf, 2.0, nan], "a value in every row", "a missing value", 0),
        ([1, 2], [None, 2], "a value in every row", "a missing value", 0),
        (np.ones((2, 3)), np.ones((2, 4)), "the shape (3,)", "the shape (4,)", None),
        (np.ones((2, 3)), np.full((2, 3), nan), "a value in every row", "a missing value", 0),
        (np.ones((2, 3)), [1.0, 2.0], "the type tensor", "the type number", None),
    ],
)
def test_what_a_network_cannot_be_fed_is_refused(trained, later, expected, got, row):
    fitted = FeatureEncoder.fit(table(x=trained), ["x"])
    with pytest.raises(SchemaError) as refusal:
        fitted.transform(table(x=later), np.float64)[:, :-1]
    error = refusal.value
    assert (error.column, error.expected, error.row) == ("x", expected, row)
    assert error.got.startswith(got)


def test_a_column_that_is_absent_is_refused():
    fitted = FeatureEncoder.fit(table(width=[1.0, 2.0]), ["width"])
    with pytest.raises(SchemaError, match="did you mean 'widht'"):
        fitted.transform(table(widht=[1.0]), np.float64)[:, :-1]


def test_all_kinds_of_numbers_conform_to_each_other():
    kinds = [column("x", values) for values in ([1.0], [1], [True])]
    for given_column in kinds:
        for wanted in kinds:
            assert conform(given_column, InputColumn.of(wanted)) is given_column
