"""Stack: trained together, networks learn what they learn alone; and can be interrupted as well."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import stack, training
from engine.checkpoint import COUNTERS
from engine.errors import DivergedError
from engine.losses import bind_loss, bind_stacked_loss
from engine.metrics import classification_metrics
from engine.network import Inputs
from engine.spec import (
    Adagrad,
    Adam,
    AdamW,
    BatchNormLayer,
    CosineSchedule,
    CrossEntropy,
    DenseLayer,
    DropoutLayer,
    Lbfgs,
    Lion,
    Nadam,
    NetworkSpec,
    OneCycleSchedule,
    PlateauSchedule,
    Quantile,
    RmsProp,
    Rprop,
    Sgd,
    StepSchedule,
    StopRules,
    TrainingRun,
    loss_of,
)
from engine.stack import Stack, stacks, train_together
from engine.training import architecture_of, train
from engine.wires import Workspace
from tests.engine.beginnings import data, dump_state, examples, fed, load_state, spec, start

SHAPE = {"inputs": 2, "outputs": 3}
RUN = TrainingRun(epochs=4, batch_size=8)
DROPPING = NetworkSpec(
    layers=[
        DropoutLayer(rate=0.1),
        DenseLayer(units=8, activation="relu"),
        DropoutLayer(rate=0.5),
        DenseLayer(units=5, activation="tanh", bias=False),
    ]
)
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}


@pytest.fixture
def stacked(monkeypatch):
    """How many members each stack had."""
    sizes = []

    class Seen(Stack):
        def __init__(self, loops):
            sizes.append(len(loops))
            super().__init__(loops)

    monkeypatch.setattr(stack, "Stack", Seen)
    return sizes


@pytest.fixture
def reporting_every_update(monkeypatch):
    monkeypatch.setattr(training, "REPORT_SECONDS", 0)


def seeds(how, k):
    return [how.model_copy(update={"seed": seed}) for seed in range(k)]


def rows_of(how, sizes, *, weighted=False):
    """Other rows for each member, and a few to validate on."""
    made = []
    for seed, rows in enumerate(sizes):
        own = examples(rows, seed=seed, dtype=how.precision)
        if weighted:
            weights = np.random.default_rng(seed).uniform(0.5, 1.5, rows).astype(how.precision)
            own = replace(own, weights=weights)
        rest = examples(9, seed=100 + seed, dtype=how.precision)
        made.append(data(own, rest, classification_metrics))
    return made


def together(hows, rows, **shape):
    """Train in lockstep; return the states and each member's curve."""
    states = [start(how, **{**SHAPE, **shape}) for how in hows]
    epochs = [points for points in train_together(states, rows, hows) if points is not None]
    return states, [list(curve) for curve in zip(*epochs, strict=True)]


def alone(how, rows, **shape):
    """Train one to the end; return its state and curve."""
    state = start(how, **{**SHAPE, **shape})
    points = [report.point for report in train(state, rows, how)]
    return state, [point for point in points if point is not None]


def assert_close(state, other, precision):
    for name in COUNTERS:
        ours, theirs = getattr(state, name), getattr(other, name)
        assert name == "seconds" or ours == pytest.approx(theirs, rel=TOLERANCE[precision]), name
    vectors = [(state.network.numbers, other.network.numbers)]
    vectors += [(state.best_numbers, other.best_numbers)]
    if other.average is not None:
        vectors += [(state.average, other.average)]
    names = other.optimizer.remembers
    vectors += [(state.optimizer.moments[n], other.optimizer.moments[n]) for n in names]
    for ours, theirs in vectors:
        bound = TOLERANCE[precision] * np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE[precision], atol=bound)
    assert state.optimizer.t == other.optimizer.t
    assert state.dropout.bit_generator.state == other.dropout.bit_generator.state


def assert_as_alone(hows, rows, **shape):
    states, curves = together(hows, rows, **shape)
    for state, curve, how, own in zip(states, curves, hows, rows, strict=True):
        expected, points = alone(how, own, **shape)
        assert_close(state, expected, how.precision)
        for ours, theirs in zip(curve, points, strict=True):
            assert (ours.epoch, ours.step) == (theirs.epoch, theirs.step)
            assert ours.learning_rate == theirs.learning_rate
            assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-4)
            assert ours.validation_loss == pytest.approx(theirs.validation_loss, rel=1e-4)
            assert ours.metrics.keys() == theirs.metrics.keys()


WAYS = pytest.mark.parametrize(
    "changes",
    [
        {},
        {"network": NetworkSpec(layers=[])},
        {"network": DROPPING},
        {"optimizer": Sgd(learning_rate=0.1, momentum=0.0)},
        {"optimizer": Sgd(nesterov=True), "schedule": CosineSchedule()},
        {"optimizer": Adagrad(clip_value=0.05)},
        {"optimizer": RmsProp(), "schedule": StepSchedule(epochs=1)},
        {"optimizer": AdamW(weight_decay=0.1), "schedule": OneCycleSchedule()},
        {"optimizer": Adam(l1=0.01, weight_decay=0.01)},
        {"optimizer": Nadam()},
        {"optimizer": Lion(weight_decay=0.1)},
        {"optimizer": Rprop(), "training": TrainingRun(epochs=4, batch_size="full")},
        {"training": TrainingRun(epochs=4, batch_size="full")},
        {"training": TrainingRun(epochs=3, batch_size=100)},
        {"training": TrainingRun(epochs=3, batch_size=1)},
        {"training": TrainingRun(epochs=3, batch_size=8, average_decay=0.9)},
        {"loss": CrossEntropy(label_smoothing=0.1)},
    ],
    ids=lambda changes: str(changes)[:60],
)


@pytest.mark.parametrize("precision", TOLERANCE)
@WAYS
def test_members_learn_what_they_learn_alone(changes, precision, stacked):
    how = spec(**{"training": RUN, "precision": precision, **changes})
    assert_as_alone(seeds(how, 4), rows_of(how, [29] * 4))
    assert stacked == [4]


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "hinge", "squared_error"])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_loss_over_classes_is_learnt_alike(loss, weighted, precision, stacked):
    how = spec(training=RUN, precision=precision, loss=loss)
    assert_as_alone(seeds(how, 3), rows_of(how, [29] * 3, weighted=weighted))
    assert stacked == [3]


@pytest.mark.parametrize(
    "loss",
    ["squared_error", "huber", "log_cosh", Quantile(quantiles=[0.1, 0.5, 0.8]), "poisson"],
    ids=str,
)
def test_numbers_are_learnt_alike(loss, stacked, rng):
    how = spec(task="regression", loss=loss, training=RUN, precision="float64")
    rows = []
    for _ in range(3):
        x, y = rng.standard_normal((36, 2)), rng.random((36, 3))
        rows.append(data(fed(x[:30], y[:30]), fed(x[30:], y[30:])))
    assert_as_alone(seeds(how, 3), rows)
    assert stacked == [3]


def test_two_classes_of_one_output_are_learnt_alike(stacked):
    how = spec(loss="binary_cross_entropy", training=RUN, precision="float64")
    rows = [
        data(*(examples(n, classes=2, seed=seed, dtype=np.float64) for n in (29, 9)))
        for seed in range(3)
    ]
    rows = [data(*(replace(e, outputs=1) for e in (d.training, d.validation))) for d in rows]
    assert_as_alone(seeds(how, 3), rows, outputs=1)
    assert stacked == [3]


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([29, 30, 30, 31], [4]),  # the last batch is another in each
        ([32, 33, 33, 33, 32, 32], [3, 3]),  # a row more makes a batch more
        ([24, 33, 33, 33], [3]),
    ],
)
def test_members_may_differ_in_their_number_of_rows(sizes, groups, stacked):
    how = spec(network=DROPPING, optimizer=Nadam(), training=RUN, precision="float64")
    assert_as_alone(seeds(how, len(sizes)), rows_of(how, sizes))
    assert stacked == groups


def test_full_batches_of_other_sizes_are_not_stacked(stacked):
    how = spec(training=TrainingRun(epochs=3, batch_size="full"), precision="float64")
    assert_as_alone(seeds(how, 4), rows_of(how, [30, 31, 31, 31]))
    assert stacked == [3]


@given(
    k=st.integers(3, 6),
    widths=st.lists(st.integers(1, 9), max_size=3),
    batch=st.integers(1, 12),
    rows=st.integers(1, 40),
    activation=st.sampled_from(["tanh", "relu", "gelu", "softplus", "identity"]),
)
@settings(max_examples=25)
def test_any_stack_learns_what_its_members_learn_alone(k, widths, batch, rows, activation):
    layers = [DenseLayer(units=units, activation=activation) for units in widths]
    how = spec(
        network=NetworkSpec(layers=layers),
        precision="float64",
        training=TrainingRun(epochs=2, batch_size=batch),
    )
    hows, own = seeds(how, k), rows_of(how, [rows] * k)
    for state, each, part in zip(together(hows, own)[0], hows, own, strict=True):
        expected, _ = alone(each, part)
        np.testing.assert_allclose(
            state.network.numbers, expected.network.numbers, rtol=1e-9, atol=1e-9
        )


def test_one_spec_serves_all_members():
    how = spec(training=RUN, precision="float64")
    rows = rows_of(how, [20] * 3)
    states = [start(how, **SHAPE) for _ in rows]
    assert sum(points is not None for points in train_together(states, rows, how)) == 4
    for state, own in zip(states, rows, strict=True):
        assert_close(state, alone(how, own)[0], "float64")


def test_rows_are_gathered_in_blocks_to_the_same_end(monkeypatch):
    how = spec(training=RUN)
    hows, rows = seeds(how, 3), rows_of(how, [29] * 3, weighted=True)
    at_once, _ = together(hows, rows)
    monkeypatch.setattr("engine.data.batches.BLOCK_BYTES", 1)
    in_blocks, _ = together(hows, rows)
    for state, other in zip(at_once, in_blocks, strict=True):
        np.testing.assert_array_equal(state.network.numbers, other.network.numbers)


@pytest.mark.parametrize(
    ("changes", "sizes"),
    [
        ({"network": DROPPING}, [20] * 3),
        ({"network": DROPPING, "optimizer": Nadam()}, [20, 21, 23, 17, 16, 15]),
        ({"optimizer": Rprop(), "training": TrainingRun(epochs=3, batch_size="full")}, [20] * 3),
        ({"training": TrainingRun(epochs=2, batch_size=8, average_decay=0.9)}, [20] * 3),
        ({"optimizer": Sgd(), "schedule": CosineSchedule()}, [20, 20, 20, 40]),
        ({"optimizer": Adam(clip_norm=0.1)}, [20] * 3),
    ],
    ids=["dropout", "nadam", "full batch", "average", "cosine", "not stacked"],
)
@pytest.mark.usefixtures("reporting_every_update")
def test_states_saved_after_any_report_go_on_bit_for_bit(changes, sizes):
    how = spec(**{"training": TrainingRun(epochs=2, batch_size=8), **changes})
    hows, rows = seeds(how, len(sizes)), rows_of(how, sizes)
    whole = [start(each, **SHAPE) for each in hows]
    reports = list(train_together(whole, rows, hows))
    curves = [points for points in reports if points is not None]
    assert len(reports) > len(curves) == how.training.epochs
    for saved_after in range(1, len(reports)):
        early = [start(each, **SHAPE) for each in hows]
        going = train_together(early, rows, hows)
        before = [next(going) for _ in range(saved_after)]
        late = [
            load_state(dump_state(state), each, **SHAPE)
            for state, each in zip(early, hows, strict=True)
        ]
        after = list(train_together(late, rows, hows))
        again = [points for points in before + after if points is not None]
        assert timeless(again) == timeless(curves)
        for state, expected in zip(late, whole, strict=True):
            assert_same_bits(state, expected)


def timeless(curves):
    return [[replace(point, seconds=0) for point in points] for points in curves]


def assert_same_bits(state, expected):
    for name in COUNTERS:
        assert name == "seconds" or getattr(state, name) == getattr(expected, name), name
    np.testing.assert_array_equal(state.network.numbers, expected.network.numbers)
    np.testing.assert_array_equal(state.best_numbers, expected.best_numbers)
    for name, moment in expected.optimizer.moments.items():
        np.testing.assert_array_equal(state.optimizer.moments[name], moment)
    assert state.optimizer.t == expected.optimizer.t
    assert state.dropout.bit_generator.state == expected.dropout.bit_generator.state


@pytest.mark.usefixtures("reporting_every_update")
def test_a_member_can_go_on_alone_at_any_report():
    how = spec(network=DROPPING, training=RUN, precision="float64")
    hows, rows = seeds(how, 3), rows_of(how, [29] * 3)
    states = [start(each, **SHAPE) for each in hows]
    going = train_together(states, rows, hows)
    for _ in range(7):
        next(going)
    for state, each, own in zip(states, hows, rows, strict=True):
        list(train(state, own, each))
        assert_close(state, alone(each, own)[0], "float64")


def test_members_that_were_left_in_the_middle_of_different_epochs_are_refused():
    how = spec(training=RUN)
    rows = rows_of(how, [20] * 3)
    states = [start(how, **SHAPE) for _ in rows]
    next(train(states[0], rows[0], how))
    with pytest.raises(ValueError, match="must be the same"):
        next(train_together(states, rows, how))


@pytest.mark.usefixtures("reporting_every_update")
def test_members_at_different_updates_of_an_epoch_meet_at_its_end(stacked):
    how = spec(training=RUN, precision="float64")
    rows = rows_of(how, [29] * 3)
    states = [start(how, **SHAPE) for _ in rows]
    next(train(states[1], rows[1], how))
    list(train_together(states, rows, how))
    for state, own in zip(states, rows, strict=True):
        assert_close(state, alone(how, own)[0], "float64")
    assert stacked == [3]


@pytest.mark.parametrize("k", [3, 1])
def test_no_stop_rule_ends_a_member(k):
    stop = StopRules(target_loss=1e9, patience=1, max_seconds=1e-9)
    how = spec(training=TrainingRun(epochs=5, batch_size=8, stop=stop))
    states, curves = together(seeds(how, k), rows_of(how, [20] * k))
    assert [len(curve) for curve in curves] == [5] * k
    assert {state.step for state in states} == {15}


def test_states_at_their_end_have_nothing_to_report():
    how = spec(training=RUN)
    rows = rows_of(how, [20] * 3)
    states = [start(how, **SHAPE) for _ in rows]
    list(train_together(states, rows, how))
    assert list(train_together(states, rows, how)) == []


def test_the_time_of_a_stack_is_shared_out():
    how = spec(training=RUN)
    states, curves = together(seeds(how, 3), rows_of(how, [20] * 3))
    for state, curve in zip(states, curves, strict=True):
        assert 0 < curve[0].seconds < curve[-1].seconds == state.seconds


def test_long_epochs_are_reported_in_between(monkeypatch):
    monkeypatch.setattr(training, "REPORT_SECONDS", 0.001)
    how = spec(training=TrainingRun(epochs=1, batch_size=1))
    rows = [data(examples(500, seed=seed)) for seed in range(3)]
    states = [start(how, **SHAPE) for _ in rows]
    reports = list(train_together(states, rows, how))
    assert reports[:-1] == [None] * (len(reports) - 1)
    assert 1 < len(reports) <= 1 + sum(state.seconds for state in states) / 0.001


def test_a_member_that_diverges_says_where():
    how = spec(
        task="regression",
        loss="squared_error",
        optimizer=Sgd(learning_rate=1e3),
        training=TrainingRun(epochs=50, batch_size=5),
    )
    calm = np.zeros((10, 2), dtype=np.float32)
    wild = examples(10).x[:, :2]
    rows = [data(fed(x, x[:, :1])) for x in (calm, wild, calm)]
    states = [start(how, inputs=2, outputs=1) for _ in rows]
    with pytest.raises(DivergedError) as diverged:
        list(train_together(states, rows, how))
    for state in states:
        assert diverged.value.epoch == state.epoch + 1
        assert diverged.value.step == state.step + 1 == 2 * state.epoch + state.batch + 1


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": Lbfgs(), "training": TrainingRun(epochs=3, batch_size="full")},
        {"optimizer": Rprop(plus=True), "training": TrainingRun(epochs=3, batch_size="full")},
        {"optimizer": Adam(clip_norm=0.1)},
        {"schedule": PlateauSchedule(patience=0, factor=0.5)},
        {"training": TrainingRun(epochs=3, batch_size=8, watch=True)},
        {"network": NetworkSpec(layers=[DenseLayer(units=6), BatchNormLayer()])},
        {"network": NetworkSpec(layers=[DenseLayer(units=10_000)])},
    ],
    ids=lambda changes: str(changes)[:50],
)
def test_what_cannot_be_stacked_is_trained_in_turn_to_the_same_bits(changes, stacked):
    how = spec(**{"training": TrainingRun(epochs=3, batch_size=8), **changes})
    hows, rows = seeds(how, 3), rows_of(how, [20] * 3)
    states, curves = together(hows, rows)
    for state, curve, each, own in zip(states, curves, hows, rows, strict=True):
        expected, points = alone(each, own)
        assert_same_bits(state, expected)
        assert timeless([curve]) == timeless([points])
    assert stacked == []


def test_members_of_other_settings_are_trained_in_turn(stacked):
    hows = [spec(training=RUN, optimizer=Sgd(learning_rate=rate)) for rate in (0.1, 0.2, 0.3)]
    rows = rows_of(hows[0], [20] * 3)
    states, _ = together(hows, rows)
    for state, each, own in zip(states, hows, rows, strict=True):
        assert_same_bits(state, alone(each, own)[0])
    assert stacked == []


@pytest.mark.parametrize(("k", "rows", "answer"), [(2, 90, False), (3, 90, True), (9, 90, True)])
def test_two_are_no_stack(k, rows, answer):
    how = spec(training=RUN)
    assert stacks(how, architecture_of(how, Inputs((2,)), 3), k, rows) is answer


@pytest.mark.parametrize(("rows", "answer"), [(32, True), (1000, False)])
def test_full_batches_count_by_their_rows(rows, answer):
    wide = NetworkSpec(layers=[DenseLayer(units=64), DenseLayer(units=64)])
    how = spec(network=wide, training=TrainingRun(batch_size="full"))
    assert stacks(how, architecture_of(how, Inputs((32,)), 3), 5, rows) is answer


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("cross_entropy", "classification"),
        ("binary_cross_entropy", "classification"),
        ("focal", "classification"),
        ("hinge", "classification"),
        ("squared_error", "classification"),
        ("squared_error", "regression"),
        ("absolute_error", "regression"),
        ("huber", "regression"),
        ("log_cosh", "regression"),
        ("quantile", "regression"),
        ("poisson", "regression"),
    ],
)
def test_stacked_losses_and_slopes_are_those_of_each(name, task, weighted, learns, rng):
    loss, k, batch = loss_of(name), 4, 7
    t = np.eye(3)[rng.integers(0, 3, (k, batch))].swapaxes(1, 2)
    weights = rng.random((k, 1, batch)) if weighted else None
    z = rng.standard_normal((k, 3, batch))
    workspace = Workspace(np.float64, batch, learns=learns, stack=(k,))
    wire = workspace.wire(3)
    wire.value[:] = z
    losses = bind_stacked_loss(loss, task, wire, workspace)(t, weights)
    assert losses.shape == (k,)
    for i in range(k):
        workspace = Workspace(np.float64, batch, learns=learns)
        own = workspace.wire(3)
        own.value[:] = z[i]
        its_weights = None if weights is None else weights[i, 0]
        expected = bind_loss(loss, task, own, workspace)(t[i], its_weights)
        assert losses[i] == pytest.approx(expected, rel=1e-12)
        if learns:
            np.testing.assert_allclose(wire.gradient[i], own.gradient, rtol=1e-12, atol=1e-14)


def test_a_network_can_be_laid_out_in_memory_that_it_is_given():
    how = spec(network=DROPPING)
    architecture = architecture_of(how, Inputs((2,)), 3)
    n = architecture.parameter_count()
    numbers, gradients = np.zeros((2, n)), np.zeros((2, n))
    both = architecture.build(np.float64, numbers, gradients)
    rows = [architecture.build(np.float64, *pair) for pair in zip(numbers, gradients, strict=True)]
    for value, network in enumerate(rows, start=1):
        for tensor in network.tensors().values():
            tensor[:] = value
        network.gradient[:] = -value
    for layer in both.layers.values():
        for kind, tensor in layer.parameters.items():
            assert tensor.shape == (2, *layer.parameter_shapes[kind])
            assert {*tensor[0].flat} == {1}
            assert {*tensor[1].flat} == {2}
            assert {*layer.gradients[kind][1].flat} == {-2}
    assert both.parameters.shape == (2, n)
