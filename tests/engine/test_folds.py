"""Cross-validation: a mean over folds, and a model of all rows, trained as long as was best."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from engine import stack, training
from engine.data.formats.ingestion import ingest
from engine.data.formats.stored import read_table
from engine.data.profiling import profile
from engine.errors import CheckpointError
from engine.fitting import fit
from engine.preparation import prepare, prepare_folds
from engine.resolution import resolve
from engine.spec import (
    PARAMETER_BUDGET,
    Adam,
    CosineSchedule,
    DenseLayer,
    DropoutLayer,
    NetworkSpec,
    StopRules,
    TrainingRun,
    TrainingSpec,
    ValidationFolds,
    ValidationPart,
)
from engine.training import start, train
from tests.engine.beginnings import DATA

FOLDS = 4
EPOCHS = 6
DROPOUT = DropoutLayer(rate=0.1)


@pytest.fixture(scope="module")
def irises(tmp_path_factory):
    kept = tmp_path_factory.mktemp("iris") / "iris.arrow"
    ingest(DATA / "iris.csv", "csv", kept)
    return read_table(kept)


def asked(rows, *, stop=None, **fields):
    run = TrainingRun(epochs=EPOCHS, batch_size=16, stop=stop or StopRules())
    layers = [DenseLayer(units=8), DROPOUT]
    given = {
        "target": "species",
        "network": NetworkSpec(layers=layers),
        "optimizer": Adam(learning_rate=0.01),
        "schedule": CosineSchedule(),
        "training": run,
        "validation": ValidationFolds(folds=FOLDS),
        **fields,
    }
    return resolve(TrainingSpec(**given), profile(rows), rows.rows, PARAMETER_BUDGET)


def run(fitting):
    """Run to the end; return the points and the last report."""
    reports = list(fitting.run())
    return [report.point for report in reports if report.point], reports[-1]


def test_the_curve_is_the_mean_of_trainings_that_know_nothing_of_each_other(irises):
    how = asked(irises)
    points, last = run(fit(irises, how))
    assert last.stopped == "epochs"
    assert [point.epoch for point in points] == [*range(1, EPOCHS + 1)]
    alone = [
        [r.point for r in train(start(how, p.architecture), p.data, how) if r.point]
        for p in prepare_folds(irises, how, FOLDS)
    ]
    for point, *folds in zip(points, *alone, strict=True):
        losses = [fold.validation_loss for fold in folds]
        assert point.validation_loss == pytest.approx(statistics.fmean(losses), rel=1e-3)
        spread = point.metrics["validation_loss_deviation"]
        assert spread == pytest.approx(statistics.stdev(losses), rel=1e-2)
        assert point.train_loss == pytest.approx(
            statistics.fmean(fold.train_loss for fold in folds), rel=1e-3
        )
        accuracies = [fold.metrics["accuracy"] for fold in folds]
        assert point.metrics["accuracy"] == pytest.approx(statistics.fmean(accuracies), abs=0.02)


def test_the_model_is_trained_on_all_rows_for_as_many_epochs_as_were_best(irises):
    how = asked(irises, optimizer=Adam(learning_rate=0.3), seed=4)
    fitting = fit(irises, how)
    points, _ = run(fitting)
    best = min(points, key=lambda point: point.validation_loss).epoch
    assert best < EPOCHS, "choose a seed whose last epoch is not the best"
    assert fitting.best_epoch == best
    everything = how.model_copy(update={"validation": ValidationPart(fraction=0)})
    prepared = prepare(irises, everything)
    assert len(prepared.data.training) == 150
    state = start(everything, prepared.architecture)
    for report in train(state, prepared.data, everything):
        if report.point and report.epoch == best:
            break
    assert (fitting.model().network.numbers == state.network.numbers).all()


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"target_loss": 0.9}, "target_loss"),
        ({"patience": 1}, "patience"),
        ({"max_seconds": 1e-4}, "max_seconds"),
        ({}, "epochs"),
    ],
)
def test_a_rule_is_for_the_mean_of_the_folds(irises, rules, reason):
    how = asked(irises, stop=StopRules(**rules), optimizer=Adam(learning_rate=0.3), seed=4)
    fitting = fit(irises, how)
    points, last = run(fitting)
    assert (last.stopped, last.fraction, last.eta_seconds) == (reason, 1, 0)
    assert (len(points) < EPOCHS) == (reason != "epochs")
    assert fitting.model().evaluate(irises).metrics["accuracy"] > 0.3


def test_progress_only_grows(irises):
    fractions = [report.fraction for report in fit(irises, asked(irises)).run()]
    assert fractions == sorted(fractions)
    assert 0 < fractions[0] < 1 / EPOCHS + 1e-9
    assert fractions[-1] == 1


@pytest.mark.parametrize("units", [8, 300], ids=["stacked", "one by one"])
def test_a_training_that_was_put_aside_anywhere_goes_on_to_the_same_bits(
    irises, monkeypatch, units
):
    monkeypatch.setattr(training, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(stack, "REPORT_SECONDS", 0.0, raising=False)
    how = asked(irises, network=NetworkSpec(layers=[DenseLayer(units=units), DROPOUT]))
    whole = fit(irises, how)
    expected, _ = run(whole)
    reports = sum(1 for _ in fit(irises, how).run())
    for leave_after in (1, 2, reports // 3, reports // 2, reports - 9, reports - 1):
        early = fit(irises, how)
        points = []
        for seen, report in enumerate(early.run(), 1):
            points += [report.point] if report.point else []
            if seen == leave_after:
                break
        late = fit(irises, how, saved=early.save())
        assert late.epoch == len(points)
        points += run(late)[0] if leave_after < reports else []
        assert [p.train_loss for p in points] == [p.train_loss for p in expected]
        assert [p.metrics for p in points] == [p.metrics for p in expected]
        assert (late.model().network.numbers == whole.model().network.numbers).all()


def test_what_was_saved_of_another_number_of_folds_is_refused(irises):
    saved = fit(irises, asked(irises)).save()
    with pytest.raises(CheckpointError):
        fit(irises, asked(irises, validation=ValidationFolds(folds=3)), saved=saved)


def test_every_row_is_measured_on_once_and_the_classes_are_even(irises):
    parts = prepare_folds(irises, asked(irises), 7)
    sizes = [len(part.data.validation) for part in parts]
    assert sum(sizes) == 150
    assert max(sizes) - min(sizes) <= 1
    for part in parts:
        assert len(part.data.training) + len(part.data.validation) == 150
        by_class = np.bincount(part.data.validation.y)
        assert by_class.max() - by_class.min() <= 1
