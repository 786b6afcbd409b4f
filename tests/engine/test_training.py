"""Training: what it reports, when it ends, what it keeps, and that it can be interrupted."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from engine import training, wires
from engine.checkpoint import COUNTERS
from engine.errors import DivergedError
from engine.losses import bind_loss
from engine.metrics import classification_metrics
from engine.network import answer
from engine.spec import (
    Adagrad,
    Adam,
    AdamW,
    BatchNormLayer,
    CosineSchedule,
    DenseLayer,
    DropoutLayer,
    Lbfgs,
    Lion,
    Nadam,
    NetworkSpec,
    OneCycleSchedule,
    PlateauSchedule,
    RmsProp,
    Rprop,
    Sgd,
    StepSchedule,
    StopRules,
    TrainingRun,
)
from engine.training import train
from engine.wires import Workspace
from tests.engine.beginnings import (
    data,
    dump_state,
    examples,
    fed,
    load_state,
    spec,
    start,
    with_ones,
)

SHAPE = {"inputs": 2, "outputs": 3}
DROPPING = NetworkSpec(
    layers=[DenseLayer(units=8), DropoutLayer(rate=0.5), DenseLayer(units=5, activation="tanh")]
)


def run(how, rows, **shape):
    """Train to the end; return the state, the reports and the curve."""
    state = start(how, **{**SHAPE, **shape})
    reports = list(train(state, rows, how))
    return state, reports, curve_of(reports)


def curve_of(reports):
    return [report.point for report in reports if report.point is not None]


def timeless(points):
    return [replace(point, seconds=0) for point in points]


def assert_same_state(a, b):
    for name in COUNTERS:
        assert name == "seconds" or getattr(a, name) == getattr(b, name), name
    np.testing.assert_array_equal(a.network.parameters, b.network.parameters)
    np.testing.assert_array_equal(a.best_numbers, b.best_numbers)
    assert a.optimizer.t == b.optimizer.t
    for name, moment in a.optimizer.moments.items():
        np.testing.assert_array_equal(moment, b.optimizer.moments[name])
    assert a.dropout.bit_generator.state == b.dropout.bit_generator.state


@pytest.fixture
def reporting_every_update(monkeypatch):
    monkeypatch.setattr(training, "REPORT_SECONDS", 0)


MANY_WAYS = pytest.mark.parametrize(
    "how",
    [
        spec(training=TrainingRun(epochs=3, batch_size=4)),
        spec(network=DROPPING, training=TrainingRun(epochs=3, batch_size=4)),
        spec(network=DROPPING, precision="float64", training=TrainingRun(epochs=3, batch_size=5)),
        spec(network=DROPPING, training=TrainingRun(epochs=5, batch_size="full")),
        spec(
            optimizer=Sgd(learning_rate=0.1),
            schedule=CosineSchedule(final=0.1),
            training=TrainingRun(epochs=4, batch_size=4),
        ),
        spec(
            optimizer=Sgd(nesterov=True),
            schedule=CosineSchedule(),
            training=TrainingRun(epochs=3, batch_size=1),
        ),
        spec(
            optimizer=Sgd(momentum=0.0),
            loss="squared_error",
            training=TrainingRun(epochs=3, batch_size=14),
        ),
    ],
    ids=["adam", "dropout", "double", "full batch", "sgd", "nesterov", "plain sgd"],
)


@MANY_WAYS
def test_the_same_seed_gives_the_same_bits(how):
    rows = data(examples(14), examples(6, seed=1))
    first, _, curve = run(how, rows)
    second, _, curve_again = run(how, rows)
    assert_same_state(first, second)
    assert timeless(curve) == timeless(curve_again)


@MANY_WAYS
def test_another_seed_gives_other_bits(how):
    rows = data(examples(14), examples(6, seed=1))
    first, _, curve = run(how, rows)
    second, _, other = run(how.model_copy(update={"seed": 1}), rows)
    assert (first.network.parameters != second.network.parameters).any()
    assert timeless(curve) != timeless(other)


@pytest.mark.parametrize("validated", [True, False])
@pytest.mark.usefixtures("reporting_every_update")
@MANY_WAYS
def test_a_state_saved_between_any_two_reports_goes_on_bit_for_bit(how, validated):
    dtype = how.precision
    validation = examples(6, seed=1, dtype=dtype) if validated else None
    rows = data(examples(14, dtype=dtype), validation, classification_metrics)
    whole, reports, curve = run(how, rows)
    assert len(reports) == whole.step + whole.epoch
    for saved_after in range(1, len(reports)):
        early = start(how, **SHAPE)
        going = train(early, rows, how)
        before = [next(going) for _ in range(saved_after)]
        late = load_state(dump_state(early), how, **SHAPE)
        after = list(train(late, rows, how))
        assert_same_state(late, whole)
        assert timeless(curve_of(before + after)) == timeless(curve)
        assert late.seconds >= early.seconds > 0


@pytest.mark.usefixtures("reporting_every_update")
def test_a_state_that_was_only_left_goes_on_as_well():
    how = spec(network=DROPPING, training=TrainingRun(epochs=3, batch_size=4))
    rows = data(examples(14))
    whole, reports, _ = run(how, rows)
    state, seen = start(how, **SHAPE), 0
    while seen < len(reports):
        for _ in train(state, rows, how):
            seen += 1
            if seen % 2:
                break
    assert_same_state(state, whole)


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        (StopRules(), "epochs"),
        (StopRules(target_loss=0.9), "target_loss"),
        (StopRules(patience=1), "patience"),
        (StopRules(max_seconds=1e-9), "max_seconds"),
    ],
)
def test_a_state_saved_after_the_last_report_is_at_its_end(stop, reason):
    how = spec(optimizer=Adam(learning_rate=0.5), training=TrainingRun(epochs=30, stop=stop))
    rows = data(examples(40), examples(10, seed=1))
    state, reports, _ = run(how, rows)
    assert reports[-1].stopped == reason
    loaded = load_state(dump_state(state), how, **SHAPE)
    assert list(train(loaded, rows, how)) == []
    assert_same_state(loaded, state)


def test_there_is_a_report_after_each_epoch_and_the_last_says_why():
    how = spec(training=TrainingRun(epochs=5, batch_size=4))
    _, reports, curve = run(how, data(examples(14)))
    assert [point.epoch for point in curve] == [1, 2, 3, 4, 5]
    assert [point.step for point in curve] == [4, 8, 12, 16, 20]
    assert [report.stopped for report in reports] == [None] * (len(reports) - 1) + ["epochs"]
    assert reports[-1].point is curve[-1]


@pytest.mark.usefixtures("reporting_every_update")
def test_reports_tell_how_far_the_training_is():
    how = spec(training=TrainingRun(epochs=2, batch_size=5))
    _, reports, _ = run(how, data(examples(14)))
    told = [(report.epoch, report.fraction) for report in reports]
    assert told == [(0, pytest.approx(n / 6)) for n in (1, 2, 3)] + [(1, 1 / 2)] + [
        (1, pytest.approx(n / 6)) for n in (4, 5, 6)
    ] + [(2, 1)]
    assert all(report.eta_seconds > 0 for report in reports[:6])
    assert reports[-1].eta_seconds == 0


@pytest.mark.usefixtures("reporting_every_update")
def test_the_speed_is_that_of_the_rows_so_far():
    how = spec(training=TrainingRun(epochs=1, batch_size=5))
    state = start(how, **SHAPE)
    for report in train(state, data(examples(14)), how):
        if report.point is None:
            assert report.samples_per_second == pytest.approx(state.rows / state.seconds)
            assert report.eta_seconds == pytest.approx(state.seconds * (3 / state.batch - 1))


def test_long_epochs_are_reported_in_between(monkeypatch):
    monkeypatch.setattr(training, "REPORT_SECONDS", 0.001)
    how = spec(training=TrainingRun(epochs=1, batch_size=1))
    state, reports, _ = run(how, data(examples(2000)))
    assert 1 < len(reports) <= 1 + state.seconds / 0.001
    assert 0 < reports[0].fraction < 1
    assert reports[0].eta_seconds > 0
    assert reports[0].point is None


def test_the_clock_of_the_curve_never_goes_back():
    how = spec(training=TrainingRun(epochs=10, batch_size=4))
    state, _, curve = run(how, data(examples(14)))
    assert all(0 < a.seconds < b.seconds for a, b in pairwise(curve))
    assert state.seconds == curve[-1].seconds


def test_measuring_takes_time_as_well():
    def slowly(_predictions, _y):
        time.sleep(0.02)
        return {}

    rows = data(examples(14), examples(6, seed=1), slowly)
    _, _, curve = run(spec(training=TrainingRun(epochs=2)), rows)
    assert curve[0].seconds >= 0.02
    assert curve[1].seconds >= 0.04


def test_the_training_loss_is_the_mean_over_rows_not_over_batches():
    rows = examples(7, dtype=np.float64)
    how = spec(
        precision="float64",
        optimizer=Sgd(learning_rate=1e-300),
        training=TrainingRun(epochs=1, batch_size=3),
    )
    state, _, [point] = run(how, data(rows, rows, classification_metrics))
    workspace = Workspace(np.float64, len(rows))
    bound = state.network.bind(workspace)
    bound.forward(rows.x)
    loss = bind_loss(how.loss, how.task, bound.logits, workspace)(rows.targets(rows.y), None)
    assert point.train_loss == pytest.approx(loss, rel=1e-12)
    assert point.validation_loss == pytest.approx(loss, rel=1e-12)
    expected = classification_metrics(answer(bound.logits.value, "softmax").T, rows.y)
    assert point.metrics == pytest.approx(expected, rel=1e-12)


def test_many_validation_rows_are_measured_in_parts_to_the_same_end(monkeypatch):
    how = spec(precision="float64", training=TrainingRun(epochs=1))
    rows = data(
        examples(14, dtype=np.float64),
        examples(11, seed=1, dtype=np.float64),
        classification_metrics,
    )
    _, _, [at_once] = run(how, rows)
    monkeypatch.setattr(training, "ROWS_AT_ONCE", 4)
    _, _, [in_parts] = run(how, rows)
    assert in_parts.validation_loss == pytest.approx(at_once.validation_loss, rel=1e-12)
    assert in_parts.metrics == pytest.approx(at_once.metrics, rel=1e-12)


def test_the_learning_rate_follows_the_schedule_from_update_to_update():
    how = spec(
        optimizer=Sgd(learning_rate=0.4),
        schedule=CosineSchedule(),
        training=TrainingRun(epochs=2, batch_size=7),
    )
    _, _, curve = run(how, data(examples(14)))
    halves = [0.4 * (1 + math.cos(math.pi * done / 4)) / 2 for done in range(4)]
    assert [point.learning_rate for point in curve] == pytest.approx([halves[1], halves[3]])


def test_a_target_loss_stops_the_first_epoch_that_reaches_it():
    stop = StopRules(target_loss=0.8)
    how = spec(optimizer=Adam(learning_rate=0.05), training=TrainingRun(epochs=500, stop=stop))
    _, reports, curve = run(how, data(examples(40)))
    assert reports[-1].stopped == "target_loss"
    assert curve[-1].train_loss <= 0.8 < min(point.train_loss for point in curve[:-1])
    assert (reports[-1].fraction, reports[-1].eta_seconds) == (1, 0)


def test_a_target_loss_is_reached_where_it_is_met_exactly():
    how = spec(training=TrainingRun(epochs=5))
    _, _, curve = run(how, data(examples(40)))
    stop = StopRules(target_loss=curve[2].train_loss)
    how = spec(training=TrainingRun(epochs=5, stop=stop))
    _, reports, again = run(how, data(examples(40)))
    assert (len(again), reports[-1].stopped) == (3, "target_loss")


def turned_against(rows):
    """The same rows with other classes: what is learnt from ``rows`` is wrong here."""
    return replace(rows, y=(rows.y + 1) % 3)


def test_patience_stops_when_the_validation_loss_stays_above_its_best():
    rows = examples(40)
    how = spec(
        optimizer=Adam(learning_rate=0.05),
        training=TrainingRun(epochs=100, stop=StopRules(patience=3)),
    )
    state, reports, curve = run(how, data(rows, turned_against(rows)))
    assert reports[-1].stopped == "patience"
    assert curve[-1].epoch == state.best_epoch + 3
    losses = [point.validation_loss for point in curve]
    assert state.best_epoch == 1 + int(np.argmin(losses)) < len(curve)
    assert state.best_loss == min(losses)


def test_max_seconds_stops_within_an_epoch():
    stop = StopRules(max_seconds=0.05)
    how = spec(training=TrainingRun(epochs=1_000_000, batch_size=1, stop=stop))
    state, reports, [point] = run(how, data(examples(100_000)))
    assert reports[-1].stopped == "max_seconds"
    assert 0.05 <= state.seconds < 5
    assert point.epoch == 1
    assert 0 < point.step < 100_000


@pytest.mark.usefixtures("reporting_every_update")
def test_a_state_whose_time_is_up_within_an_epoch_still_ends_it():
    how = spec(training=TrainingRun(epochs=9, batch_size=1, stop=StopRules(max_seconds=100)))
    state, rows = start(how, **SHAPE), data(examples(10))
    next(train(state, rows, how))
    state.seconds = 100.0
    [last] = train(state, rows, how)
    assert (last.stopped, last.point.epoch, last.point.step) == ("max_seconds", 1, 2)


def test_max_seconds_allows_at_least_one_update():
    how = spec(training=TrainingRun(epochs=9, batch_size=1, stop=StopRules(max_seconds=1e-9)))
    state, reports, [point] = run(how, data(examples(10)))
    assert [report.stopped for report in reports] == ["max_seconds"]
    assert state.step == point.step == 1


def test_epochs_stop_the_run_when_nothing_else_does():
    stop = StopRules(target_loss=1e-9, patience=50, max_seconds=1000)
    how = spec(training=TrainingRun(epochs=7, stop=stop))
    state, reports, _ = run(how, data(examples(40)))
    assert reports[-1].stopped == "epochs"
    assert state.epoch == 7


@pytest.mark.parametrize("validated", [True, False])
def test_the_best_weights_are_those_after_the_epoch_of_the_lowest_loss(validated):
    rows = examples(40)
    validation = turned_against(rows) if validated else None
    how = spec(optimizer=Adam(learning_rate=0.3), training=TrainingRun(epochs=20, batch_size=10))
    state, weights, losses = start(how, **SHAPE), [], []
    for report in train(state, data(rows, validation), how):
        weights.append(state.network.parameters.copy())
        point = report.point
        losses.append(point.validation_loss if validated else point.train_loss)
    best = int(np.argmin(losses))
    assert best < len(losses) - 1
    assert (state.best_epoch, state.best_loss) == (best + 1, losses[best])
    np.testing.assert_array_equal(state.best_network().parameters, weights[best])
    np.testing.assert_array_equal(state.network.parameters, weights[-1])


def test_an_epoch_that_is_only_as_good_is_not_better():
    how = spec(
        optimizer=Sgd(learning_rate=1e-300),
        training=TrainingRun(epochs=9, batch_size="full", stop=StopRules(patience=4)),
    )
    state, reports, _ = run(how, data(examples(14)))
    assert (state.best_epoch, state.epoch, reports[-1].stopped) == (1, 5, "patience")


NUMBERS = {"task": "regression", "loss": "squared_error"}


def test_a_loss_that_overflows_is_divergence_with_epoch_and_step():
    how = spec(
        **NUMBERS,
        optimizer=Sgd(learning_rate=1e3),
        training=TrainingRun(epochs=50, batch_size=5),
    )
    x = examples(10).x[:, :2]
    rows = fed(x, x[:, :1])
    state, epochs = start(how, inputs=2, outputs=1), []
    with pytest.raises(DivergedError) as diverged:
        epochs += [report.point.epoch for report in train(state, data(rows), how)]
    assert diverged.value.epoch == state.epoch + 1
    assert diverged.value.step == state.step + 1 == 2 * state.epoch + state.batch + 1
    assert 1 < diverged.value.step < 50


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_validation_loss_that_is_no_number_is_divergence(bad):
    how = spec(**NUMBERS, training=TrainingRun(epochs=5, batch_size=5))
    x = examples(10).x[:, :2]
    rows = data(fed(x, x[:, :1]), fed(x, np.full((10, 1), bad, dtype=np.float32)))
    with pytest.raises(DivergedError) as diverged:
        list(train(start(how, inputs=2, outputs=1), rows, how))
    assert (diverged.value.epoch, diverged.value.step) == (1, 2)


def test_weights_that_overflow_in_the_last_update_are_divergence():
    how = spec(
        **NUMBERS,
        network=NetworkSpec(layers=[]),
        optimizer=Sgd(learning_rate=1e6),
        training=TrainingRun(epochs=1, batch_size="full"),
    )
    x = np.full((4, 2), 1e15, dtype=np.float32)
    y = np.full((4, 1), 1e18, dtype=np.float32)  # the loss is 1e36, the step would be 2e39
    with pytest.raises(DivergedError) as diverged:
        list(train(start(how, inputs=2, outputs=1), data(fed(x, y)), how))
    assert (diverged.value.epoch, diverged.value.step) == (1, 1)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu"])
@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_xor_is_learnt_by_full_batch_until_the_target_loss(activation, loss):
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
    rows = fed(x, np.array([0, 1, 1, 0]), 2)
    how = spec(
        network=NetworkSpec(layers=[DenseLayer(units=8, activation=activation)]),
        loss=loss,
        optimizer=Adam(learning_rate=0.05),
        training=TrainingRun(epochs=5000, batch_size="full", stop=StopRules(target_loss=0.001)),
    )
    state, reports, curve = run(how, data(rows), outputs=2)
    assert reports[-1].stopped == "target_loss"
    assert curve[-1].train_loss <= 0.001 < curve[-2].train_loss
    assert state.best_network().predict(with_ones(x)).argmax(axis=1).tolist() == [0, 1, 1, 0]


def test_xor_is_not_learnt_without_a_hidden_layer():
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
    how = spec(
        network=NetworkSpec(layers=[]),
        optimizer=Adam(learning_rate=0.05),
        training=TrainingRun(epochs=500, batch_size="full"),
    )
    _, _, curve = run(how, data(fed(x, np.array([0, 1, 1, 0]), 2)), outputs=2)
    assert curve[-1].train_loss == pytest.approx(math.log(2), rel=1e-3)


def test_a_line_is_learnt_exactly():
    x = np.linspace(-1, 1, 20)[:, None]
    how = spec(
        **NUMBERS,
        precision="float64",
        network=NetworkSpec(layers=[]),
        optimizer=Sgd(learning_rate=0.3, momentum=0.5),
        training=TrainingRun(epochs=300, batch_size="full"),
    )
    state, _, curve = run(how, data(fed(x, 3 * x - 2)), inputs=1, outputs=1)
    assert curve[-1].train_loss < 1e-20
    assert state.network.parameters == pytest.approx([3, -2])


def test_training_makes_no_new_arrays_after_the_first_epoch(monkeypatch):
    made = []

    def counted(shape, dtype):
        made.append(shape)
        return arrays_of_old(shape, dtype)

    arrays_of_old = wires.aligned_zeros
    monkeypatch.setattr(wires, "aligned_zeros", counted)
    how = spec(network=DROPPING, training=TrainingRun(epochs=5, batch_size=4))
    counts = [len(made) for _ in train(start(how, **SHAPE), data(examples(14)), how)]
    assert counts[0] > 0
    assert set(counts) == {counts[0]}


def test_dropout_does_not_disturb_the_order_of_the_rows_or_the_first_weights():
    plain = start(spec(), **SHAPE)
    dropping = start(
        spec(
            network=NetworkSpec(
                layers=[DenseLayer(units=4, activation="tanh"), DropoutLayer(rate=0.1)]
            )
        ),
        **SHAPE,
    )
    np.testing.assert_array_equal(plain.network.parameters, dropping.network.parameters)


FULL = TrainingRun(epochs=4, batch_size="full")
NORMED = NetworkSpec(layers=[DenseLayer(units=6), BatchNormLayer(), DropoutLayer(rate=0.2)])


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": Adagrad()},
        {"optimizer": RmsProp()},
        {"optimizer": AdamW(clip_norm=0.1)},
        {"optimizer": Nadam(l1=0.01)},
        {"optimizer": Lion()},
        {"optimizer": Rprop(), "training": FULL},
        {"optimizer": Rprop(plus=True), "training": FULL},
        {"optimizer": Lbfgs(weight_decay=0.01), "training": FULL},
        {"network": NORMED},
        {"schedule": PlateauSchedule(patience=0, factor=0.5)},
        {"schedule": OneCycleSchedule()},
        {"schedule": StepSchedule(epochs=1)},
        {"training": TrainingRun(epochs=3, batch_size=4, average_decay=0.9)},
    ],
    ids=lambda changes: str(next(iter(changes.values())))[:40],
)
@pytest.mark.usefixtures("reporting_every_update")
def test_whatever_is_asked_for_goes_on_from_a_saved_state_bit_for_bit(changes):
    how = spec(**{"training": TrainingRun(epochs=3, batch_size=5), **changes})
    rows = data(examples(14), examples(6, seed=1), classification_metrics)
    whole, reports, curve = run(how, rows)
    for saved_after in range(1, len(reports), 2):
        early = start(how, **SHAPE)
        going = train(early, rows, how)
        before = [next(going) for _ in range(saved_after)]
        late = load_state(dump_state(early), how, **SHAPE)
        after = list(train(late, rows, how))
        np.testing.assert_array_equal(late.network.numbers, whole.network.numbers)
        assert_same_state(late, whole)
        assert timeless(curve_of(before + after)) == timeless(curve)


def test_weighted_rows_rule_what_is_learnt():
    """Two rows contradict each other; the one that counts more wins in proportion."""
    x = np.zeros((4, 2), dtype=np.float32)
    contradicting = fed(x, np.array([0, 0, 1, 1]), 2)
    weights = np.array([1.5, 1.5, 0.5, 0.5], dtype=np.float32)
    how = spec(
        network=NetworkSpec(layers=[]),
        optimizer=Adam(learning_rate=0.1),
        training=TrainingRun(epochs=400, batch_size="full"),
    )
    state, _, _ = run(how, data(replace(contradicting, weights=weights)), outputs=2)
    np.testing.assert_allclose(
        state.best_network().predict(contradicting.x[:1]), [[0.75, 0.25]], atol=1e-3
    )


def test_a_watched_training_tells_what_goes_on_in_every_layer():
    how = spec(training=TrainingRun(epochs=2, batch_size=5, watch=True))
    _, _, curve = run(how, data(examples(14)))
    for point in curve:
        assert set(point.metrics) == {
            *(f"layers.{n}.{what}" for n in (0, 1) for what in ("mean", "deviation")),
            *(f"layers.{n}.gradient_norm" for n in (0, 1)),
            *(f"layers.0.activation.{what}" for what in ("mean", "deviation")),
        }
        assert abs(point.metrics["layers.0.activation.mean"]) < 1
        assert point.metrics["layers.0.gradient_norm"] > 0


def test_a_plateau_lowers_the_learning_rate():
    rows = examples(40)
    how = spec(
        optimizer=Adam(learning_rate=0.4),
        schedule=PlateauSchedule(patience=1, factor=0.5, smallest=0.25),
        training=TrainingRun(epochs=30),
    )
    _, _, curve = run(how, data(rows, turned_against(rows)))
    rates = [point.learning_rate for point in curve]
    assert rates == sorted(rates, reverse=True)
    assert {0.4, 0.2, 0.1} == {round(rate, 6) for rate in rates}
