"""Timestamps: their place in the day, the week and the year, and the time itself."""

from __future__ import annotations

import numpy as np
import pytest

from engine.data.preprocessing import FeatureEncoder
from engine.data.table import Column, Table
from engine.spec import ColumnSpec

UNSCALED = ColumnSpec(scale="none")


def times(*texts):
    return Table((Column("when", "timestamp", np.array(texts, dtype="datetime64[us]")),))


def parts(rows, how=UNSCALED):
    """What becomes of times, by name."""
    fitted = FeatureEncoder.fit(rows, ["when"], {"when": how})
    return dict(zip(fitted.names, fitted.transform(rows, np.float64).T, strict=False))


@pytest.mark.parametrize(
    ("cycle", "quarters"),
    [
        ("day", ["2024-05-05T00", "2024-05-06T06", "1969-12-31T12", "2400-02-29T18"]),
        ("week", ["2024-01-01T00", "2024-01-02T18", "2024-01-04T12", "1969-12-27T06"]),
        ("year", ["2024-01-01", "1968-04-01T12", "2024-07-02", "2023-10-01T18"]),
    ],
)
def test_a_cycle_turns_once(cycle, quarters):
    found = parts(times(*quarters))
    sine, cosine = (found[f"{wave} of {cycle} of when"] for wave in ("sine", "cosine"))
    np.testing.assert_allclose(sine, [0, 1, 0, -1], atol=1e-12)
    np.testing.assert_allclose(cosine, [1, 0, -1, 0], atol=1e-12)


def test_the_time_is_counted_in_days():
    found = parts(times("1970-01-01", "1970-01-03T12", "1969-12-31"))
    assert found["time of when"].tolist() == [0, 2.5, -1]


@pytest.mark.parametrize(
    ("encode", "count"), [("calendar", 7), ("cyclic", 6), ("linear", 1), (None, 7)]
)
def test_a_timestamp_becomes_what_was_asked_for(encode, count):
    how = UNSCALED.model_copy(update={"encode": encode})
    whole = parts(times("2024-01-01T01", "2025-03-04"))
    found = parts(times("2024-01-01T01", "2025-03-04"), how)
    assert len(found) == count
    for name, numbers in found.items():
        np.testing.assert_array_equal(numbers, whole[name])


def test_dates_do_not_say_a_thing_about_the_day_and_never_will():
    rows = times("2024-01-01", "2024-02-04", "2024-03-05")
    fitted = FeatureEncoder.fit(rows, ["when"])
    at_noon = fitted.transform(times("2024-02-04T12"), np.float64)
    assert not at_noon[:, :2].any()
    assert at_noon[:, 2:].all()


def test_the_same_moment_of_many_days_does_not_say_a_thing_about_the_day():
    moments = np.datetime64("1896-01-01T06:07:08.9") + 61 * np.arange(300) * np.timedelta64(1, "D")
    x = FeatureEncoder.fit(times(*moments), ["when"]).transform(times(*moments), np.float64)
    assert not x[:, :2].any()
    assert x[:, 2:].any(axis=0).all()


@pytest.mark.parametrize(
    ("impute", "fill"), [("median", "2024-01-03T00:00:00.000000Z"), ("mean", "2024-01-11")]
)
def test_a_missing_time_is_filled_and_flagged(impute, fill):
    rows = times("2024-01-01", "NaT", "2024-01-03", "2024-01-29")
    how = UNSCALED.model_copy(update={"impute": impute})
    found = parts(rows, how)
    assert found["when is missing"].tolist() == [0, 1, 0, 0]
    filled = parts(times("2024-01-01", fill[:10], "2024-01-03", "2024-01-29"))
    for name, numbers in filled.items():
        np.testing.assert_array_equal(found[name], numbers)
    fitted = FeatureEncoder.fit(rows, ["when"], {"when": how})
    assert fitted.describe()[0]["fill"].startswith(fill[:10])


def test_what_was_never_missing_in_training_is_filled_all_the_same():
    fitted = FeatureEncoder.fit(times("2024-01-01", "2024-01-03", "2024-01-09"), ["when"])
    gap, middle = fitted.transform(times("NaT", "2024-01-03"), np.float64)
    assert gap.tolist() == middle.tolist()


def test_times_that_are_all_missing_are_nothing_but_filled():
    rows = times("NaT", "NaT")
    x = FeatureEncoder.fit(rows, ["when"]).transform(rows, np.float64)[:, :-1]
    assert x.tolist() == [[0.0] * 8] * 2
