"""Sequences: which examples are cut out of series, and that none looks into what it predicts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.sequences import last_values, sequences, split_sequences
from engine.data.table import Table
from engine.data.windows import Windows
from engine.errors import DataError, SchemaError
from engine.spec import SequenceSpec
from tests.engine.beginnings import column, table

RNG = np.random.default_rng(0)


def forecast(window, horizon=1, **fields):
    return SequenceSpec(order="t", group="s", window=window, horizon=horizon, **fields)


def whole(length, *, mask=True):
    return SequenceSpec(order="t", group="s", length=length, mask=mask)


@st.composite
def tables(draw):
    """Series of several lengths with gaps, missing targets and shuffled rows."""
    rows = []
    for name in "abc"[: draw(st.integers(1, 3))]:
        start, length = draw(st.integers(0, 5)), draw(st.integers(1, 40))
        gap = draw(st.integers(1, 60))
        places = [start + step + 9 * (step >= gap) for step in range(length)]
        rows += [(name, place, 100.0 * "abc".index(name) + place) for place in places]
    lacking = draw(st.sets(st.integers(0, len(rows) - 1), max_size=3))
    rows = [(s, t, None if n in lacking else y) for n, (s, t, y) in enumerate(rows)]
    s, t, y = zip(*draw(st.permutations(rows)), strict=True)
    return table(s=list(s), t=list(t), y=list(y))


@given(rows=tables(), window=st.integers(1, 5), horizon=st.integers(1, 3))
def test_windows_are_all_runs_without_gap_whose_answers_are_there(rows, window, horizon):
    names = [rows.column("s").levels[code] for code in rows.column("s").values]
    known = {
        (name, int(t)): y
        for name, t, y in zip(names, rows.column("t").values, rows.column("y").values, strict=True)
    }
    span = range(window + horizon)
    expected = {
        (name, t)
        for name, t in known
        if all((name, t + step) in known for step in span)
        and not any(np.isnan(known[name, t + step]) for step in span[window:])
    }
    try:
        found = sequences(rows, forecast(window, horizon), ["y"])
    except DataError:
        assert not expected
        return
    t, s = found.table.column("t").values, found.table.column("s")
    begins = {(s.levels[s.values[start]], int(t[start])) for start in found.windows.starts}
    # A series too short to tell its step may take the one it has for even.
    assert expected <= begins
    assert len(begins) == len(found)
    for start, answers in zip(found.windows.starts, found.answers, strict=True):
        assert answers.tolist() == [start + window + step for step in range(horizon)]
        assert len(set(s.values[start : answers[-1] + 1])) == 1


@given(
    rows=tables(),
    window=st.integers(1, 4),
    horizon=st.integers(1, 3),
    fraction=st.floats(0.05, 0.9),
)
def test_what_is_predicted_in_validation_is_later_than_all_that_training_touches(
    rows, window, horizon, fraction
):
    how = forecast(window, horizon)
    try:
        examples = sequences(rows, how, ["y"])
        training, validation = split_sequences(examples, how, fraction, RNG)
    except DataError:
        return
    t = examples.table.column("t").values
    touched = training.touched.column("t").values
    predicted = t[validation.answers]
    assert touched.max() < predicted.min()
    assert touched.max() == t[training.answers].max()
    first, last = t[examples.answers[:, 0]], t[examples.answers[:, -1]]
    between = (first < predicted.min()) & (last > touched.max())
    assert len(training) + len(validation) + between.sum() == len(examples)


def test_the_latest_share_of_one_series_validates():
    rows = table(s=["a"] * 30, t=list(range(30)), y=list(range(30)))
    how = forecast(5, 2)
    examples = sequences(rows, how, ["y"])
    training, validation = split_sequences(examples, how, 0.25, RNG)
    assert len(examples) == 24
    assert validation.answers.tolist() == [[n, n + 1] for n in range(23, 29)]
    assert training.answers.tolist() == [[n, n + 1] for n in range(5, 22)]
    assert training.notes == ("windows left out, as they predict both before and after the cut: 1",)
    assert training.touched.column("t").values.tolist() == list(range(23))
    everything, nothing = split_sequences(examples, how, 0.0, RNG)
    assert (everything, nothing) == (examples, None)


def test_one_moment_divides_all_series():
    rows = table(s=["a"] * 20 + ["b"] * 10, t=[*range(20), *range(10)], y=[0.0] * 30)
    how = forecast(2)
    training, validation = split_sequences(sequences(rows, how, ["y"]), how, 0.2, RNG)
    assert training.touched.column("t").values.max() == 14
    assert training.touched.rows == 15 + 10
    assert validation.table.column("t").values[validation.answers].min() == 15


def test_windows_that_cannot_be_divided_are_refused():
    rows = table(s=["a", "a", "b", "b"], t=[1, 2, 1, 2], y=[0.0] * 4)
    how = forecast(1)
    with pytest.raises(DataError, match="all windows end at the same time"):
        split_sequences(sequences(rows, how, ["y"]), how, 0.5, RNG)
    rows = table(s=["a"] * 12, t=list(range(12)), y=[0.0] * 12)
    with pytest.raises(DataError, match="none ends before these begin to predict"):
        split_sequences(sequences(rows, forecast(1, 8), ["y"]), forecast(1, 8), 0.5, RNG)


def test_series_that_are_too_short_are_left_out_with_a_note():
    rows = table(s=["a", "b", "b", "b", "c"], t=[1, 1, 2, 3, 1], y=[0.0] * 5)
    found = sequences(rows, forecast(2), ["y"])
    assert len(found) == 1
    assert found.notes == (
        "left out, as they are shorter than window + horizon, which is 3 rows: "
        "series 'a', series 'c'",
    )
    with pytest.raises(DataError) as refusal:
        sequences(rows, forecast(2, 2), ["y"])
    assert refusal.value.reason == (
        "the longest series has 3 rows, fewer than window + horizon, which is 4 rows"
    )


def test_windows_over_gaps_and_to_missing_targets_are_left_out_with_a_note():
    y = [None if n == 25 else 1.0 for n in range(40)]
    rows = table(s=["a"] * 40, t=[*range(10), *range(20, 50)], y=y)
    found = sequences(rows, forecast(3), ["y"])
    assert found.notes == (
        "gaps: 1 step is of another size than the others of its series: from 9 to 20 "
        "(rows 10 and 11)",
        "windows left out, as they reach over a gap: 3",
        "windows left out, as a target after them is missing: 1",
    )
    assert len(found) == 40 - 3 - 3 - 1
    with pytest.raises(DataError, match=r"no window is left .*; gaps: 1 step .*: 9$"):
        sequences(
            table(s=["a"] * 18, t=[*range(9), *range(20, 29)], y=[0.0] * 18), forecast(9), ["y"]
        )


def test_a_relative_forecast_is_told_from_the_last_value_that_is_there():
    y = [None, None, 3.0, None, 5.0, 6.0]
    rows = table(s=["a"] * 6, t=list(range(6)), y=y, z=[1.0] * 6)
    found = sequences(rows, forecast(2, relative=True), ["y", "z"])
    assert found.answers.tolist() == [[4], [5]]
    assert found.bases.tolist() == [[3.0, 1.0], [5.0, 1.0]]
    assert found.notes[-1] == "windows left out, as they have no value of a target: 1"
    assert sequences(rows, forecast(2), ["y"]).bases is None
    with pytest.raises(SchemaError, match="expected a value in some row of every window") as bare:
        last_values(rows, Windows(np.array([2, 0]), 2), ["y"])
    assert bare.value.row == 1


def test_a_whole_series_is_one_example():
    rows = table(s=["b", "a", "a", "c"], t=[1, 2, 1, 9], y=["no", "yes", "yes", None])
    found = sequences(rows, whole(4), ["y"])
    assert found.windows.starts.tolist() == [0, 2]
    assert found.windows.lengths.tolist() == [2, 1]
    assert found.answers.tolist() == [[0], [2]]
    assert found.notes == ("left out, as they have no target: series 'c'",)
    assert found.touched.rows == 3


@pytest.mark.parametrize(
    ("y", "rows"),
    [
        (["no", "yes", "yes", "no"], "1 and 2"),
        (["no", "no", "yes", None], "3 and 4"),
        ([1.0, 1.0, 1.5, 1.0], "3 and 4"),
    ],
)
def test_a_series_of_two_targets_is_named(y, rows):
    of = table(s=["a", "a", "b", "b"], t=[1, 2, 1, 2], y=y)
    with pytest.raises(DataError, match=f"in \\d series, such as series '[ab]', rows {rows}"):
        sequences(of, whole(2), ["y"])


def test_a_series_that_does_not_fit_is_named():
    rows = table(s=["a", "b", "b"], t=[1, 1, 2], y=[1.0, 2.0, 2.0])
    with pytest.raises(DataError, match="series 'b' has 2 rows, but `length` is 1"):
        sequences(rows, whole(1), ["y"])
    with pytest.raises(DataError, match="series 'a' has 1 row, where `length` is 2"):
        sequences(rows, whole(2, mask=False), ["y"])


def test_series_without_any_target_teach_nothing():
    rows = table(s=["a"], t=[1], y=[None])
    with pytest.raises(DataError, match="no series has a target"):
        sequences(rows, whole(1), ["y"])


def test_a_table_without_rows_has_no_sequence():
    nothing = Table((column("s", []), column("t", []), column("y", [])))
    with pytest.raises(DataError, match="no row"):
        sequences(nothing, whole(1), ["y"])


def test_whole_series_are_drawn_by_class():
    names = [f"s{n:02d}" for n in range(40) for _ in range(3)]
    labels = ["common" if n < 30 else "rare" for n in range(40) for _ in range(3)]
    rows = table(s=names, t=[0, 1, 2] * 40, y=labels)
    examples = sequences(rows, whole(3, mask=False), ["y"])
    training, validation = split_sequences(
        examples, whole(3), 0.2, np.random.default_rng(0), examples.answered.column("y").values
    )
    assert (len(training), len(validation)) == (32, 8)
    assert np.bincount(validation.answered.column("y").values).tolist() == [6, 2]
    both = [set(part.touched.column("s").values) for part in (training, validation)]
    assert not both[0] & both[1]
