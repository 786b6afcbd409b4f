"""Resolution: what is decided, and what is refused with a pointer into the spec."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.data.profiling import profile
from engine.data.table import Column, Table
from engine.errors import SpecError
from engine.model import prepare
from engine.network import Architecture, Inputs
from engine.resolution import AUTO_NETWORK, MAX_INTEGER_CLASSES, resolve
from engine.spec import (
    PARAMETER_BUDGET,
    Adam,
    DenseLayer,
    NetworkSpec,
    ResolvedSpec,
    Sgd,
    TrainingSpec,
    ValidationPart,
)
from tests.engine.beginnings import column, table

ROWS = 60
RNG = np.random.default_rng(5)
COLUMNS = {
    "width": RNG.standard_normal(ROWS).tolist(),
    "height": RNG.standard_normal(ROWS).tolist(),
    "many": list(range(ROWS)),
    "few": [row % MAX_INTEGER_CLASSES for row in range(ROWS)],
    "flag": [row % 2 == 0 for row in range(ROWS)],
    "colour": [("red", "green", "blue")[row % 3] for row in range(ROWS)],
    "side": [("left", "right")[row % 2] for row in range(ROWS)],
    "image": RNG.standard_normal((ROWS, 4, 5)),
    "same": ["rose"] * ROWS,
    "one": [1] * ROWS,
}
TEXT = Column("note", "text", np.array([f"note {row}" for row in range(ROWS)], dtype=object))
TIME = Column("when", "timestamp", np.arange(ROWS).astype("datetime64[us]"))
GAPS = column("gaps", [None if row in (4, 7) else 1.0 * row for row in range(ROWS)])
HOLES = column("holes", [None if row == 2 else "ab"[row % 2] for row in range(ROWS)])
ENDLESS = column("endless", [np.inf if row in (8, 9, 10) else 1.0 * row for row in range(ROWS)])
HUGE = column("huge", [(-1.0) ** row * 1e200 for row in range(ROWS)])
ALL = Table((*table(**COLUMNS).columns, TEXT, TIME, GAPS, HOLES, ENDLESS, HUGE))


def resolved(target, rows=ALL, budget=PARAMETER_BUDGET, **fields):
    asked = TrainingSpec(target=target, **fields)
    return resolve(asked, profile(rows), rows.rows, budget)


@pytest.mark.parametrize(
    ("target", "task", "loss"),
    [
        ("colour", "classification", "cross_entropy"),
        ("side", "classification", "cross_entropy"),
        ("flag", "classification", "cross_entropy"),
        ("few", "classification", "cross_entropy"),
        ("note", "classification", "cross_entropy"),
        ("many", "regression", "squared_error"),
        ("width", "regression", "squared_error"),
        (["width"], "regression", "squared_error"),
        (["few", "flag"], "regression", "squared_error"),
    ],
)
def test_the_task_follows_from_the_target_and_the_loss_from_the_task(target, task, loss):
    decided = resolved(target, features=["height"])
    assert (decided.task, decided.loss.type) == (task, loss)


@pytest.mark.parametrize(
    ("fields", "task", "loss"),
    [
        ({"task": "regression"}, "regression", "squared_error"),
        ({"task": "classification"}, "classification", "cross_entropy"),
        ({"loss": "squared_error"}, "classification", "squared_error"),
    ],
)
def test_what_is_said_is_not_decided_otherwise(fields, task, loss):
    decided = resolved("few", features=["width"], **fields)
    assert (decided.task, decided.loss.type) == (task, loss)


def test_features_are_all_other_columns_in_order():
    rows = table(a=[1.0, 2.0], y=[1.5, 2.5], b=[3.0, 4.0], z=[5.0, 6.0])
    assert resolved("y", rows).features == ["a", "b", "z"]
    assert resolved(["y", "b"], rows).features == ["a", "z"]
    assert resolved("y", rows, features=["z", "a"]).features == ["z", "a"]


@pytest.mark.parametrize(("rows", "fraction"), [(49, 0.0), (50, 0.2)])
def test_a_fifth_validates_from_fifty_rows_on(rows, fraction):
    some = table(x=[float(row) for row in range(rows)], y=[float(row) for row in range(rows)])
    assert resolved("y", some).validation == ValidationPart(fraction=fraction)
    asked = ValidationPart(fraction=0.5)
    assert resolved("y", some, validation=asked).validation == asked


def test_an_automatic_network_is_chosen_and_a_given_one_kept():
    assert resolved("colour", features=["width"]).network == AUTO_NETWORK
    linear = NetworkSpec(layers=[])
    assert resolved("colour", features=["width"], network=linear).network == linear


def test_everything_else_stays_as_it_was_said():
    said = {"optimizer": Sgd(nesterov=True), "seed": 9, "precision": "float64"}
    decided = resolved("colour", features=["width"], **said)
    assert {name: getattr(decided, name) for name in said} == said
    assert resolved("colour", features=["width"]).optimizer == Adam()


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        ("colour", {"features": ["width", "side", "image"]}),
        ("few", {"features": ["colour"], "task": "regression"}),
        (["width", "height"], {"features": ["many"], "validation": ValidationPart(fraction=0.0)}),
    ],
)
def test_resolving_what_is_resolved_changes_nothing(target, fields):
    once = resolved(target, **fields)
    assert resolve(once, profile(ALL), ALL.rows, PARAMETER_BUDGET) == once
    sent_again = TrainingSpec.model_validate_json(once.model_dump_json())
    assert resolve(sent_again, profile(ALL), ALL.rows, PARAMETER_BUDGET) == once
    assert type(once) is ResolvedSpec


@pytest.mark.parametrize(
    ("target", "fields", "path", "reason"),
    [
        ("colr", {}, "/target", "the dataset has no column 'colr'; did you mean 'colour'?"),
        (["width", "hight"], {}, "/target/1", "no column 'hight'; did you mean 'height'?"),
        ("zzz", {}, "/target", "no column 'zzz'; there are 'width', 'height', 'many'"),
        (["width", "width"], {}, "/target/0", "'width' is given twice"),
        ("gaps", {}, "/target", "'gaps' has 2 missing or NaN, the first in row 5; fill or"),
        ("holes", {}, "/target", "'holes' has 1 missing or NaN, the first in row 3"),
        ("endless", {}, "/target", "'endless' has 3 infinite, the first in row 9"),
        ("when", {}, "/target", "'when' is timestamp; it cannot be predicted"),
        ("image", {}, "/target", "'image' is tensor; it cannot be predicted"),
        ("same", {}, "/target", "'same' holds one class, 'rose'; there is nothing to tell apart"),
        ("one", {}, "/target", "'one' holds one class, 1; there is nothing to tell apart"),
        (["few", "flag"], {"task": "classification"}, "/target", "classification has one target"),
        ("colour", {"task": "regression"}, "/task", "'colour' is category; regression needs num"),
        ("note", {"task": "regression"}, "/task", "'note' is text; regression needs numbers"),
        (["width", "side"], {}, "/task", "'side' is category; regression needs numbers"),
        ("huge", {}, "/target", "'huge' overflows when squared; divide it by a large number"),
        (
            "width",
            {"loss": "cross_entropy"},
            "/loss",
            "cross_entropy is not for regression; squared_error",
        ),
        ("width", {"features": ["hieght"]}, "/features/0", "did you mean 'height'?"),
        ("width", {"features": ["few", "width"]}, "/features/1", "'width' is the target"),
        ("width", {"features": ["few", "few"]}, "/features/0", "'few' is given twice"),
        ("width", {"features": ["few", "note"]}, "/features/1", "column 'note' is text; list"),
        ("width", {"features": ["when"]}, "/features/0", "column 'when' is timestamp; list"),
        ("width", {"features": ["gaps"]}, "/features/0", "2 missing or NaN, the first in row 5"),
        ("width", {"features": ["endless"]}, "/features/0", "3 infinite, the first in row 9"),
    ],
)
def test_what_does_not_fit_is_refused_where_it_stands(target, fields, path, reason):
    with pytest.raises(SpecError) as refusal:
        resolved(target, **{"features": ["many"], **fields})
    assert refusal.value.path == path
    assert reason in refusal.value.reason


def test_features_that_were_not_listed_are_refused_as_a_whole():
    with pytest.raises(SpecError) as refusal:
        resolved("width")
    assert refusal.value.path == "/features"
    assert "column 'note' is text; list the other columns" in refusal.value.reason


def test_nan_within_a_tensor_counts_by_rows():
    image = COLUMNS["image"].copy()
    image[6, 1, 1:3] = np.nan
    rows = table(image=image, y=COLUMNS["width"])
    with pytest.raises(SpecError, match="'image' has 1 missing or NaN, the first in row 7"):
        resolved("y", rows)


def test_a_dataset_of_nothing_but_the_target_is_refused():
    with pytest.raises(SpecError) as refusal:
        resolved("y", table(y=[1.0, 2.0]))
    assert refusal.value.path == "/features"
    assert "no column beside the target" in refusal.value.reason


def test_one_row_cannot_be_divided():
    row = table(x=[1.0], y=[2.0])
    with pytest.raises(SpecError) as refusal:
        resolved("y", row, validation=ValidationPart(fraction=0.1))
    assert refusal.value.path == "/validation/fraction"
    assert resolved("y", row, validation=ValidationPart(fraction=0.0)).validation.fraction == 0
    two = table(x=[1.0, 2.0], y=[2.0, 3.0])
    assert resolved("y", two, validation=ValidationPart(fraction=0.1)).validation.fraction == 0.1


@pytest.mark.parametrize(
    ("target", "features", "inputs", "outputs"),
    [
        ("colour", ["width", "side", "flag"], 3, 3),
        ("side", ["colour", "same"], 4, 2),
        ("few", ["image"], 20, MAX_INTEGER_CLASSES),
        (["width", "height"], ["image", "colour", "few"], 24, 2),
    ],
)
def test_the_budget_is_held_against_the_very_network_that_would_be_trained(
    target, features, inputs, outputs
):
    hidden = NetworkSpec(layers=[DenseLayer(units=10)])
    fields = {"features": features, "network": hidden}
    count = Architecture(hidden, Inputs((inputs,)), outputs, "identity").parameter_count()
    decided = resolved(target, budget=count, **fields)
    prepared = prepare(ALL, decided)
    built = prepared.architecture
    assert (built.inputs.units, built.outputs) == (inputs, outputs)
    assert built.parameter_count() == count
    with pytest.raises(SpecError) as refusal:
        resolved(target, budget=count - 1, **fields)
    assert refusal.value.path == "/network"
    assert refusal.value.reason == (
        f"{count:,} weights and biases ({inputs} inputs, {outputs} outputs); "
        f"the budget is {count - 1:,}; use fewer or smaller layers"
    )


def test_a_network_beyond_all_memory_is_refused_at_once():
    widest = NetworkSpec(layers=[DenseLayer(units=2**53)] * 200)
    with pytest.raises(SpecError, match="the budget is 50,000,000"):
        resolved("colour", features=["width"], network=widest)


def test_more_classes_than_are_counted_are_not_told_apart():
    first, *others = profile(ALL)
    many = replace(first, distinct=50_001, approximate=["distinct"])
    asked = TrainingSpec(target=many.name, features=["height"], task="classification")
    with pytest.raises(SpecError, match="more than 50,001 classes; ask for regression"):
        resolve(asked, [many, *others], ALL.rows, PARAMETER_BUDGET)
