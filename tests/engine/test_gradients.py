"""Every layer, activation and loss agrees with central differences; none can be forgotten."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import spec
from engine.gradcheck import network_error, slope_error
from engine.losses import bind_loss
from engine.network import Architecture, Inputs
from engine.wires import Workspace

TOLERANCE = 1e-6
FLAT, IMAGE = (6,), (2, 7, 7)
STEPS, PADDED = Inputs((2,)).repeated(4, masked=False), Inputs((2,)).repeated(4, masked=True)
CODES = Inputs(FLAT, {1: 5, 4: 3})
CODES_BY_STEP, CODES_PADDED = (
    Inputs((3,), {0: 4, 2: 3}).repeated(4, masked=masked) for masked in (False, True)
)

DENSE = spec.DenseLayer(units=6, activation="tanh")
BARE = spec.DenseLayer(units=6, activation="identity", bias=False)
EQUILIBRIUM = spec.EquilibriumLayer(units=5, tolerance=1e-13, max_iterations=1000)
LSTM, GRU = spec.LstmLayer(units=3), spec.GruLayer(units=3)
EMBEDDING = spec.EmbeddingLayer(dimensions=3)
CONV = spec.Conv2dLayer(filters=3, kernel=3, activation="tanh")


def readings(layer: spec.RecurrentLayer) -> list[tuple[Inputs, list[Any]]]:
    """Return a recurrent layer in all ways, with padding and without."""
    ways: list[dict[str, Any]] = [
        {},
        {"pooling": "mean"},
        {"pooling": "max"},
        {"return_sequences": True},
    ]
    return [
        (inputs, [layer.model_copy(update={**way, "bidirectional": both})])
        for inputs in (STEPS, PADDED)
        for way in ways
        for both in (False, True)
    ]


SEQUENCES = {"return_sequences": True}

LAYERS: dict[type[spec.Spec], list[tuple[Any, list[Any]]]] = {
    spec.DenseLayer: [(FLAT, [DENSE, BARE]), (IMAGE, [DENSE])],
    spec.ActivationLayer: [(FLAT, [BARE, spec.ActivationLayer(activation="gelu")])],
    spec.DropoutLayer: [(FLAT, [DENSE, spec.DropoutLayer(rate=0.5), DENSE])],
    spec.BatchNormLayer: [
        (FLAT, [DENSE, spec.BatchNormLayer(), DENSE]),
        (FLAT, [spec.BatchNormLayer()]),
        (IMAGE, [CONV, spec.BatchNormLayer()]),
    ],
    spec.LayerNormLayer: [
        (FLAT, [DENSE, spec.LayerNormLayer(), DENSE]),
        (IMAGE, [spec.LayerNormLayer()]),
    ],
    spec.EmbeddingLayer: [
        (CODES, [EMBEDDING, DENSE]),
        *(
            (inputs, [EMBEDDING, *above])
            for inputs in (CODES_BY_STEP, CODES_PADDED)
            for above in (
                [DENSE],
                [spec.RnnLayer(units=3, pooling="mean")],
                [GRU.model_copy(update={"bidirectional": True})],
                [spec.LayerNormLayer(), LSTM.model_copy(update=SEQUENCES), GRU],
            )
        ),
        (
            Inputs((1,), {0: 4}).repeated(4, masked=True),
            [EMBEDDING, LSTM.model_copy(update={"pooling": "max"})],
        ),
    ],
    spec.EquilibriumLayer: [
        (FLAT, [EQUILIBRIUM]),
        (FLAT, [DENSE, EQUILIBRIUM.model_copy(update={"bias": False, "activation": "tanh"})]),
        (IMAGE, [CONV, EQUILIBRIUM.model_copy(update={"damping": 0.3}), DENSE]),
    ],
    spec.RnnLayer: [
        *readings(spec.RnnLayer(units=3)),
        (STEPS, [spec.RnnLayer(units=3, activation="relu", pooling="mean")]),
    ],
    spec.GruLayer: [
        *readings(GRU),
        (PADDED, [LSTM.model_copy(update=SEQUENCES), spec.DropoutLayer(rate=0.5), GRU, DENSE]),
    ],
    spec.LstmLayer: [
        *readings(LSTM),
        (STEPS, [GRU.model_copy(update=SEQUENCES), LSTM.model_copy(update=SEQUENCES), DENSE]),
    ],
    spec.ReshapeLayer: [((18,), [spec.ReshapeLayer(shape=[2, 3, 3]), CONV])],
    spec.FlattenLayer: [(IMAGE, [CONV, spec.FlattenLayer(), DENSE])],
    spec.Conv2dLayer: [
        (IMAGE, [CONV, CONV]),
        (IMAGE, [CONV.model_copy(update={"stride": 2, "padding": 2, "bias": False})]),
        (IMAGE, [CONV.model_copy(update={"kernel": 7})]),
    ],
    spec.MaxPool2dLayer: [
        (IMAGE, [CONV, spec.MaxPool2dLayer()]),
        (IMAGE, [CONV, spec.MaxPool2dLayer(window=3, stride=2)]),
    ],
    spec.AveragePool2dLayer: [
        (IMAGE, [CONV, spec.AveragePool2dLayer()]),
        (IMAGE, [CONV, spec.AveragePool2dLayer(window=3, stride=1)]),
    ],
    spec.ResidualLayer: [
        (FLAT, [DENSE, spec.ResidualLayer(layers=[DENSE, BARE]), DENSE]),
        (FLAT, [spec.ResidualLayer(layers=[DENSE, spec.LayerNormLayer(), BARE])]),
        (
            IMAGE,
            [spec.ResidualLayer(layers=[CONV.model_copy(update={"filters": 2, "padding": 1})])],
        ),
    ],
}
CASES = [(shape, layers) for cases in LAYERS.values() for shape, layers in cases]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1986)


def built(layers, shape, outputs, rng, output="softmax"):
    """Return a float64 network whose biases are not 0 either."""
    inputs = shape if isinstance(shape, Inputs) else Inputs(shape)
    network = Architecture(spec.NetworkSpec(layers=layers), inputs, outputs, output).build(
        "float64"
    )
    network.initialize(rng)
    network.parameters[:] += 0.1 * rng.standard_normal(network.parameters.size)
    return network


def drawn(loss, task, shape, outputs, rng, batch=5):
    """Return rows with their ones, and targets that suit the loss."""
    inputs = shape if isinstance(shape, Inputs) else Inputs(shape)
    rows = np.ones((batch, inputs.units + 1))
    rows[:, :-1] = rng.standard_normal((batch, rows.shape[1] - 1))
    width = inputs.units // (inputs.steps or 1) - inputs.masked
    for place, count in inputs.levels.items():
        codes = rows[:, place : width * (inputs.steps or 1) : width]
        codes[:] = rng.integers(0, count, codes.shape)
    if inputs.masked:
        rows[:, -1 - inputs.steps : -1] = np.arange(inputs.steps) < [[4], [1], [3], [0], [2]]
    if task == "classification":
        labels = rng.integers(0, max(outputs, 2), batch)
        classes = np.arange(1, 2) if outputs == 1 else np.arange(outputs)
        return rows, (labels == classes[:, None]).astype(float)
    if isinstance(loss, spec.Poisson):
        return rows, rng.poisson(3, (outputs, batch)).astype(float)
    return rows, rng.standard_normal((outputs, batch))


def test_no_layer_is_forgotten():
    union, _ = get_args(spec.Layer)
    assert set(LAYERS) == set(get_args(union))


def test_no_loss_is_forgotten():
    union, _ = get_args(spec.Loss)
    assert {*spec.CLASS_LOSSES, *spec.NUMBER_LOSSES} == set(get_args(union))


@pytest.mark.parametrize(("shape", "layers"), CASES, ids=lambda case: str(case)[:60])
def test_every_layer_agrees_with_central_differences_while_learning(shape, layers, rng):
    """Dropout draws the same mask each time, and batch norm uses its batch's moments."""
    network = built(layers, shape, 3, rng)
    loss_spec = spec.CrossEntropy()
    rows, targets = drawn(loss_spec, "classification", shape, 3, rng)
    dropout = np.random.default_rng(1)
    workspace = Workspace("float64", len(rows), rng=dropout, learns=True)
    bound = network.bind(workspace)
    loss = bind_loss(loss_spec, "classification", bound.logits, workspace)
    mask = dropout.bit_generator.state

    def value(parameters):
        network.parameters[:] = parameters
        dropout.bit_generator.state = mask
        bound.forward(rows)
        return loss(targets, None)

    start = network.parameters.copy()
    value(start)
    bound.backward()
    assert slope_error(value, start, network.gradient.copy(), rng) < TOLERANCE


WITH_SLOPE = [
    (shape, layers)
    for shape, layers in CASES
    if layers[0].type != "embedding" and shape is not PADDED
]
"""All but those whose inputs are codes or a mask, which have no slope."""


@pytest.mark.parametrize(("shape", "layers"), WITH_SLOPE, ids=lambda case: str(case)[:60])
def test_every_layer_hands_the_gradient_on_to_its_input(shape, layers, rng):
    loss = spec.CrossEntropy()
    rows, targets = drawn(loss, "classification", shape, 3, rng)
    network = built(layers, shape, 3, rng)
    assert network_error(network, loss, "classification", rows, targets, rng) < TOLERANCE


@pytest.mark.parametrize("activation", get_args(spec.Activation))
def test_every_activation_agrees_with_central_differences(activation, rng):
    layers = [spec.DenseLayer(units=9, activation=activation), DENSE]
    loss = spec.SquaredError()
    network = built(layers, FLAT, 2, rng, "identity")
    rows, targets = drawn(loss, "regression", FLAT, 2, rng, batch=20)
    assert network_error(network, loss, "regression", rows, targets, rng) < TOLERANCE


@pytest.mark.parametrize(
    ("task", "loss_spec"),
    [
        *(("classification", kind()) for kind in spec.CLASS_LOSSES),
        *(("regression", kind()) for kind in spec.NUMBER_LOSSES),
        ("regression", spec.Quantile(quantiles=[0.1, 0.5, 0.9])),
    ],
    ids=str,
)
@pytest.mark.parametrize("weighted", [False, True])
def test_every_loss_agrees_with_central_differences(task, loss_spec, weighted, rng):
    outputs = 1 if isinstance(loss_spec, spec.BinaryCrossEntropy) else 3
    workspace = Workspace("float64", 7, learns=True)
    wire = workspace.wire(outputs)
    loss = bind_loss(loss_spec, task, wire, workspace)
    _, targets = drawn(loss_spec, task, FLAT, outputs, rng, batch=7)
    weights = rng.uniform(0.1, 2, 7) if weighted else None

    def value(logits):
        wire.value[:] = logits.reshape(wire.value.shape)
        return loss(targets, weights)

    start = rng.standard_normal(outputs * 7)
    value(start)
    assert slope_error(value, start, wire.gradient.ravel().copy(), rng) < TOLERANCE


@given(
    widths=st.lists(st.integers(1, 9), max_size=4),
    inputs=st.integers(1, 7),
    outputs=st.integers(2, 5),
    batch=st.integers(1, 9),
    seed=st.integers(0, 2**32),
)
def test_networks_of_any_shape_agree_with_central_differences(widths, inputs, outputs, batch, seed):
    rng = np.random.default_rng(seed)
    layers = [spec.DenseLayer(units=units, activation="tanh") for units in widths]
    network = built(layers, (inputs,), outputs, rng)
    loss = spec.CrossEntropy()
    rows, targets = drawn(loss, "classification", (inputs,), outputs, rng, batch)
    assert network_error(network, loss, "classification", rows, targets, rng) < 1e-5


def test_a_wrong_gradient_is_noticed(rng):
    point, gradient = rng.standard_normal(50), rng.standard_normal(50)
    right = slope_error(lambda p: float(gradient @ p), point, gradient, rng)
    gradient_off = gradient.copy()
    gradient_off[17] += 0.01
    assert right < 1e-8
    assert slope_error(lambda p: float(gradient @ p), point, gradient_off, rng) > 1e-6
