"""Sequences in a spec: what is decided at its submission, and what is refused with a pointer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.data.profiling import profile
from engine.data.sequence_choices import most_examples
from engine.data.sequences import sequences
from engine.data.table import Column, Table
from engine.errors import SpecError, TiesError
from engine.resolution import AUTO_FORECAST, AUTO_NETWORK, resolve
from engine.spec import PARAMETER_BUDGET, SequenceSpec, TrainingSpec, ValidationPart
from tests.engine.beginnings import column, table

LENGTHS = {"a": 12, "b": 30, "c": 20}
ROWS = sum(LENGTHS.values())
NAMES = [name for name, length in LENGTHS.items() for _ in range(length)]
WHEN = np.array([np.datetime64("2030-01-01") + n for n in range(ROWS)], dtype="datetime64[us]")
LONG = Table(
    (
        *table(
            s=NAMES,
            t=[n for length in LENGTHS.values() for n in range(length)],
            x=[0.5 * n for n in range(ROWS)],
            y=[1.5 * n for n in range(ROWS)],
            count=[n % 7 for n in range(ROWS)],
            kind=["ab"[name == "b"] for name in NAMES],
            place=list(range(ROWS)),
            late=[None if n == 3 else n for n in range(ROWS)],
            endless=[np.inf if n == 4 else 1.0 * n for n in range(ROWS)],
        ).columns,
        Column("when", "timestamp", WHEN),
        column("image", np.ones((ROWS, 2, 2))),
    )
)
X = {"features": ["x"]}
NO_END = {"endless": {"encode": "drop"}}


def resolved(sequence, rows=LONG, validation_columns=(), **fields):
    asked = TrainingSpec.model_validate({"target": "y", "sequence": sequence, **X, **fields})
    return resolve(asked, profile(rows), rows.rows, PARAMETER_BUDGET, validation_columns)


FORECAST = {"order": "t", "group": "s", "window": 5}
RECURSIVE = {**FORECAST, "horizon": 3, "strategy": "recursive"}
WHOLE = {"order": "t", "group": "s"}
KIND = {"target": "kind", "task": "classification"}


def test_a_forecast_sees_the_past_of_what_it_predicts():
    decided = resolved(FORECAST, features=None, columns={"endless": {"encode": "drop"}})
    assert "y" in decided.features
    assert not {"s", "t"} & {*decided.features, *decided.columns}
    assert decided.columns["y"].scale == "robust"
    assert decided.column_names.count("y") == 1
    assert {"s", "t"} < set(decided.column_names)
    assert resolved(FORECAST).features == ["x", "y"]
    assert resolved(FORECAST, features=["y", "x"]).features == ["y", "x"]
    assert resolved(FORECAST, columns={"y": {"scale": "none"}}).columns["y"].scale == "none"


def test_what_is_open_is_decided():
    assert resolved(FORECAST).sequence == SequenceSpec(
        order="t", group="s", window=5, horizon=1, strategy="direct", relative=True
    )
    assert resolved(FORECAST).network == AUTO_FORECAST
    found = resolved(WHOLE, **KIND)
    assert found.sequence == SequenceSpec(order="t", group="s", length=30, mask=True)
    assert found.network == AUTO_NETWORK
    assert found.features == ["x"]


@pytest.mark.parametrize(
    ("fields", "task", "relative"),
    [
        ({"target": "count"}, "regression", True),
        ({"target": "count", "loss": "poisson"}, "regression", False),
        ({"target": "count", "task": "classification"}, "classification", False),
        (KIND, "classification", False),
    ],
)
def test_numbers_are_forecast_as_numbers_and_as_differences(fields, task, relative):
    decided = resolved(FORECAST, **fields)
    assert (decided.task, decided.sequence.relative) == (task, relative)


def test_series_of_one_length_need_no_mask_unless_it_is_asked_for():
    rows = table(s=list("aabb"), t=[1, 2, 1, 2], x=[1.0, 2.0, 3.0, 4.0], y=[0.0, 0.0, 1.0, 1.0])
    assert resolved(WHOLE, rows).sequence.mask is False
    assert resolved({**WHOLE, "mask": True}, rows).sequence.mask is True
    assert resolved({**WHOLE, "length": 3}, rows).sequence.mask is True


def test_the_series_to_validate_on_are_padded_to_one_length_with_the_others():
    other = table(s=["z"] * 44, t=list(range(44)), x=[1.0] * 44, kind=["a"] * 44)
    found = resolved(
        WHOLE, validation_columns=profile(other), validation={"dataset": "ds_other"}, **KIND
    )
    assert (found.sequence.length, found.sequence.mask) == (44, True)


@pytest.mark.parametrize(
    ("sequence", "fields"),
    [
        (FORECAST, {}),
        ({**FORECAST, "horizon": 3, "relative": False}, {"columns": {"x": {"impute": "mean"}}}),
        ({"order": "when", "window": 2}, {"target": "late"}),
        (FORECAST, {"features": None, "columns": {"endless": {"encode": "drop"}}}),
        (RECURSIVE, {"features": ["y"]}),
        (WHOLE, KIND),
        (FORECAST, KIND),
    ],
)
def test_resolving_what_is_resolved_changes_nothing(sequence, fields):
    once = resolved(sequence, **fields)
    sent_again = TrainingSpec.model_validate_json(once.model_dump_json())
    assert resolve(sent_again, profile(LONG), ROWS, PARAMETER_BUDGET) == once


def test_a_missing_target_is_noted_beside_what_becomes_of_its_past():
    choice = resolved({"order": "when", "window": 2}, target="late").columns["late"]
    assert choice.note == "as a target left out in rows that have no value here: 1"
    assert choice.impute == "median"


@pytest.mark.parametrize(
    ("sequence", "fields", "where", "reason"),
    [
        ({"order": "tt"}, {}, "/sequence/order", "no column 'tt'; did you mean 't'?"),
        ({"order": "t", "group": "q"}, {}, "/sequence/group", "no column 'q'"),
        ({"order": "kind"}, {}, "/sequence/order", "is category; number, integer, timestamp would"),
        ({"order": "t", "group": "image"}, {}, "/sequence/group", "is tensor"),
        ({"order": "t", "group": "when"}, {}, "/sequence/group", "is timestamp"),
        ({"order": "y"}, {}, "/sequence/order", "is the target as well"),
        ({"order": "x"}, {}, "/sequence/order", "is the feature as well"),
        ({"order": "t", "group": "t"}, {}, "/sequence/group", "is the order as well"),
        ({"order": "late"}, {}, "/sequence/order", "has 1 missing, the first in row 4"),
        ({"order": "endless"}, {}, "/sequence/order", "has 1 infinite, the first in row 5"),
        (
            {"order": "t", "window": 5},
            {},
            "/sequence/order",
            "30 different values in 62 rows; every row of a series needs a place of its own",
        ),
        (
            {**FORECAST, "window": 30},
            {},
            "/sequence/window",
            "the longest series has 30 rows, window + horizon is 31",
        ),
        ({**FORECAST, "horizon": 26}, {}, "/sequence/window", "window + horizon is 31"),
        (
            {"order": "place", "window": 60, "horizon": 3},
            {},
            "/sequence/window",
            "the longest series has 62 rows",
        ),
        ({**FORECAST, "length": 5}, {}, "/sequence/length", "is for whole series"),
        ({**FORECAST, "mask": True}, {}, "/sequence/mask", "is for whole series"),
        ({**FORECAST, "horizon": 2}, KIND, "/sequence/horizon", "1 would do"),
        ({**FORECAST, "relative": True}, KIND, "/sequence/relative", "no differences"),
        (RECURSIVE, {"features": ["y", "x"]}, "/features/1", "'x' is not known of the steps"),
        (RECURSIVE, {"features": None, "columns": NO_END}, "/features", "'x' is not known of"),
        (
            RECURSIVE,
            {"features": ["y"], "columns": {"y": {"type": "category"}}},
            "/columns/y/type",
            "not as category",
        ),
        (
            {**RECURSIVE, "horizon": 1},
            {**KIND, "features": ["kind"]},
            "/sequence/strategy",
            "a class is forecast for the next step",
        ),
        (
            RECURSIVE,
            {"features": ["y"], "loss": {"type": "quantile", "quantiles": [0.1, 0.9]}},
            "/sequence/strategy",
            "`direct` would do",
        ),
        ({**WHOLE, "strategy": "direct"}, KIND, "/sequence/strategy", "give a `window` as well"),
        ({**WHOLE, "horizon": 1}, KIND, "/sequence/horizon", "give a `window` as well"),
        ({**WHOLE, "relative": False}, KIND, "/sequence/relative", "give a `window` as well"),
        ({"order": "place"}, KIND, "/sequence/group", "without it all rows are one example"),
        ({**WHOLE, "length": 29}, KIND, "/sequence/length", "the longest series has 30 rows"),
        ({**WHOLE, "mask": False}, KIND, "/sequence/mask", "series differ in length"),
        (FORECAST, {"validation": {"folds": 3}}, "/validation/folds", "a `fraction` takes the"),
        (WHOLE, {**KIND, "validation": {"folds": 4}}, "/validation/folds", "there are 3"),
        (FORECAST, {"sample_weight": "x", "features": ["place"]}, "/sample_weight", "count alike"),
        (FORECAST, {"columns": {"s": {"impute": "level"}}}, "/columns/s", "is no feature"),
        (FORECAST, {"columns": {"y": {"encode": "drop"}}}, "/columns/y", "is the target"),
        (
            {"order": "place", "window": 2, "horizon": 30},
            {"validation": {"fraction": 0.2}},
            "/validation/fraction",
            "of 31 windows 6 would validate and 29 predict beyond",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(sequence, fields, where, reason):
    with pytest.raises(SpecError) as refusal:
        resolved(sequence, **fields)
    assert refusal.value.path == where
    assert reason in refusal.value.reason


@pytest.mark.parametrize(
    ("places", "said", "within", "count"),
    [([5, 5], "1 value in 2 rows", 2, 1), ([1, 2, 3, 2, 2], "3 different values in 5 rows", 4, 2)],
)
def test_it_is_told_among_which_rows_of_one_series_two_are_in_one_place(
    places, said, within, count
):
    rows = table(t=places, y=[0.5 * n for n in range(len(places))])
    with pytest.raises(TiesError) as refusal:
        resolved({"order": "t", "window": 1}, rows, features=None)
    assert said in refusal.value.reason
    assert (refusal.value.column, refusal.value.within, refusal.value.count) == ("t", within, count)
    order = rows.column("t").values
    assert len(set(order[:within])) < within


def test_series_too_many_to_be_counted_need_a_length():
    columns = [
        replace(c, top=None, distinct=50_001, approximate=["distinct"]) if c.name == "s" else c
        for c in profile(LONG)
    ]
    asked = {"target": "kind", "features": ["x"], "sequence": WHOLE}
    with pytest.raises(SpecError, match="^/sequence/length: .* say how many rows the longest"):
        resolve(TrainingSpec.model_validate(asked), columns, 10**6, PARAMETER_BUDGET)
    asked["sequence"] = {**WHOLE, "length": 40}
    found = resolve(TrainingSpec.model_validate(asked), columns, 10**6, PARAMETER_BUDGET)
    assert (found.sequence.length, found.sequence.mask) == (40, True)


def test_a_fifth_of_the_windows_validates_unless_too_few_are_left():
    by_place = {"order": "place", "window": 2}
    assert resolved(by_place).validation == ValidationPart(fraction=0.2)
    few, many = ({**by_place, "horizon": horizon} for horizon in (13, 10))
    assert resolved(few).validation == ValidationPart(fraction=0.0)
    assert resolved(many).validation == ValidationPart(fraction=0.2)


@pytest.mark.parametrize("lengths", [[7, 7, 7], [9, 1, 1], [5, 6, 7, 8], [3, 2, 1, 1], [4]])
@pytest.mark.parametrize("span", [(1, 1), (2, 1), (1, 2)])
def test_there_are_no_more_examples_than_are_counted_on(lengths, span):
    rows = table(
        s=[f"s{n}" for n, length in enumerate(lengths) for _ in range(length)],
        t=[place for length in lengths for place in range(length)],
        y=[1.0] * sum(lengths),
    )
    how = SequenceSpec(order="t", group="s", window=span[0], horizon=span[1])
    counted = most_examples(how, {c.name: c for c in profile(rows)}, rows.rows)
    found = len(sequences(rows, how, ["y"]))
    assert found <= counted
    assert found == counted or len(set(lengths)) > 1
