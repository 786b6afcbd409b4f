"""Baselines: what is there without a network, told only where it is there for every example."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine import baselines
from engine.baselines import (
    RESAMPLED_STEPS,
    compare,
    logistic_metrics,
    naive_metrics,
    resampled,
)
from engine.data.batches import Examples
from engine.data.sequences import sequences
from engine.data.table import Column, Table
from engine.data.windows import Windows
from engine.spec import SequenceSpec
from tests.engine.beginnings import column

UNITS = {"h": 24, "D": 7, "M": 12}


def dated(y, unit="M", step=1, left_out=()):
    """A series of times that lie so far apart."""
    places = [n for n in range(len(y)) if n not in left_out]
    when = np.datetime64("2020-01-01", "h").astype(f"datetime64[{unit}]") + step * np.array(places)
    values = column("y", [y[n] for n in places])
    return Table((Column("t", "timestamp", when.astype("datetime64[us]")), values))


def examples(rows, window=3, horizon=2):
    return sequences(rows, SequenceSpec(order="t", window=window, horizon=horizon), ["y"])


@pytest.mark.parametrize(("unit", "step"), [("h", 1), ("D", 1), ("D", 7), ("M", 1), ("M", 3)])
def test_the_time_between_rows_tells_the_season(unit, step):
    season = {("D", 7): 52, ("M", 3): 4}.get((unit, step), UNITS[unit])
    assert examples(dated([1.0] * 60, unit, step)).series.season == season


@pytest.mark.parametrize(("unit", "step"), [("h", 6), ("D", 2), ("M", 12), ("M", 2)])
def test_there_is_no_season_where_none_is_usual(unit, step):
    assert examples(dated([1.0] * 60, unit, step)).series.season is None


def test_bare_numbers_and_uneven_steps_have_no_season():
    numbers = Table((column("t", list(range(9))), column("y", [1.0] * 9)))
    assert examples(numbers).series.season is None
    assert examples(dated([1.0] * 60, "D", left_out=range(0, 60, 3))).series.season is None


def test_forecasts_are_measured_by_the_rows_that_they_are_from():
    y = [float(n * n) for n in range(60)]
    every = examples(dated(y, "D"))
    found = every.take(np.flatnonzero(every.windows.starts >= 10))
    ends = np.arange(13, 59)
    error = {"last_value_mae": [], "seasonal_naive_mae": []}
    for end in ends:
        for step in range(2):
            error["last_value_mae"].append(abs(y[end + step] - y[end - 1]))
            error["seasonal_naive_mae"].append(abs(y[end + step] - y[end + step - 7]))
    assert naive_metrics(found, "regression") == {n: np.mean(e) for n, e in error.items()}


def test_a_horizon_of_more_than_a_season_repeats_it():
    y = [float(n % 7) for n in range(60)]
    found = examples(dated(y, "D"), window=7, horizon=16)
    assert naive_metrics(found, "regression")["seasonal_naive_mae"] == 0
    assert naive_metrics(replace(found, answers=found.answers[:, :9]), "regression") != {}


def test_a_season_that_is_not_there_for_every_example_is_not_told():
    y = [1.0] * 60
    assert list(naive_metrics(examples(dated(y, "D")), "regression")) == ["last_value_mae"]
    gap = examples(dated(y, "D", left_out=[30]))
    after = gap.take(np.flatnonzero(gap.windows.starts >= 30))
    assert list(naive_metrics(after, "regression")) == ["last_value_mae"]
    later = gap.take(np.flatnonzero(gap.windows.starts >= 34))
    assert list(naive_metrics(later, "regression")) == ["last_value_mae", "seasonal_naive_mae"]


def test_what_is_missing_is_what_was_known_before():
    y = [0.0, 1.0, None, 3.0, 4.0]
    assert naive_metrics(examples(dated(y), window=3, horizon=1), "regression") == {
        "last_value_mae": (2.0 + 1.0) / 2
    }
    assert naive_metrics(examples(dated([None, *y[1:]]), 1, 1), "regression") == {}


def test_classes_are_forecast_by_the_last_one():
    rows = dated(["a", "a", "b", "b", "b"])
    assert naive_metrics(examples(rows, 1, 1), "classification") == {"last_value_accuracy": 3 / 4}


def test_series_areresampled_along_straight_lines():
    x = np.array([[0.0, 5.0], [1.0, 5.0], [3.0, 5.0], [7.0, 2.0]])
    windows = Windows(np.array([0, 3]), 3, np.array([3, 1]))
    found = resampled(Examples(x, np.array([0, 1]), 1, windows=windows), 2)
    assert found.outputs == 2
    np.testing.assert_array_equal(found.x[:, -1], 1)
    first, second = found.x[:, :-1].reshape(2, RESAMPLED_STEPS, 2)
    place = np.linspace(0, 2, RESAMPLED_STEPS)
    np.testing.assert_allclose(first[:, 0], np.interp(place, [0, 1, 2], [0, 1, 3]))
    np.testing.assert_allclose(first[:, 1], 5)
    np.testing.assert_allclose(second, [[7.0, 2.0]] * RESAMPLED_STEPS)


def test_of_folds_one_epoch_counts_for_all(monkeypatch):
    courses = [
        [(0.9, 0.5), (0.5, 0.6), (0.4, 0.7)],
        [(0.3, 0.8), (0.5, 0.4), (0.8, 0.6)],
    ]
    monkeypatch.setattr(baselines, "_course", lambda data, *_: courses[data])
    found = logistic_metrics([(0, None), (1, None)], None, 9, lambda: None)
    assert found == {
        "logistic_regression_accuracy": pytest.approx(0.5),
        "logistic_regression_accuracy_deviation": pytest.approx(np.sqrt(0.02)),
    }
    assert logistic_metrics([(1, None)], None, 9, lambda: None) == {
        "logistic_regression_accuracy": 0.8
    }
    courses[1] = []
    assert logistic_metrics([(0, None), (1, None)], None, 9, lambda: None) == {}


@pytest.mark.parametrize(
    ("mae", "said"),
    [
        (1.0, "the network, of mae 1, beats last_value_mae (3), seasonal_naive_mae (2)"),
        (2.0, "the network, of mae 2, beats last_value_mae (3) and does not beat seasonal_naive_"),
        (9.0, "the network, of mae 9, does not beat last_value_mae (3), seasonal_naive_mae (2)"),
    ],
)
def test_it_is_said_which_baselines_a_network_beats(mae, said):
    [note] = compare({"mae": mae}, {"last_value_mae": 3.0, "seasonal_naive_mae": 2.0})
    assert note.startswith(said)
    assert compare({"mae": mae}, {}) == ()


def test_more_accuracy_is_better():
    [note] = compare({"accuracy": 0.9}, {"logistic_regression_accuracy": 0.95})
    assert "does not beat" in note
