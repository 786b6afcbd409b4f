"""Specs: what can be asked for, what is assumed, and what is refused where."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from engine.spec import (
    Adam,
    ConstantSchedule,
    CosineSchedule,
    DenseLayer,
    DropoutLayer,
    NetworkSpec,
    ResolvedSpec,
    Sgd,
    StopRules,
    TrainingRun,
    TrainingSpec,
)
from tests.engine.beginnings import spec


def read(**fields):
    """A spec as it is read from JSON."""
    return TrainingSpec.model_validate_json(json.dumps({"target": "y", **fields}))


def test_only_the_target_has_to_be_said():
    least = read()
    assert least.targets == ["y"]
    assert least.optimizer == Adam(learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8)
    assert least.schedule == ConstantSchedule()
    assert least.training == TrainingRun(epochs=100, batch_size=32, stop=StopRules())
    assert (least.network, least.seed, least.precision) == ("auto", 0, "float32")
    assert (least.features, least.task, least.loss, least.validation) == (None, None, None, None)


def test_what_an_optimizer_and_a_schedule_leave_open_is_assumed():
    momentum = read(optimizer={"type": "sgd"}, schedule={"type": "cosine"})
    assert momentum.optimizer == Sgd(learning_rate=0.01, momentum=0.9, nesterov=False)
    assert momentum.schedule == CosineSchedule(final=0.0)
    assert read(optimizer={"type": "adam"}).optimizer == read().optimizer


def test_everything_can_be_said():
    whole = {
        "target": ["y", "z"],
        "features": ["a", "b"],
        "columns": {
            "a": {"type": "category", "impute": "level", "encode": "one_hot", "note": "why"},
            "b": {"impute": -1.5, "scale": "standard"},
            "c": {"encode": "drop"},
        },
        "task": "regression",
        "network": {
            "layers": [
                {
                    "type": "dense",
                    "units": 5,
                    "activation": "tanh",
                    "bias": False,
                    "initializer": "zeros",
                },
                {"type": "activation", "activation": "sigmoid"},
                {"type": "dropout", "rate": 0.25},
            ]
        },
        "loss": {"type": "quantile", "quantile": 0.25},
        "class_weights": {"a": 2.0},
        "sequence": {
            "order": "t",
            "group": "s",
            "window": 24,
            "horizon": 12,
            "strategy": "direct",
            "relative": False,
            "length": 30,
            "mask": True,
        },
        "sample_weight": "w",
        "optimizer": {
            "l1": 0.1,
            "weight_decay": 0.2,
            "clip_value": 3.0,
            "clip_norm": 4.0,
            "type": "sgd",
            "learning_rate": 0.5,
            "momentum": 0.0,
            "nesterov": True,
        },
        "schedule": {"type": "cosine", "final": 0.5, "warmup": 0.1, "cycles": 2, "growth": 1.5},
        "training": {
            "epochs": 1,
            "batch_size": "full",
            "stop": {"target_loss": 0.1, "patience": 1, "max_seconds": 0.5},
            "average_decay": 0.9,
            "rows": "disk",
            "watch": True,
        },
        "validation": {"fraction": 0.5},
        "seed": 2**63 - 1,
        "precision": "float64",
    }
    assert read(**whole).model_dump(mode="json") == whole
    assert read(**whole).targets == ["y", "z"]
    assert ResolvedSpec.model_validate_json(json.dumps(whole)).model_dump(mode="json") == whole


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"target": ""}, ("target",)),
        ({"target": "n" * 201}, ("target",)),
        ({"target": []}, ("target",)),
        ({"target": ["y", 3]}, ("target", 1)),
        ({"target": None}, ("target",)),
        ({"features": []}, ("features",)),
        ({"features": ["a", ""]}, ("features", 1)),
        ({"features": "a"}, ("features",)),
        ({"features": ["a"] * 100_001}, ("features",)),
        ({"task": "ranking"}, ("task",)),
        ({"network": "automatic"}, ("network",)),
        ({"network": {}}, ("network", "layers")),
        ({"network": {"layers": [{"type": "dense"}]}}, ("network", "layers", 0, "units")),
        ({"network": {"layers": [{"units": 3}]}}, ("network", "layers", 0)),
        ({"network": {"layers": [{"type": "conv"}]}}, ("network", "layers", 0)),
        ({"loss": "zero_one"}, ("loss",)),
        ({"loss": {"type": "huber", "delta": 0}}, ("loss", "huber", "delta")),
        ({"optimizer": {"type": "sgd", "beta1": 0.9}}, ("optimizer", "beta1")),
        ({"optimizer": {"type": "adam", "learning_rate": 0}}, ("optimizer", "learning_rate")),
        ({"optimizer": {"type": "adam", "learning_rate": "0.1"}}, ("optimizer", "learning_rate")),
        ({"optimizer": {"type": "adam", "epsilon": 0}}, ("optimizer", "epsilon")),
        ({"optimizer": {"type": "adam", "epsilon": 1.1}}, ("optimizer", "epsilon")),
        ({"optimizer": {"type": "adam", "beta1": 1}}, ("optimizer", "beta1")),
        ({"optimizer": {"type": "adam", "beta2": 1}}, ("optimizer", "beta2")),
        ({"optimizer": {"type": "sgd", "momentum": 1}}, ("optimizer", "momentum")),
        ({"optimizer": {"type": "sgd", "learning_rate": 1.1e6}}, ("optimizer", "learning_rate")),
        ({"optimizer": {"learning_rate": 0.1}}, ("optimizer",)),
        ({"schedule": {"type": "cosine", "final": 1.5}}, ("schedule", "final")),
        ({"training": {"epochs": 0}}, ("training", "epochs")),
        ({"training": {"epochs": 2.5}}, ("training", "epochs")),
        ({"training": {"epochs": True}}, ("training", "epochs")),
        ({"training": {"batch_size": 0}}, ("training", "batch_size")),
        ({"training": {"batch_size": "half"}}, ("training", "batch_size")),
        ({"training": {"stop": {"target_loss": 0}}}, ("training", "stop", "target_loss")),
        ({"training": {"stop": {"patience": 0}}}, ("training", "stop", "patience")),
        ({"training": {"stop": {"max_seconds": 0}}}, ("training", "stop", "max_seconds")),
        ({"training": {"stop": {"max_seconds": 4e7}}}, ("training", "stop", "max_seconds")),
        ({"validation": {"fraction": 1}}, ("validation", "by fraction", "fraction")),
        ({"validation": {"fraction": -0.1}}, ("validation", "by fraction", "fraction")),
        ({"validation": {}}, ("validation", "by fraction", "fraction")),
        ({"validation": {"folds": 1}}, ("validation", "by folds", "folds")),
        ({"validation": {"folds": 21}}, ("validation", "by folds", "folds")),
        (
            {"validation": {"folds": 5, "fraction": 0.2}},
            ("validation", "by folds", "fraction"),
        ),
        ({"validation": {"dataset": ""}}, ("validation", "by dataset", "dataset")),
        ({"columns": {"a": {"type": "text"}}}, ("columns", "a", "type")),
        ({"columns": {"a": {"impute": "mode"}}}, ("columns", "a", "impute")),
        ({"columns": {"a": {"impute": 1e101}}}, ("columns", "a", "impute")),
        ({"columns": {"a": {"impute": True}}}, ("columns", "a", "impute")),
        ({"columns": {"a": {"scale": "minmax"}}}, ("columns", "a", "scale")),
        ({"columns": {"a": {"encode": "hash"}}}, ("columns", "a", "encode")),
        ({"columns": {"a": {"note": "x" * 1001}}}, ("columns", "a", "note")),
        ({"columns": {"a": {"clip": 3}}}, ("columns", "a", "clip")),
        ({"columns": {"a": "drop"}}, ("columns", "a")),
        ({"columns": ["a"]}, ("columns",)),
        ({"seed": -1}, ("seed",)),
        ({"seed": 2**63}, ("seed",)),
        ({"precision": "float16"}, ("precision",)),
        ({"epochs": 3}, ("epochs",)),
        ({"training": {"epoch": 3}}, ("training", "epoch")),
    ],
)
def test_what_cannot_be_asked_for_is_refused_where_it_stands(fields, where):
    with pytest.raises(ValidationError) as refusal:
        read(**fields)
    [error] = refusal.value.errors()
    tags = {"string", "other", "sgd", "adam", "cosine", "dense"}
    assert tuple(part for part in error["loc"] if part not in tags) == where


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize(
    "text",
    [
        '{"optimizer": {"type": "adam", "learning_rate": NUMBER}}',
        '{"training": {"stop": {"target_loss": NUMBER}}}',
        '{"validation": {"fraction": NUMBER}}',
    ],
)
def test_no_number_of_a_spec_may_be_infinite_or_none_at_all(text, number):
    with pytest.raises(ValidationError):
        TrainingSpec.model_validate_json(
            text.replace("NUMBER", number).replace("{", '{"target": "y", ', 1)
        )


@pytest.mark.parametrize("units", [1, 2**53])
def test_a_layer_may_have_from_one_unit_to_as_many_as_json_can_count(units):
    assert DenseLayer(units=units).units == units
    for beyond in (0, 2**53 + 1):
        with pytest.raises(ValidationError):
            DenseLayer(units=beyond)


def test_a_network_has_so_many_layers_at_most():
    layer = DenseLayer(units=1)
    assert len(NetworkSpec(layers=[layer] * 200).layers) == 200
    with pytest.raises(ValidationError):
        NetworkSpec(layers=[layer] * 201)


def test_something_is_always_kept_of_what_is_dropped():
    assert DropoutLayer(rate=0).rate == 0
    for rate in (1, -0.1):
        with pytest.raises(ValidationError):
            DropoutLayer(rate=rate)


def test_what_is_open_about_a_column_is_not_written():
    asked = read(columns={"a": {"scale": "none"}, "b": {}})
    assert asked.model_dump(mode="json")["columns"] == {"a": {"scale": "none"}, "b": {}}


def test_a_spec_does_not_change():
    with pytest.raises(ValidationError):
        read().seed = 3


@pytest.mark.parametrize("missing", ["features", "task", "network", "loss", "validation"])
def test_in_a_resolved_spec_everything_is_decided(missing):
    decided = spec().model_dump(mode="json")
    left_out = {name: value for name, value in decided.items() if name != missing}
    for fields in (left_out, {**decided, missing: None}):
        with pytest.raises(ValidationError):
            ResolvedSpec.model_validate_json(json.dumps(fields))


def test_a_resolved_network_is_not_automatic():
    with pytest.raises(ValidationError):
        ResolvedSpec.model_validate({**spec().model_dump(), "network": "auto"})


def test_a_resolved_spec_comes_back_from_json():
    decided = spec(optimizer=Sgd(nesterov=True), schedule=CosineSchedule(final=0.1))
    assert ResolvedSpec.model_validate(decided.model_dump(mode="json")) == decided
