"""Models: from a file to predictions in the words of the dataset."""

from __future__ import annotations

import gzip
from dataclasses import replace

import numpy as np
import pytest

from engine.data.formats.ingestion import ingest
from engine.data.formats.stored import read_table
from engine.data.preprocessing import FeatureEncoder
from engine.data.profiling import profile
from engine.data.splits import folds, split
from engine.data.table import Column, Table, table_from_instances
from engine.data.targets import ClassEncoder
from engine.errors import DataError, SchemaError
from engine.fitting import fit
from engine.metrics import classification_metrics, regression_metrics
from engine.model import Model
from engine.preparation import SPLIT_STREAM, prepare, prepare_folds
from engine.resolution import resolve
from engine.spec import (
    PARAMETER_BUDGET,
    Adam,
    ColumnSpec,
    DenseLayer,
    NetworkSpec,
    StopRules,
    TrainingRun,
    TrainingSpec,
    ValidationDataset,
    ValidationFolds,
    ValidationPart,
)
from engine.training import start, train
from tests.engine.beginnings import DATA, spec, table

NUMBERS = {"task": "regression", "loss": "squared_error"}
HALF = ValidationPart(fraction=0.5)


def trained(rows, how):
    """Train by a resolved spec; return the model, what was prepared, and the curve."""
    prepared = prepare(rows, how)
    state = start(how, prepared.architecture)
    curve = [report.point for report in train(state, prepared.data, how) if report.point]
    model = Model(how, prepared.features, prepared.target, state.best_network())
    return model, prepared, curve


@pytest.fixture(scope="module")
def iris(tmp_path_factory):
    """The irises, and a model of their species that was trained the whole way from the file."""
    kept = tmp_path_factory.mktemp("iris") / "iris.arrow"
    ingest(DATA / "iris.csv", "csv", kept)
    rows = read_table(kept)
    asked = TrainingSpec(
        target="species",
        network=NetworkSpec(layers=[DenseLayer(units=16)]),
        optimizer=Adam(learning_rate=0.01),
        training=TrainingRun(epochs=60, batch_size=16),
    )
    how = resolve(asked, profile(rows), rows.rows, PARAMETER_BUDGET)
    return rows, *trained(rows, how)


def test_species_are_learnt_from_the_file_on(iris):
    rows, model, prepared, curve = iris
    assert model.classes == ("setosa", "versicolor", "virginica")
    assert (prepared.architecture.inputs.units, prepared.architecture.outputs) == (4, 3)
    assert len(prepared.data.training.x) == 120
    assert np.bincount(prepared.data.validation.y).tolist() == [10, 10, 10]
    assert max(point.metrics["accuracy"] for point in curve) >= 0.9
    assert model.evaluate(rows).metrics["accuracy"] >= 0.95


def test_a_model_measures_as_the_training_measured(iris):
    rows, model, prepared, curve = iris
    rng = np.random.default_rng([model.settings.seed, SPLIT_STREAM])
    labels = prepared.target.transform(rows)
    _, validation = split(rows.rows, 0.2, rng, labels)
    best = min(curve, key=lambda point: point.validation_loss)
    measured = model.evaluate(rows.take(validation)).metrics
    assert measured == pytest.approx(best.metrics, rel=1e-5)
    # The loss knows the logits; the probabilities were rounded to float32 before their logarithm.
    assert measured["log_loss"] == pytest.approx(best.validation_loss, rel=1e-4)


def test_one_row_is_predicted_as_in_the_table(iris):
    rows, model, _, _ = iris
    together = model.predict(rows)
    for row in range(rows.rows):
        alone = model.predict(rows.take(np.array([row])))
        np.testing.assert_allclose(alone[0], together[row], rtol=1e-5)
    values = np.column_stack([rows.column(column.name).values for column in model.inputs])
    assert model.takes_numbers
    np.testing.assert_array_equal(model.predict_numbers(values), together)


def test_instances_are_predicted_as_the_rows_that_they_are(iris):
    rows, model, _, _ = iris
    names = [column.name for column in model.inputs]
    values = [rows.column(name).values[:9].tolist() for name in names]
    instances = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
    by_name = table_from_instances(model.inputs, instances)
    in_order = table_from_instances(model.inputs, [list(row.values()) for row in instances])
    expected = model.predict(rows.take(np.arange(9)))
    np.testing.assert_array_equal(model.predict(by_name), expected)
    np.testing.assert_array_equal(model.predict(in_order), expected)


def test_digits_are_learnt(tmp_path):
    unpacked = tmp_path / "digits.csv"
    with (DATA / "digits.csv.gz").open("rb") as packed:
        unpacked.write_bytes(gzip.decompress(packed.read()))
    kept = tmp_path / "digits.arrow"
    ingest(unpacked, "csv", kept)
    rows = read_table(kept)
    asked = TrainingSpec(
        target="digit",
        network=NetworkSpec(layers=[DenseLayer(units=64)]),
        training=TrainingRun(epochs=12),
    )
    how = resolve(asked, profile(rows), rows.rows, PARAMETER_BUDGET)
    model, _, curve = trained(rows, how)
    assert model.classes == tuple(range(10))
    assert max(point.metrics["accuracy"] for point in curve) > 0.95


def test_preprocessing_is_fitted_on_the_training_rows_alone(rng):
    x, y = rng.standard_normal(20), rng.standard_normal(20)
    how = spec(**NUMBERS, validation=HALF)
    fitted = prepare(table(x=x.tolist(), y=y.tolist()), how)
    rng_of_split = np.random.default_rng([how.seed, SPLIT_STREAM])
    training, validation = split(20, 0.5, rng_of_split)
    x[validation] *= 1e6
    y[validation] *= 1e6
    again = prepare(table(x=x.tolist(), y=y.tolist()), how)
    np.testing.assert_array_equal(again.features.scale, fitted.features.scale)
    np.testing.assert_array_equal(again.target.mean, fitted.target.mean)
    np.testing.assert_array_equal(again.target.mean, y[training].mean())
    np.testing.assert_array_equal(again.target.deviation, y[training].std())
    np.testing.assert_array_equal(again.data.training.x, fitted.data.training.x)
    assert (again.data.validation.x != fitted.data.validation.x).any()


def everything(rng, rows=60):
    """Columns of all kinds with gaps, to be split, and what is done to them."""
    gaps = rng.random(rows) < 0.2
    days = np.datetime64("2024-01-01", "us") + rng.integers(0, 10**14, rows).astype("m8[us]")
    plain = table(
        number=np.where(gaps, np.nan, rng.standard_normal(rows)).tolist(),
        mean=np.where(gaps, np.nan, rng.standard_normal(rows)).tolist(),
        colour=[None if gap else str(rng.choice(["red", "green", "blue"])) for gap in gaps],
        city=[f"city {n}" for n in rng.integers(0, 12, rows)],
        zip=rng.integers(0, 5, rows).tolist(),
        image=rng.standard_normal((rows, 2, 3)),
        y=rng.standard_normal(rows).tolist(),
    )
    when = Column("when", "timestamp", np.where(gaps, np.datetime64("NaT"), days))
    rows = Table((*plain.columns, when))
    columns = {
        "mean": ColumnSpec(impute="mean", scale="standard"),
        "city": ColumnSpec(encode="embedding"),
        "zip": ColumnSpec(type="category"),
    }
    return rows, [c.name for c in rows.columns if c.name != "y"], columns


def ruined(rows, which):
    """The same table with other values in some rows, and levels that no other row has."""

    def ruin(column):
        values = column.values.copy()
        if column.type == "timestamp":
            values[which] = np.datetime64("1900-01-01")
        elif column.type == "category":
            values[which] = len(column.levels)
            return replace(column, values=values, levels=(*column.levels, "ruined"))
        else:
            values[which] = 1e6
        return replace(column, values=values)

    return Table(tuple(ruin(column) for column in rows.columns))


def assert_fitted_alike(one, other):
    np.testing.assert_array_equal(one.features.scale, other.features.scale)
    assert one.features.inputs == other.features.inputs
    assert one.features.facts == other.features.facts
    np.testing.assert_array_equal(one.data.training.x, other.data.training.x)
    np.testing.assert_array_equal(one.data.training.y, other.data.training.y)


def test_nothing_of_any_column_is_fitted_on_the_rows_to_validate_on(rng):
    rows, features, columns = everything(rng)
    how = spec(**NUMBERS, features=features, columns=columns, validation=HALF)
    split_rng = np.random.default_rng([how.seed, SPLIT_STREAM])
    training, validation = split(60, 0.5, split_rng)
    fitted = prepare(rows, how)
    without_them = prepare(ruined(rows, validation), how)
    assert_fitted_alike(without_them, fitted)
    assert (without_them.data.validation.x != fitted.data.validation.x).any()
    without_others = prepare(ruined(rows, training), how)
    assert without_others.features.facts != fitted.features.facts


def test_every_fold_is_fitted_without_the_rows_that_it_is_measured_on(rng):
    rows, features, columns = everything(rng)
    how = spec(**NUMBERS, features=features, columns=columns, validation=ValidationFolds(folds=3))
    fitted = prepare_folds(rows, how, 3)
    parts = list(folds(60, 3, np.random.default_rng([how.seed, SPLIT_STREAM])))
    for position, (_, validation) in enumerate(parts):
        again = prepare_folds(ruined(rows, validation), how, 3)
        assert_fitted_alike(again[position], fitted[position])
    assert not np.array_equal(fitted[0].features.scale, fitted[1].features.scale)


def test_nothing_is_fitted_on_the_dataset_to_validate_on(rng):
    rows, features, columns = everything(rng)
    other = ValidationDataset(dataset="ds_other")
    how = spec(**NUMBERS, features=features, columns=columns, validation=other)
    fitted = prepare(rows, how, rows)
    again = prepare(rows, how, ruined(rows, np.arange(60)))
    assert_fitted_alike(again, fitted)
    assert np.isfinite(again.data.validation.x).all()


def test_folds_whose_levels_differ_are_trained_all_the_same(rng):
    rows = table(
        kind=[*["a", "b", "c"] * 6, "once", "twice"],
        x=[None, *rng.standard_normal(19).tolist()],
        y=rng.standard_normal(20).tolist(),
    )
    how = spec(
        **NUMBERS,
        features=["kind", "x"],
        training=TrainingRun(epochs=2, batch_size=4),
        validation=ValidationFolds(folds=4),
    )
    fitting = fit(rows, how)
    widths = {part.features.width for part in prepare_folds(rows, how, 4)}
    assert len(widths) > 1
    list(fitting.run())
    saved = fitting.save()
    assert fit(rows, how, saved=saved).save() == saved
    assert np.isfinite(fitting.model().predict(rows)).all()


def test_rows_without_a_target_teach_and_measure_nothing(rng):
    x, z = rng.standard_normal(40).tolist(), rng.standard_normal(40).tolist()
    y = [None if row % 4 == 0 else value for row, value in enumerate(x)]
    z = [None if row % 5 == 0 else value for row, value in enumerate(z)]
    rows = table(x=x, y=y, z=z)
    both = np.array([row for row in range(40) if row % 4 and row % 5])
    how = spec(**NUMBERS, target=["y", "z"], validation=HALF)
    whole, left = prepare(rows, how), prepare(rows.take(both), how)
    assert_fitted_alike(whole, left)
    np.testing.assert_array_equal(whole.data.validation.x, left.data.validation.x)
    assert len(whole.data.training) + len(whole.data.validation) == len(both)
    parts = [prepare_folds(table_, how, 3) for table_ in (rows, rows.take(both))]
    for one, other in zip(*parts, strict=True):
        assert_fitted_alike(one, other)
    how = how.model_copy(update={"validation": ValidationDataset(dataset="ds_other")})
    assert len(prepare(rows, how, rows).data.validation) == len(both)
    model, _, _ = trained(rows, spec(**NUMBERS, target=["y", "z"]))
    found, alone = model.evaluate(rows), model.evaluate(rows.take(both))
    assert found == alone
    assert found.rows == len(both)


def test_classes_do_not_count_what_is_missing():
    rows = table(x=[1.0, 2.0, 3.0, 4.0], y=["a", None, "b", "a"])
    prepared = prepare(rows, spec())
    assert prepared.target.classes == ("a", "b")
    assert prepared.data.training.y.tolist() == [0, 1, 0]


def test_without_any_target_there_is_nothing_to_learn_or_to_measure(iris):
    rows, model, _, _ = iris
    with pytest.raises(SchemaError, match="'y': expected a target in some row, got none"):
        prepare(table(x=[1.0], y=[None]), spec(**NUMBERS))
    species = Column("species", "category", np.full(150, -1, dtype=np.int32), ("setosa",))
    others = tuple(c for c in rows.columns if c.name != "species")
    with pytest.raises(SchemaError, match="'species': expected a target in some row"):
        model.evaluate(Table((*others, species)))


def test_the_training_rows_are_those_of_the_split_with_their_own_targets():
    rows = table(x=[float(n) for n in range(30)], y=list(range(30)))
    how = spec(**NUMBERS, validation=HALF, precision="float64")
    prepared = prepare(rows, how)
    numbers = split(30, 0.5, np.random.default_rng([how.seed, SPLIT_STREAM]))
    parts = (prepared.data.training, prepared.data.validation)
    for part, own in zip(parts, numbers, strict=True):
        np.testing.assert_allclose(prepared.target.invert(part.y)[:, 0], own, rtol=1e-12)
        x = prepared.features.transform(rows.take(own), np.float64)
        np.testing.assert_array_equal(part.x, x)


def test_another_seed_splits_otherwise():
    rows = table(x=[float(n) for n in range(30)], y=list(range(30)))
    parts = [prepare(rows, spec(**NUMBERS, validation=HALF, seed=seed)) for seed in (1, 1, 2)]
    x = [prepared.data.validation.x for prepared in parts]
    np.testing.assert_array_equal(x[0], x[1])
    assert (x[0] != x[2]).any()


def test_without_validation_all_rows_are_for_training():
    prepared = prepare(table(x=[1.0, 2.0, 3.0], y=["a", "b", "a"]), spec())
    assert prepared.data.validation is None
    assert len(prepared.data.training.x) == 3


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_examples_are_of_the_precision_that_was_asked_for(precision):
    rows = table(x=[1.0, 2.0, 3.0, 4.0], y=[1.0, 2.0, 3.0, 4.0])
    part = prepare(rows, spec(**NUMBERS, precision=precision)).data.training
    assert part.x.dtype == part.y.dtype == precision


def test_numbers_are_predicted_and_measured_in_their_own_units(rng):
    x = rng.uniform(-1, 1, 200)
    rows = table(x=x.tolist(), y=(1000 + 50 * x).tolist(), z=(5 - x).tolist())
    how = spec(
        **NUMBERS,
        target=["y", "z"],
        network=NetworkSpec(layers=[DenseLayer(units=16, activation="tanh")]),
        optimizer=Adam(learning_rate=0.01),
        training=TrainingRun(epochs=150),
        validation=ValidationPart(fraction=0.2),
    )
    model, prepared, curve = trained(rows, how)
    y = model.predict(rows)
    assert (model.classes, model.outputs, y.shape) == (None, ("y", "z"), (200, 2))
    np.testing.assert_allclose(y[:, 0], rows.column("y").values, atol=5)
    np.testing.assert_allclose(y[:, 1], rows.column("z").values, atol=0.1)
    validation = prepared.data.validation
    in_units = regression_metrics(
        prepared.target.invert(model.network.predict(validation.x)),
        prepared.target.invert(validation.y),
    )
    best = min(curve, key=lambda point: point.validation_loss)
    assert best.metrics == pytest.approx(in_units, rel=1e-3)
    assert model.evaluate(rows).metrics["r2"] > 0.99


def test_classes_are_measured_against_the_true_column(iris):
    rows, model, _, _ = iris
    labels = ClassEncoder.fit(rows, "species").transform(rows)
    assert model.evaluate(rows).metrics == classification_metrics(model.predict(rows), labels)


def test_a_model_refuses_rows_that_lack_a_column(iris):
    rows, model, _, _ = iris
    without = Table(tuple(c for c in rows.columns if c.name != "petal_width"))
    with pytest.raises(SchemaError, match="petal_width"):
        model.predict(without)


def test_a_model_does_not_need_the_target_to_predict(iris):
    rows, model, _, _ = iris
    without = Table(tuple(c for c in rows.columns if c.name != "species"))
    np.testing.assert_array_equal(model.predict(without), model.predict(rows))
    with pytest.raises(SchemaError, match="species"):
        model.evaluate(without)


@pytest.mark.parametrize(
    "target",
    [
        Column("species", "category", np.zeros(150, dtype=np.int32), ("dandelion",)),
        Column("species", "integer", np.zeros(150)),
        Column("species", "tensor", np.zeros((150, 2))),
    ],
    ids=["unseen", "numbers", "tensor"],
)
def test_a_model_refuses_to_be_measured_against_something_else(iris, target):
    rows, model, _, _ = iris
    others = tuple(c for c in rows.columns if c.name != "species")
    with pytest.raises(DataError, match="species"):
        model.evaluate(Table((*others, target)))


def test_a_model_keeps_the_preprocessing_that_it_was_trained_with(iris):
    rows, model, prepared, _ = iris
    assert isinstance(model.features, FeatureEncoder)
    x = prepared.features.transform(rows, np.float32)
    np.testing.assert_array_equal(model.predict(rows), model.network.predict(x))


def test_overfitting_does_not_reach_the_model(rng):
    rows = table(x=rng.standard_normal(40).tolist(), y=rng.choice(["a", "b"], 40).tolist())
    how = spec(
        network=NetworkSpec(layers=[DenseLayer(units=64)]),
        optimizer=Adam(learning_rate=0.05),
        training=TrainingRun(epochs=100, stop=StopRules(patience=20)),
        validation=ValidationPart(fraction=0.5),
    )
    model, prepared, curve = trained(rows, how)
    p = model.network.predict(prepared.data.validation.x)
    measured = classification_metrics(p, prepared.data.validation.y)["log_loss"]
    losses = [point.validation_loss for point in curve]
    assert min(losses) < losses[-1]
    assert measured == pytest.approx(min(losses), rel=1e-5)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_no_error_is_a_share_of_a_target_of_zero(precision):
    """Though it is scaled and back, which rounds."""
    rows = table(x=[1.0, 2.0, 3.0, 4.0], y=[0.7, 0.0, 0.1, 0.2])
    how = spec(**NUMBERS, precision=precision, validation=HALF)
    for seed in range(4):
        prepared = prepare(rows, how.model_copy(update={"seed": seed}))
        y = prepared.data.validation.y
        true = prepared.target.invert(y)
        has_zero = np.abs(true).min() < 0.05
        assert ("mape" in prepared.data.measure(y, y)) != has_zero
