"""Preprocessing: what is fitted, what comes of it, back to the columns, and what is refused."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.data.preprocessing import FeatureEncoder
from engine.data.scaling import CLIP, fit_flags, fit_scaler
from engine.data.table import Column, Table
from engine.errors import SchemaError
from engine.spec import ColumnSpec
from tests.engine.beginnings import column, table

FINITE = st.floats(allow_nan=False, allow_infinity=False)


def clip(x):
    return x / np.sqrt(1 + (x / CLIP) ** 2)


def encoded(dtype=np.float64, **columns):
    """Columns as a network sees them after fitting on themselves."""
    rows = table(**columns)
    return seen(FeatureEncoder.fit(rows, list(columns)), rows, dtype)


def seen(fitted, rows, dtype=np.float64):
    """Rows as a network sees them, but for the unit that is always 1."""
    x = fitted.transform(rows, dtype)
    assert (x[:, -1] == 1).all()
    return x[:, :-1]


NUMBERS = st.one_of(FINITE, st.just(nan), st.just(-0.0))


@given(data=st.data(), width=st.integers(1, 6), seed=st.integers(0, 99))
def test_numbers_side_by_side_are_encoded_as_each_by_itself(data, width, seed):
    """Flags, scales and a column of another kind between them change nothing, to the bit."""
    rng = np.random.default_rng(seed)
    columns, choices = {}, {}
    for number in range(width):
        values = rng.normal(size=8)
        values[rng.random(8) < rng.choice([0.0, 0.3])] = nan
        columns[f"x{number}"] = values.tolist()
        choices[f"x{number}"] = ColumnSpec(scale=data.draw(st.sampled_from(["robust", "none"])))
        if data.draw(st.integers(0, 3)) == 0:
            columns[f"kind{number}"] = list("abababab")
    later = {name: ["a"] if name.startswith("kind") else [data.draw(NUMBERS)] for name in columns}
    whole = FeatureEncoder.fit(table(**columns), list(columns), choices)
    alone = [
        seen(FeatureEncoder.fit(table(**{name: values}), [name], choices), table(**{name: asked}))
        for (name, values), asked in zip(columns.items(), later.values(), strict=True)
    ]
    np.testing.assert_array_equal(seen(whole, table(**later)), np.hstack(alone))


def test_a_matrix_of_numbers_is_encoded_as_a_table_or_refused_as_one():
    needed = ColumnSpec(impute="none")
    fitted = FeatureEncoder.fit(table(x=[1.0, 2.0, 4.0], y=[1, 0, 3]), ["x", "y"], {"y": needed})
    assert fitted.takes_numbers
    rows = table(x=[nan, 7.5], y=[2, 5])
    values = np.array([[nan, 2], [7.5, 5]])
    np.testing.assert_array_equal(
        fitted.transform_numbers(values, np.float32), fitted.transform(rows, np.float32)
    )
    for wrong in ([[1, nan]], [[inf, 1]], [[1, -inf]]):
        assert fitted.transform_numbers(np.array(wrong), np.float32) is None
    mixed = FeatureEncoder.fit(table(x=[1.0, 2.0], kind=["a", "b"]), ["x", "kind"])
    assert not mixed.takes_numbers


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


# -- missing numbers ------------------------------------------------------------------------------

GAPS = [1.0, None, 3.0, 5.0, None, 6.0]


@pytest.mark.parametrize(
    ("impute", "fill"), [(None, 4.0), ("median", 4.0), ("mean", 3.75), (-7.5, -7.5), (2, 2.0)]
)
def test_a_missing_number_is_filled_and_flagged(impute, fill):
    rows = table(x=GAPS)
    fitted = FeatureEncoder.fit(rows, ["x"], {"x": ColumnSpec(impute=impute)})
    number, flag = seen(fitted, rows).T
    center, spread = 4.0, 5.25 - 2.5
    filled = [fill if value is None else value for value in GAPS]
    np.testing.assert_allclose(number, clip((np.array(filled) - center) / spread), rtol=1e-13)
    assert (np.unique(flag[[1, 4]]).size, np.unique(flag[[0, 2, 3, 5]]).size) == (1, 1)
    assert flag[1] > flag[0]
    assert fitted.names == ["x", "x is missing"]


def test_what_was_never_missing_in_training_has_no_flag_and_is_filled_all_the_same():
    fitted = FeatureEncoder.fit(table(x=[1.0, 2.0, 6.0]), ["x"])
    assert fitted.names == ["x"]
    x = seen(fitted, table(x=[None, 2.0]))
    assert x[0] == x[1] == 0


def test_no_missing_number_counts_in_the_scale():
    gaps, present = (table(x=values) for values in (GAPS, [1.0, 3.0, 5.0, 6.0]))
    for scale in ("robust", "standard"):
        with_gaps, without = (
            FeatureEncoder.fit(rows, ["x"], {"x": ColumnSpec(scale=scale)}).scale
            for rows in (gaps, present)
        )
        np.testing.assert_array_equal([with_gaps[0][0], with_gaps[1][0]], np.ravel(without))


def test_a_column_without_any_value_is_nothing_but_filled():
    rows = table(x=[None, 2.0]).take(np.array([0, 0, 0]))
    assert seen(FeatureEncoder.fit(rows, ["x"]), rows).tolist() == [[0, 0]] * 3
    fitted = FeatureEncoder.fit(rows, ["x"], {"x": ColumnSpec(impute=3.0, scale="none")})
    assert seen(fitted, rows).tolist() == [[3, 1]] * 3


def test_a_missing_truth_value_is_filled_and_flagged_as_well():
    rows = table(x=[True, None, False, True])
    fitted = FeatureEncoder.fit(rows, ["x"])
    assert fitted.encodings[0].describe()["fill"] == 1.0
    assert len(np.unique(seen(fitted, rows)[:, 1])) == 2


# -- scales --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ("robust", lambda x: clip((x - 3) / 2)),
        ("standard", lambda x: clip((x - x.mean()) / x.std())),
        ("none", lambda x: x),
    ],
)
def test_a_number_is_scaled_as_was_asked_for(scale, expected):
    x = np.array([1.0, 2, 3, 4, 100])
    rows = table(x=x.tolist())
    fitted = FeatureEncoder.fit(rows, ["x"], {"x": ColumnSpec(scale=scale)})
    np.testing.assert_allclose(seen(fitted, rows)[:, 0], expected(x), rtol=1e-13)


def test_numbers_that_are_not_scaled_are_cut_off_before_they_overflow():
    rows = table(x=[1.0, 1e300, -1e300])
    fitted = FeatureEncoder.fit(rows, ["x"], {"x": ColumnSpec(scale="none")})
    assert seen(fitted, rows, np.float32)[:, 0].tolist() == np.float32([1, 1e15, -1e15]).tolist()


@pytest.mark.parametrize("scale", ["robust", "standard"])
@given(ones=st.integers(0, 9), zeros=st.integers(0, 9))
def test_flags_are_scaled_by_their_number_as_they_would_be_one_by_one(scale, ones, zeros):
    assume(ones + zeros > 0)
    flags = np.array([1.0] * ones + [0.0] * zeros)[:, None]
    whole, counted = fit_scaler(scale, flags), fit_flags(scale, np.array([ones]), len(flags))
    np.testing.assert_allclose(counted.center, whole.center, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(counted.factor, whole.factor, rtol=1e-12)


def test_a_tensor_may_stay_unscaled(rng):
    rows = table(image=rng.integers(0, 256, (5, 2, 2)))
    fitted = FeatureEncoder.fit(rows, ["image"], {"image": ColumnSpec(scale="none")})
    np.testing.assert_array_equal(seen(fitted, rows), rows.column("image").values.reshape(5, 4))


# -- side by side --------------------------------------------------------------------------------


def test_columns_stand_side_by_side_in_the_order_of_the_features(rng):
    rows = table(
        a=rng.standard_normal(9).tolist(),
        b=["x", "y", "z"] * 3,
        c=rng.standard_normal((9, 2, 2)),
    )
    together = FeatureEncoder.fit(rows, ["c", "a", "b"]).transform(rows, np.float64)[:, :-1]
    alone = [FeatureEncoder.fit(rows, [name]).transform(rows, np.float64)[:, :-1] for name in "cab"]
    np.testing.assert_array_equal(together, np.hstack(alone))


def test_large_tables_are_encoded_in_blocks_as_small_ones_are(monkeypatch, rng):
    rows = mixed(rng)
    fitted = FeatureEncoder.fit(rows, rows_names(rows))
    whole = fitted.transform(rows, np.float64)
    monkeypatch.setattr("engine.data.preprocessing.BLOCK_BYTES", 64)
    np.testing.assert_array_equal(fitted.transform(rows, np.float64), whole)


def mixed(rng, rows=60):
    """A table of all kinds of columns, with gaps."""
    gaps = rng.random(rows) < 0.2
    days = np.datetime64("2024-01-01", "us") + rng.integers(0, 10**14, rows).astype("m8[us]")
    numbers = table(
        number=np.where(gaps, nan, rng.standard_normal(rows)).tolist(),
        flag=(rng.random(rows) < 0.5).tolist(),
        colour=[None if gap else rng.choice(["red", "green", "blue"]) for gap in gaps],
        image=rng.standard_normal((rows, 2, 3)),
    )
    when = Column("when", "timestamp", np.where(gaps, np.datetime64("NaT"), days))
    return Table((*numbers.columns, when))


def rows_names(rows):
    return [column.name for column in rows.columns]


def test_every_number_that_a_network_sees_has_a_name(rng):
    rows = mixed(rng)
    fitted = FeatureEncoder.fit(rows, rows_names(rows))
    assert len(fitted.names) == fitted.width == seen(fitted, rows).shape[1]
    assert fitted.names[:7] == [
        "number",
        "number is missing",
        "flag",
        "colour = blue",
        "colour = green",
        "colour = red",
        "colour = missing",
    ]
    assert fitted.names[7:9] == ["image[0, 0]", "image[0, 1]"]
    assert fitted.names[-3:] == ["cosine of year of when", "time of when", "when is missing"]


# -- back ----------------------------------------------------------------------------------------

DAY = np.timedelta64(86_400_000_000, "us")


@pytest.mark.parametrize("scale", ["robust", "standard", "none"])
def test_gradients_at_the_columns_agree_with_central_differences(scale, rng):
    rows = mixed(rng)
    how = ColumnSpec(scale=scale)
    columns = {name: how for name in rows_names(rows) if (name, scale) != ("image", "robust")}
    fitted = FeatureEncoder.fit(rows, rows_names(rows), columns)
    d_x = rng.standard_normal((rows.rows, fitted.width))

    def loss(name, change):
        """The part of every row of a loss whose gradient is ``d_x``, with one column changed."""
        moved = [
            Column(c.name, c.type, change(c.values), c.levels) if c.name == name else c
            for c in rows.columns
        ]
        return (d_x * seen(fitted, Table(tuple(moved)))).sum(axis=1)

    found = fitted.pull_back(rows, d_x)
    step = 1e-5
    for name in ("number", "flag"):
        expected = (loss(name, lambda v: v + step) - loss(name, lambda v: v - step)) / (2 * step)
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-6)
    assert (found["number"] == 0).sum() == np.isnan(rows.column("number").values).sum()
    second = np.timedelta64(1_000_000, "us")
    difference = loss("when", lambda t: t + second) - loss("when", lambda t: t - second)
    expected = difference * (DAY / second) / 2
    np.testing.assert_allclose(found["when"], expected, rtol=1e-5, atol=1e-5)
    for place in np.ndindex(2, 3):
        move = np.zeros((2, 3))
        move[place] = step
        change = loss("image", lambda v, m=move: v + m) - loss("image", lambda v, m=move: v - m)
        at = (slice(None), *place)
        np.testing.assert_allclose(found["image"][at], change / (2 * step), rtol=1e-6, atol=1e-6)


def test_gradients_at_a_category_are_those_of_its_levels(rng):
    rows = table(colour=["red", "green", "blue"] * 4, side=["left", "right", "left"] * 4)
    fitted = FeatureEncoder.fit(rows, ["colour", "side"])
    d_x = rng.standard_normal((12, 4))
    found, (_, factor) = fitted.pull_back(rows, d_x), fitted.scale
    assert found["colour"].shape == (12, 3)
    slope = factor * (1 + (seen_z(fitted, rows) / CLIP) ** 2) ** -1.5
    np.testing.assert_allclose(found["colour"], (d_x * slope)[:, :3], rtol=1e-12)
    np.testing.assert_allclose(found["side"], (d_x * slope)[:, 3], rtol=1e-12)


def seen_z(fitted, rows):
    """What is seen, before it is squeezed."""
    x = seen(fitted, rows)
    return x / np.sqrt(1 - (x / CLIP) ** 2)


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trained", "later", "expected", "got", "row"),
    [
        ([1.0, 2.0], ["a", "b"], "the type number", "the type category", None),
        (["a", "b"], [1.0, 2.0], "the type category", "the type number", None),
        ([1.0, 2.0], [1.0, inf, nan], "finite numbers", "infinity, in one row of 1", 1),
        (np.ones((2, 3)), np.ones((2, 4)), "the shape (3,)", "the shape (4,)", None),
        (np.ones((2, 3)), np.full((2, 3), nan), "a value in every row", "a missing value", 0),
        (np.ones((2, 3)), [1.0, 2.0], "the type tensor", "the type number", None),
    ],
)
def test_what_a_network_cannot_be_fed_is_refused(trained, later, expected, got, row):
    fitted = FeatureEncoder.fit(table(x=trained), ["x"])
    with pytest.raises(SchemaError) as refusal:
        fitted.transform(table(x=later), np.float64)
    error = refusal.value
    assert (error.column, error.expected, error.row) == ("x", expected, row)
    assert error.got.startswith(got)


TIMES = np.array(["2024-01-01", "2024-01-02", "NaT"], dtype="datetime64[us]")


@pytest.mark.parametrize(
    "gapped",
    [column("x", [1.0, 2.0, None]), column("x", ["a", "b", None]), Column("x", "timestamp", TIMES)],
    ids=lambda gapped: gapped.type,
)
def test_missing_values_are_refused_where_there_are_to_be_none(gapped):
    rows, how = Table((gapped,)), {"x": ColumnSpec(impute="none")}
    whole = rows.take(np.array([0, 1]))
    fitted = FeatureEncoder.fit(whole, ["x"], how)
    assert fitted.inputs[0].required
    assert not FeatureEncoder.fit(whole, ["x"]).inputs[0].required
    for refused in (
        lambda: fitted.transform(rows, np.float64),
        lambda: FeatureEncoder.fit(rows, ["x"], how),
    ):
        with pytest.raises(SchemaError, match="row 2, column 'x': expected a value in every row"):
            refused()


def test_a_column_that_is_absent_is_refused():
    fitted = FeatureEncoder.fit(table(width=[1.0, 2.0]), ["width"])
    with pytest.raises(SchemaError, match="did you mean 'widht'"):
        fitted.transform(table(widht=[1.0]), np.float64)


def test_all_kinds_of_numbers_are_taken_for_each_other():
    kinds = [table(x=values) for values in ([1.0, 0.0], [1, 0], [True, False])]
    for trained in kinds:
        fitted = FeatureEncoder.fit(trained, ["x"])
        for later in kinds:
            assert seen(fitted, later).tolist() == seen(fitted, trained).tolist()
