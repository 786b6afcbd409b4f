"""Categories: levels that are few, many, rare, missing or never seen."""

from __future__ import annotations

import numpy as np
import pytest

from engine.data import categories
from engine.data.preprocessing import FeatureEncoder
from engine.data.scaling import CLIP
from engine.data.table import Column, Table
from engine.spec import ColumnSpec
from tests.engine.beginnings import column, table

EMBEDDED = {"x": ColumnSpec(encode="embedding")}


def clip(x):
    return x / np.sqrt(1 + (x / CLIP) ** 2)


def fitted_on(values, how=None):
    """A column ``x`` of these values as a network sees it, and the encoder."""
    rows = table(x=values)
    fitted = FeatureEncoder.fit(rows, ["x"], how)
    return seen(fitted, values), fitted


def seen(fitted, values):
    return fitted.transform(table(x=values), np.float64)[:, :-1]


def ones(x):
    """Which of the numbers are the higher one of their column."""
    return (x > x.min(axis=0)).astype(int).tolist()


# -- one-hot -------------------------------------------------------------------------------------


def test_two_levels_become_one_number_of_two_signs():
    x, _ = fitted_on(["left", "right", "left", "right"])
    np.testing.assert_allclose(x[:, 0], [-clip(0.5), clip(0.5)] * 2, rtol=1e-15)


def test_more_levels_become_one_number_each():
    x, fitted = fitted_on(["red", "green", "blue", "green"])
    assert ones(x) == [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 1, 0]]
    assert all(len(np.unique(number)) == 2 for number in x.T)
    assert fitted.names == ["x = blue", "x = green", "x = red"]


@pytest.mark.parametrize("scale", ["robust", "standard", "none"])
def test_the_numbers_of_levels_are_scaled_as_was_asked_for(scale):
    values = ["red"] * 5 + ["green"] * 2 + ["blue"] * 3
    x, _ = fitted_on(values, {"x": ColumnSpec(scale=scale)})
    one_hot = {name: [float(value == name) for value in values] for name in set(values)}
    rows = table(**one_hot)
    how = dict.fromkeys(one_hot, ColumnSpec(scale=scale))
    numbers = FeatureEncoder.fit(rows, sorted(one_hot), how)
    expected = numbers.transform(rows, np.float64)[:, :-1]
    np.testing.assert_allclose(x, expected, rtol=1e-12, atol=1e-15)


def test_one_level_says_nothing():
    assert fitted_on(["red", "red"])[0].tolist() == [[0], [0]]


def test_a_level_that_was_never_seen_is_none_of_the_others():
    _, fitted = fitted_on(["red", "green", "blue"] * 3)
    green, yellow = seen(fitted, ["green", "yellow"])
    assert ones(np.stack([green, yellow, *seen(fitted, ["red", "blue"])]))[1] == [0, 0, 0]
    _, of_two = fitted_on(["left", "right"] * 3)
    left, middle, right = seen(of_two, ["left", "middle", "right"])[:, 0]
    assert left < middle == 0 < right


def test_what_is_missing_in_training_is_a_level_of_its_own():
    x, fitted = fitted_on(["red", None, "blue", "red", None])
    assert fitted.names == ["x = blue", "x = red", "x = missing"]
    assert ones(x) == [[0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    alone, _ = fitted_on(["red", None, "red"])
    assert (alone[0] == alone[2]).all()
    assert (alone[0] != alone[1]).all()


def test_what_was_never_missing_in_training_is_taken_for_an_unknown_level():
    _, fitted = fitted_on(["red", "green", "blue"] * 3)
    missing, unknown = seen(fitted, [None, "yellow"])
    assert missing.tolist() == unknown.tolist()


# -- rare and many levels ------------------------------------------------------------------------


def test_rare_levels_are_folded_into_one_with_those_never_seen():
    values = ["a"] * 300 + ["b"] * 295 + ["c"] * 4 + ["d"]
    x, fitted = fitted_on(values)
    assert fitted.names == ["x = other", "x = a", "x = b"]
    assert fitted.inputs[0].levels == ("a", "b")
    assert x[-1].tolist() == x[-2].tolist()
    np.testing.assert_array_equal(seen(fitted, ["d", "zzz"]), x[[-1, -1]])
    assert fitted.describe()[0] | {"levels": 2, "other": True} == fitted.describe()[0]


@pytest.mark.parametrize(
    ("rows", "count", "is_kept"),
    [(1000, 5, True), (1000, 4, False), (300, 3, True), (300, 2, False), (50, 1, True)],
)
def test_a_level_is_rare_below_five_rows_and_a_hundredth_of_them(rows, count, is_kept):
    _, fitted = fitted_on(["a"] * (rows - count) + ["b"] * count)
    assert ("b" in fitted.inputs[0].levels) == is_kept


@pytest.mark.parametrize(("encode", "codes"), [("one_hot", 4), ("embedding", 4)])
def test_of_too_many_levels_the_most_frequent_are_kept(encode, codes, monkeypatch):
    monkeypatch.setitem(categories.MOST_LEVELS, encode, 3)
    values = ["a"] * 2 + ["b"] * 4 + ["c"] * 3 + ["d"] * 2 + ["e"] * 5
    _, fitted = fitted_on(values, {"x": ColumnSpec(encode=encode)})
    assert fitted.inputs[0].levels == ("b", "c", "e")
    assert fitted.encodings[0].levels.count == codes


@pytest.mark.parametrize("encode", ["one_hot", "embedding"])
@pytest.mark.parametrize("values", [["a"], ["a", "b"], list("abcabc"), ["a", None], [None, None]])
def test_there_are_as_many_codes_as_was_told_before(encode, values):
    _, fitted = fitted_on([*values, "a"], {"x": ColumnSpec(encode=encode)})
    distinct, gaps = len({*values, "a"} - {None}), None in values
    told = categories.most_codes(encode, distinct, gaps=gaps)
    assert fitted.encodings[0].levels.count == told


def test_a_hundred_thousand_levels_are_coped_with(rng):
    names = np.array([f"level {n}" for n in range(100_000)])
    share = 1 / np.arange(1, 100_001)
    values = names[rng.choice(100_000, size=200_000, p=share / share.sum())].astype(object)
    rows = Table((Column("x", "text", values),))
    fitted = FeatureEncoder.fit(rows, ["x"], {"x": ColumnSpec(encode="embedding")})
    codes = fitted.transform(rows, np.float32)[:, 0]
    [(_, count)] = fitted.codes.items()
    assert 1000 < count <= categories.MOST_LEVELS["embedding"] + 1
    assert np.bincount(codes.astype(int))[1:].min() >= categories.RARE_ROWS
    assert (
        codes[values == "level 0"].tolist()
        == [codes[values == "level 0"][0]] * (values == "level 0").sum()
    )


# -- codes ---------------------------------------------------------------------------------------


def test_the_codes_of_an_embedding_begin_with_the_unknown_and_end_with_the_missing():
    x, fitted = fitted_on(["red", None, "blue"] * 2, EMBEDDED)
    assert x[:3, 0].tolist() == [2, 3, 1]
    assert seen(fitted, ["green", "red", None])[:, 0].tolist() == [0, 2, 3]
    assert (fitted.codes, fitted.width) == ({0: 4}, 1)
    _, whole = fitted_on(["red", "blue"], EMBEDDED)
    assert seen(whole, [None, "red"])[:, 0].tolist() == [0, 2]
    assert whole.codes == {0: 3}


def test_a_code_has_no_slope():
    rows = table(x=["red", "green", "blue"])
    fitted = FeatureEncoder.fit(rows, ["x"], EMBEDDED)
    assert fitted.pull_back(rows, np.ones((3, 1)))["x"].tolist() == [0, 0, 0]


# -- what is taken for a category ----------------------------------------------------------------


def test_levels_in_another_order_are_the_same_levels():
    expected, fitted = fitted_on(["red", "blue", "green"])
    codes = np.array([0, 2, 1], dtype=np.int32)
    other = Table((Column("x", "category", codes, ("red", "green", "blue")),))
    np.testing.assert_array_equal(fitted.transform(other, np.float64)[:, :-1], expected)
    np.testing.assert_array_equal(seen(fitted, ["red", "blue"]), expected[:2])


def test_text_is_taken_as_the_categories_that_it_has():
    values = ["red", "blue", None, "blue", "green"]
    text = Table((Column("x", "text", np.array(values, dtype=object)),))
    expected, fitted = fitted_on(values)
    np.testing.assert_array_equal(fitted.transform(text, np.float64)[:, :-1], expected)
    again = FeatureEncoder.fit(text, ["x"])
    np.testing.assert_array_equal(again.transform(text, np.float64)[:, :-1], expected)
    assert again.inputs == fitted.inputs


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([3, 1, 3, 10], ("1", "3", "10")),
        ([True, False, True, True], ("0", "1")),
        ([0.5, 2.0, -1e30, 2.0], ("-1000000000000000019884624838656", "0.5", "2")),
    ],
)
def test_numbers_can_be_levels(values, names):
    numbers = Table((column("x", values),))
    fitted = FeatureEncoder.fit(numbers, ["x"], {"x": ColumnSpec(type="category")})
    assert fitted.inputs[0].levels == names
    assert fitted.inputs[0].type == numbers.column("x").type
    x = fitted.transform(numbers, np.float64)
    later = table(x=[float(value) for value in values])
    np.testing.assert_array_equal(fitted.transform(later, np.float64), x)
    gap = fitted.transform(table(x=[None, 77.5]), np.float64)
    assert gap[0].tolist() == gap[1].tolist()
