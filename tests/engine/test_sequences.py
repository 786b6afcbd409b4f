"""Sequences from a table to predictions: fitted on what is early, saved and gone on with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine import training
from engine.checkpoint import dump_model, load_model
from engine.data.profiling import profile
from engine.data.windows import Windows
from engine.errors import DataError, SchemaError
from engine.fitting import fit
from engine.footprint import multiply_adds
from engine.preparation import prepare
from engine.resolution import resolve
from engine.spec import PARAMETER_BUDGET, TrainingSpec, ValidationDataset
from tests.engine.beginnings import table

ADAM = {"type": "adam", "learning_rate": 0.02}
SMALL = {"layers": [{"type": "dense", "units": 16, "activation": "tanh"}]}
RUN = {"network": SMALL, "optimizer": ADAM, "training": {"epochs": 30, "batch_size": 16}}


def waves(rows=150, series="ab", seed=0):
    """Noisy waves on a slope, of which `x` knows the slope, their rows in no order."""
    rng = np.random.default_rng(seed)
    t = np.tile(np.arange(rows), len(series))
    s = np.repeat(list(series), rows)
    y = np.sin(t * 2 * np.pi / 12) + 0.05 * t + 0.01 * rng.standard_normal(len(t))
    order = rng.permutation(len(t))
    return table(
        s=s[order].tolist(),
        t=t[order].tolist(),
        x=(0.05 * t)[order].tolist(),
        y=y[order].tolist(),
    )


def shapes(series=60, seed=0):
    """Series of 3 to 9 steps that rise, fall or stay."""
    rng = np.random.default_rng(seed)
    columns = {"s": [], "t": [], "x": [], "y": []}
    for n in range(series):
        kind = n % 3
        for step in range(int(rng.integers(3, 10))):
            columns["s"].append(f"s{n:02d}")
            columns["t"].append(step)
            columns["x"].append((kind - 1.0) * step + 0.2 * rng.standard_normal())
            columns["y"].append(("falls", "stays", "rises")[kind])
    return table(**columns)


WORDS = ("down", "still", "up", "far up")


def worded(rows):
    """Return series whose numbers are words instead."""
    codes = np.clip(np.round(rows.column("x").values), -1, 2) + 1
    words = table(x=[WORDS[int(code)] for code in codes]).column("x")
    return type(rows)(tuple(words if c.name == "x" else c for c in rows.columns))


def resolved(rows, **asked):
    spec = TrainingSpec.model_validate({"target": "y", **RUN, **asked})
    return resolve(spec, profile(rows), rows.rows, PARAMETER_BUDGET)


def trained(fitting):
    curve = [report.point for report in fitting.run() if report.point]
    return fitting.model(), curve


FORECAST = {"sequence": {"order": "t", "group": "s", "window": 12, "horizon": 3}}
WHOLE = {"sequence": {"order": "t", "group": "s"}}


@pytest.fixture(scope="module")
def forecaster():
    """A model that forecasts waves, and what it was trained by."""
    rows = waves()
    how = resolved(rows, **FORECAST)
    return rows, how, *trained(fit(rows, how))


def test_a_forecast_follows_the_wave_beyond_what_was_seen(forecaster):
    _, _, model, curve = forecaster
    later = waves(200, seed=1)
    late = later.take(np.flatnonzero(later.column("t").values >= 138))
    found = model.evaluate(late)
    assert found.rows == 2 * (62 - 12 - 3 + 1)
    assert found.metrics["mae"] < 0.2
    assert min(point.metrics["mae"] for point in curve) < 0.2


def test_everything_is_fitted_on_rows_before_those_that_validate(forecaster):
    rows, how, _, _ = forecaster
    prepared = prepare(rows, how)
    windows = 2 * (150 - 12 - 3 + 1)
    examples, held_out = prepared.data.training, prepared.data.validation
    assert len(held_out) == pytest.approx(windows / 5, abs=2)
    assert len(examples) + len(held_out) == windows - 2 * (3 - 1)
    # The steps of both are the same memory: rows are encoded once.
    assert examples.x is held_out.x
    last = len(examples) // 2 + 12 + 3 - 1
    early = rows.take(np.flatnonzero(rows.column("t").values < last))
    fitted = {
        encoding.input.name: encoding.scaler.center[0] for encoding in prepared.features.encodings
    }
    for name in ("x", "y"):
        assert fitted[name] == np.median(early.column(name).values)
    changed = rows.column("y").values.copy()
    changed[rows.column("t").values >= last] += 100
    column = rows.column("y")
    later = type(rows)(
        tuple(
            type(column)(c.name, c.type, changed, c.levels) if c.name == "y" else c
            for c in rows.columns
        )
    )
    np.testing.assert_array_equal(prepare(later, how).data.training.y, examples.y)
    gathered = [prepare(these, how).data.training.part(0, 10**6) for these in (rows, later)]
    np.testing.assert_array_equal(*gathered)


def test_a_forecast_is_made_from_any_window_of_rows(forecaster):
    rows, _, model, _ = forecaster
    one = rows.take(np.flatnonzero(rows.column("s").values == 0))
    one = one.take(np.argsort(one.column("t").values))
    windows = Windows(np.array([100, 3, 100]), 12)
    y = model.predict(one, windows)
    assert y.shape == (3, 3)
    np.testing.assert_array_equal(y[0], y[2])
    window = one.take(np.arange(100, 112))
    np.testing.assert_allclose(model.predict(window, Windows.of([12], 12, masked=False))[0], y[0])
    np.testing.assert_allclose(y[0], one.column("y").values[112:115], atol=0.5)
    with pytest.raises(DataError, match="takes sequences of rows"):
        model.predict(window)


def test_a_window_without_any_value_cannot_be_gone_on_from(forecaster):
    _, _, model, _ = forecaster
    window = table(x=[1.0] * 12, y=[None] * 12)
    with pytest.raises(SchemaError, match="'y': expected a value in some row of every window"):
        model.predict(window, Windows.of([12], 12, masked=False))


def test_a_saved_model_forecasts_the_same(forecaster):
    rows, _, model, _ = forecaster
    again = load_model(dump_model(model))
    assert again.sequence == model.sequence
    assert again.ignored == ("t", "s")
    assert again.evaluate(rows) == model.evaluate(rows)


def test_a_model_from_before_there_were_strategies_forecasts_directly(forecaster):
    rows, how, model, _ = forecaster
    assert how.sequence.strategy == "direct"
    sequence = how.sequence.model_copy(update={"strategy": None})
    old = replace(model, settings=how.model_copy(update={"sequence": sequence}))
    assert load_model(dump_model(old)).evaluate(rows) == model.evaluate(rows)


@pytest.mark.parametrize(
    "kind", ["forecast", "whole", "folds", "full batch", "recurrent", "embedded"]
)
def test_what_was_saved_midway_goes_on_to_the_same_bits(kind, monkeypatch):
    rows, asked = (waves(40), FORECAST) if kind == "forecast" else (shapes(), WHOLE)
    first = "gru" if kind == "recurrent" else "dense"
    layers = [{"type": first, "units": 8}, {"type": "dropout", "rate": 0.2}]
    asked = {**asked, "network": {"layers": layers}, "training": {"epochs": 4, "batch_size": 8}}
    if kind == "embedded":
        rows = worded(rows)
        asked["network"] = {"layers": [{"type": "embedding"}, {"type": "gru", "units": 8}]}
    if kind == "folds":
        asked["validation"] = {"folds": 3}
    if kind == "full batch":
        asked["training"] = {"epochs": 4, "batch_size": "full"}
    how = resolved(rows, **asked)
    monkeypatch.setattr(training, "REPORT_SECONDS", 0.0)
    first = fit(rows, how)
    saved = [first.save() for _ in first.run()]
    for data in saved[:: max(1, len(saved) // 4)]:
        second = fit(rows, how, saved=data)
        for _ in second.run():
            pass
        assert dump_model(second.model()) == dump_model(first.model())


def test_a_resolved_spec_trains_the_same_network(forecaster):
    rows, how, model, _ = forecaster
    again = resolve(
        TrainingSpec.model_validate_json(how.model_dump_json()),
        profile(rows),
        rows.rows,
        PARAMETER_BUDGET,
    )
    assert dump_model(trained(fit(rows, again))[0]) == dump_model(model)


@pytest.mark.parametrize("relative", [True, False])
def test_several_targets_are_forecast_each_in_its_own_order(relative):
    rows = table(
        t=list(range(80)), y=[float(n % 4) for n in range(80)], z=[100.0 * n for n in range(80)]
    )
    sequence = {"order": "t", "window": 4, "horizon": 2, "relative": relative}
    how = resolved(rows, target=["y", "z"], sequence=sequence, precision="float64")
    prepared = prepare(rows, how)
    target, examples = prepared.target, prepared.data.training
    bases = np.array([[float((n + 3) % 4), 100.0 * (n + 3)] for n in range(len(examples))])
    y = target.invert(examples.y, bases if relative else None)
    for n in (0, 17, 40):
        ahead = n + 4, n + 5
        np.testing.assert_allclose(y[n], [ahead[0] % 4, ahead[1] % 4, *(100 * a for a in ahead)])
    assert prepared.architecture.outputs == 4


@pytest.mark.parametrize("relative", [True, False])
def test_a_recursive_forecast_is_that_of_one_step_again_and_again(relative):
    rows = table(
        t=list(range(80)), y=[float(n % 4) for n in range(80)], z=[100.0 * n for n in range(80)]
    )
    sequence = {"order": "t", "window": 4, "horizon": 3, "relative": relative}
    sequence["strategy"] = "recursive"
    asked = {"target": ["y", "z"], "features": ["z", "y"], "sequence": sequence}
    how = resolved(rows, **asked, training={"epochs": 2})
    fitting = fit(rows, how)
    model, _ = trained(fitting)
    assert model.network.architecture.outputs == 2
    windows = Windows(np.array([0, 30]), 4)
    found = model.predict(rows, windows).reshape(2, 2, 3)
    once = replace(
        model, settings=resolved(rows, **(asked | {"sequence": {**sequence, "horizon": 1}}))
    )
    seen = [rows.take(np.arange(start, start + 4)) for start in windows.starts]
    for step in range(3):
        for example, window in enumerate(seen):
            y, z = once.predict(window, Windows.of([4], 4, masked=False))[0]
            np.testing.assert_allclose(found[example, :, step], [y, z], rtol=1e-6)
            known = {name: window.column(name).values[1:].tolist() for name in "yz"}
            seen[example] = table(y=[*known["y"], y], z=[*known["z"], z])
    outcome = fitting.outcome(model, {}, lambda: None)
    held_out = fitting.prepared.held_out
    true = np.stack([[rows.column(n).values[a] for a in held_out.answers] for n in "yz"], axis=1)
    y = model.predict(rows, held_out.windows).reshape(true.shape)
    assert outcome.metrics["mae"] == pytest.approx(np.abs(y - true).mean())


def test_the_arithmetic_of_a_recursive_forecast_is_counted():
    rows = waves(100, series="a").columns
    rows = type(waves(1))(tuple(c for c in rows if c.name in "ty"))
    sequence = {"order": "t", "window": 12, "horizon": 3, "strategy": "recursive"}
    how = resolved(rows, sequence=sequence, network={"layers": []}, training={"epochs": 2})
    windows = 100 - 12 - 3 + 1
    measured = round(windows / 5)
    learnt = (windows - measured) * 2 * 12 + measured * 12
    assert multiply_adds(how, profile(rows), 100) == 2 * learnt + 3 * measured * 12


def test_the_next_class_is_forecast():
    colours = ["red", "green", "blue"]
    rows = table(t=list(range(120)), y=[colours[n % 3] for n in range(120)])
    how = resolved(rows, sequence={"order": "t", "window": 2})
    model, _ = trained(fit(rows, how))
    assert how.features == ["y"]
    assert model.evaluate(rows).metrics["accuracy"] == 1.0


@pytest.fixture(scope="module")
def classifier():
    """A model that tells how series go."""
    rows = shapes()
    how = resolved(rows, **WHOLE)
    return rows, how, *trained(fit(rows, how))


def test_whole_series_are_told_apart_whatever_their_length(classifier):
    _, how, model, curve = classifier
    assert (how.sequence.length, how.sequence.mask) == (9, True)
    assert model.network.architecture.inputs.units == 9 + 9
    found = model.evaluate(shapes(90, seed=1))
    assert (found.rows, found.confusion.sum()) == (90, 90)
    assert found.metrics["accuracy"] > 0.9
    assert max(point.metrics["accuracy"] for point in curve) > 0.9


def test_series_of_any_length_are_predicted_side_by_side(classifier):
    _, _, model, _ = classifier
    rows = table(x=[0.0, 1.0, 2.0, 3.0, 0.0, 0.0, -1.0, -2.0, -3.0, -4.0])
    y = model.predict(rows, Windows.of([4, 1, 5], 9, masked=True))
    assert [model.classes[label] for label in y.argmax(axis=1)][::2] == ["rises", "falls"]
    alone = model.predict(rows.take(np.arange(4)), Windows.of([4], 9, masked=True))
    np.testing.assert_allclose(alone[0], y[0], rtol=1e-5)


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_categories_of_a_step_are_read_as_vectors(kind):
    rows = worded(shapes(80))
    layers = [{"type": "embedding", "dimensions": 3}, {"type": kind, "units": 12}]
    how = resolved(rows, **WHOLE, network={"layers": layers})
    assert how.columns["x"].encode == "embedding"
    model, _ = trained(fit(rows, how))
    vectors = model.network.tensors()["layers.0.vectors_0"]
    assert vectors.shape == (1 + len(WORDS), 3)
    again, others = load_model(dump_model(model)), worded(shapes(90, seed=1))
    found = again.evaluate(others)
    assert found.metrics["accuracy"] > 0.9
    assert found.metrics == model.evaluate(others).metrics
    said = table(x=["never seen", None, "up", "up"])
    assert model.predict(said, Windows.of([1, 3], 9, masked=True)).shape == (2, 3)


def test_series_that_are_longer_than_the_longest_are_refused(classifier):
    _, _, model, _ = classifier
    rows = table(s=["a"] * 10, t=list(range(10)), x=[0.0] * 10, y=["stays"] * 10)
    with pytest.raises(DataError, match="series 'a' has 10 rows, but `length` is 9"):
        model.evaluate(rows)


def test_folds_of_whole_series_measure_each_once():
    rows = shapes(31)
    how = resolved(rows, **WHOLE, validation={"folds": 3})
    fitting = fit(rows, how)
    assert sorted(len(part.data.validation) for part in fitting.parts) == [10, 10, 11]
    assert len(fitting.prepared.data.training) == 31


def test_with_folds_a_baseline_is_fitted_on_each_of_them():
    name, rows = "logistic_regression_accuracy", shapes(45)
    how = resolved(rows, **WHOLE, validation={"folds": 3})
    fitting = fit(rows, how)
    model, curve = trained(fitting)
    measured = curve[fitting.best_epoch - 1].metrics
    found = fitting.outcome(model, measured, lambda: None)
    assert found.metrics.items() >= measured.items()
    assert 0.8 < found.metrics[name] <= 1
    assert f"{name}_deviation" in found.metrics
    assert f"{name} ({found.metrics[name]:.4g})" in found.notes[-1]
    assert found.notes[-1].startswith(f"the network, of accuracy {measured['accuracy']:.4g},")
    brief = fit(rows, resolved(rows, **WHOLE, validation={"folds": 3}, training={"epochs": 1}))
    model, _ = trained(brief)
    assert brief.outcome(model, {"accuracy": 1.0}, lambda: None).metrics == {"accuracy": 1.0}


def test_another_dataset_validates_and_what_is_left_out_of_it_is_told():
    rows, other = waves(60), waves(40, series="c", seed=2)
    other = other.take(np.flatnonzero(other.column("t").values != 20))
    how = resolved(rows, **FORECAST)
    how = how.model_copy(update={"validation": ValidationDataset(dataset="ds_other")})
    prepared = prepare(rows, how, other)
    data = prepared.data
    assert (len(data.training), len(data.validation)) == (2 * 46, 20 - 14 + 19 - 14)
    assert data.training.x is not data.validation.x
    gap, left_out = prepared.notes
    assert gap.startswith("of the dataset to validate on: gaps: 1 step is of another size")
    assert left_out.endswith("windows left out, as they reach over a gap: 14")


def test_classes_of_series_can_have_weights():
    rows = shapes()
    how = resolved(rows, **WHOLE, class_weights={"rises": 3.0}, validation={"fraction": 0.0})
    prepared = prepare(rows, how)
    weights, labels = prepared.data.training.weights, prepared.data.training.y
    rises = prepared.target.classes.index("rises")
    assert weights.mean() == pytest.approx(1)
    np.testing.assert_allclose(weights[labels == rises], 3 * weights[labels != rises][0])


def test_the_arithmetic_of_windows_is_counted():
    rows = waves(50, series="a")
    asked = {**FORECAST, "network": {"layers": []}, "validation": {"fraction": 0.0}}
    asked["training"] = {"epochs": 2}
    how = resolved(rows, **asked)
    windows, products = 50 - 12 - 3 + 1, 12 * 2 * 3
    assert multiply_adds(how, profile(rows), 50) == 2 * windows * 2 * products
