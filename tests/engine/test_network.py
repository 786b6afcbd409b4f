"""Whole networks: their gradient, their parameters, and their predictions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from engine import spec
from engine.errors import SpecError
from engine.losses import bind_loss
from engine.network import Architecture, Inputs
from engine.wires import Workspace
from tests.engine.beginnings import network, with_ones

SEEDS = st.integers(0, 2**32 - 1)
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def gradient_of(net, x, t):
    """The gradient of the mean cross-entropy at the parameters, and at the inputs."""
    workspace = Workspace(net.numbers.dtype, len(x), learns=True)
    bound = net.bind(workspace, to_input=True)
    loss = bind_loss(spec.CrossEntropy(), "classification", bound.logits, workspace)
    bound.forward(with_ones(x))
    loss(t, None)
    bound.backward()
    return net.gradient.copy(), bound.source.gradient.T.copy()


def one_hot(rng, rows, classes, dtype=np.float64):
    return np.eye(classes, dtype=dtype)[:, rng.integers(0, classes, rows)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-12)])
@given(cuts=st.sets(st.integers(1, 11), max_size=5), seed=SEEDS)
def test_the_full_batch_gradient_is_the_mean_of_its_parts(dtype, tolerance, cuts, seed):
    rng = np.random.default_rng(seed)
    layers = [spec.DenseLayer(units=5, activation="tanh"), spec.DenseLayer(units=4)]
    net = network(layers, 3, 4, dtype=dtype, seed=seed)
    x, t = rng.standard_normal((12, 3)).astype(dtype), one_hot(rng, 12, 4, dtype)
    whole, _ = gradient_of(net, x, t)
    parts = [slice(a, b) for a, b in zip([0, *sorted(cuts)], [*sorted(cuts), 12], strict=True)]
    gradients = [gradient_of(net, x[part], t[:, part])[0] for part in parts]
    shares = [dtype(len(x[part]) / 12) for part in parts]
    mean = sum(g * share for g, share in zip(gradients, shares, strict=True))
    # Relative to the terms of the sum, as these may cancel.
    assert np.linalg.norm(whole - mean) <= tolerance * max(map(np.linalg.norm, gradients))


@given(rows=st.integers(1, 6), inputs=st.integers(1, 5), units=st.integers(1, 5), seed=SEEDS)
def test_a_bias_is_the_weight_of_a_unit_that_is_always_one(rows, inputs, units, seed):
    """A net with biases, and one without whose first input is always 1, are the same net."""
    rng = np.random.default_rng(seed)
    hidden = spec.DenseLayer(units=units, activation="tanh")
    with_bias = network([hidden], inputs, 3, seed=seed)
    with_unit = network([hidden.model_copy(update={"bias": False})], inputs + 1, 3, seed=seed)
    ours, theirs = with_bias.tensors(), with_unit.tensors()
    theirs["layers.0.weight"][:, 0] = ours["layers.0.bias"]
    theirs["layers.0.weight"][:, 1:] = ours["layers.0.weight"]
    for kind in ("weight", "bias"):
        theirs[f"layers.1.{kind}"][:] = ours[f"layers.1.{kind}"]
    x, t = rng.standard_normal((rows, inputs)), one_hot(rng, rows, 3)
    wider = np.hstack([np.ones((rows, 1)), x])
    np.testing.assert_allclose(
        with_bias.predict(with_ones(x)), with_unit.predict(with_ones(wider)), **CLOSE
    )
    _, at_input = gradient_of(with_bias, x, t)
    _, at_wider = gradient_of(with_unit, wider, t)
    np.testing.assert_allclose(at_input, at_wider[:, 1:], **CLOSE)
    learnt, same = (
        net.layers["layers.0"].split(net.layers["layers.0"].gradients)
        for net in (with_bias, with_unit)
    )
    np.testing.assert_allclose(learnt["bias"], same["weight"][:, 0], **CLOSE)
    np.testing.assert_allclose(learnt["weight"], same["weight"][:, 1:], **CLOSE)


def test_tensors_are_views_of_the_flat_numbers():
    net = network([spec.DenseLayer(units=3), spec.BatchNormLayer()], 2, 4)
    tensors = net.tensors()
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "layers.0.weight": (3, 2),
        "layers.0.bias": (3,),
        "layers.1.scale": (3,),
        "layers.1.shift": (3,),
        "layers.1.mean": (3,),
        "layers.1.variance": (3,),
        "layers.2.weight": (4, 3),
        "layers.2.bias": (4,),
    }
    net.numbers[:] = np.arange(net.numbers.size)
    seen = np.sort(np.concatenate([tensor.ravel() for tensor in tensors.values()]))
    assert seen.tolist() == list(range(net.numbers.size))
    assert net.parameters.size == net.numbers.size - 6 == net.architecture.parameter_count()


def test_weight_decay_leaves_biases_and_normalization_alone():
    net = network([spec.DenseLayer(units=3), spec.LayerNormLayer()], 2, 4)
    marked = net.with_numbers(net.numbers)
    marked.parameters[:] = net.decayed()
    for name, tensor in marked.tensors().items():
        assert (tensor == (1 if name.endswith("weight") else 0)).all(), name


def test_the_largest_network_that_can_be_asked_for_can_be_counted():
    wide = spec.DenseLayer(units=spec.MAX_UNITS)
    layers = spec.NetworkSpec(layers=[wide] * spec.MAX_LAYERS)
    count = Architecture(layers, Inputs((1,)), 1, "identity").parameter_count()
    assert count == (spec.MAX_LAYERS - 1) * 2**106 + (spec.MAX_LAYERS + 2) * 2**53 + 1


def test_initial_weights_are_drawn_and_initial_biases_are_zero():
    hidden = spec.NetworkSpec(layers=[spec.DenseLayer(units=5), spec.DenseLayer(units=4)])
    nets = [Architecture(hidden, Inputs((3,)), 2, "identity").build(np.float32) for _ in range(3)]
    for net, seed in zip(nets, [1, 1, 2], strict=True):
        net.initialize(np.random.default_rng(seed))
    for name, tensor in nets[0].tensors().items():
        assert (tensor == 0).all() if name.endswith("bias") else (tensor != 0).all()
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)
    assert (nets[0].parameters != nets[2].parameters).any()


def test_a_network_with_other_numbers_has_them_for_itself(rng):
    net = network([spec.DenseLayer(units=3)], 2, 2)
    x = with_ones(rng.standard_normal((4, 2)))
    before = net.predict(x)
    other = net.with_numbers(net.numbers)
    np.testing.assert_array_equal(other.predict(x), before)
    other.numbers[:] = 0
    assert not other.predict(x).any()
    np.testing.assert_array_equal(net.predict(x), before)


def test_a_training_pass_drops_what_the_spec_says_and_a_prediction_nothing(rng):
    layers = [spec.DenseLayer(units=8, activation="identity"), spec.DropoutLayer(rate=0.5)]
    net, whole = network(layers, 3, 2), network(layers[:1], 3, 2)
    x = with_ones(rng.standard_normal((20, 3)))
    bound = net.bind(Workspace(np.float64, 20, rng=np.random.default_rng(0)))
    bound.forward(x)
    assert (np.abs(bound.logits.value.T - net.predict(x)) > 1e-6).any(axis=1).all()
    np.testing.assert_array_equal(net.predict(x), whole.predict(x))


ANSWERS = {
    "identity": lambda z: z,
    "exp": np.exp,
    "softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True),
}


@pytest.mark.parametrize("output", ANSWERS)
@pytest.mark.parametrize("rows", [1, 2, 3, 255, 256, 257, 3000])
def test_a_prediction_is_what_one_pass_answers_however_many_rows(rng, output, rows):
    layers = [spec.DenseLayer(units=8, activation="tanh"), spec.DropoutLayer(rate=0.5)]
    net = network(layers, 3, 2, output=output)
    x = with_ones(rng.standard_normal((rows, 3)))
    bound = net.bind(Workspace(np.float64, rows))
    bound.forward(x)
    expected = ANSWERS[output](bound.logits.value.T)
    np.testing.assert_allclose(net.predict(x), expected, rtol=1e-12)


def test_the_one_output_of_two_classes_becomes_their_probabilities(rng):
    net = network([spec.DenseLayer(units=4)], 3, 1, output="sigmoid")
    x = with_ones(rng.standard_normal((20, 3)))
    p = net.predict(x)
    assert p.shape == (20, 2)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    bound = net.bind(Workspace(np.float64, 20))
    bound.forward(x)
    np.testing.assert_allclose(p[:, 1], 1 / (1 + np.exp(-bound.logits.value[0])), rtol=1e-12)


def test_no_rows_get_no_predictions():
    assert network([], 3, 2).predict(np.empty((0, 4))).shape == (0, 2)


@pytest.mark.parametrize("first", ["tanh", "relu", "gelu"])
def test_an_activation_may_come_first_and_sees_each_batch(rng, first):
    net = network([spec.ActivationLayer(activation=first)], 2, 2)
    bound = net.bind(Workspace(np.float64, 4, learns=True))
    for _ in range(3):
        x = with_ones(rng.standard_normal((4, 2)))
        bound.forward(x)
        np.testing.assert_allclose(bound.logits.value.T, net.predict(x), rtol=1e-12)


def _dense(*units):
    return [spec.DenseLayer(units=count, activation="gelu") for count in units]


def _images(channels, size, *filters, kernel=3):
    sides = spec.ReshapeLayer(shape=[channels, size, size])
    convolutions = [spec.Conv2dLayer(filters=f, kernel=kernel, padding=1) for f in filters]
    return [sides, *convolutions, spec.MaxPool2dLayer(window=2), spec.FlattenLayer()]


ALONE_AND_AMONG_OTHERS = {
    "line": ([], 400, 1, "identity"),
    "small": (_dense(16, 9), 4, 3, "softmax"),
    "digits": (_dense(128, 64), 64, 10, "softmax"),
    "one number": (_dense(64, 32), 10, 1, "exp"),
    "two classes": (_dense(500), 30, 1, "sigmoid"),
    "long sums": (_dense(700, 300), 450, 7, "softmax"),
    "normalized": ([*_dense(20), spec.BatchNormLayer(), spec.LayerNormLayer()], 6, 4, "identity"),
    "images": (_images(1, 8, 6, 9), 64, 10, "softmax"),
    "one filter": (_images(1, 6, 1), 36, 2, "softmax"),
    "many channels": (_images(44, 2, 12), 176, 5, "softmax"),
}
"""Networks whose products the BLAS adds in different ways."""


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ALONE_AND_AMONG_OTHERS)
def test_a_row_is_answered_to_the_same_bits_alone_and_among_any_others(rng, name, dtype):
    layers, inputs, outputs, output = ALONE_AND_AMONG_OTHERS[name]
    net = network(layers, inputs, outputs, output=output, dtype=dtype)
    x = with_ones(rng.standard_normal((600, inputs)).astype(dtype))
    whole, among = net.predict(x), np.testing.assert_array_equal
    if "SkylakeX" not in {library.get("architecture") for library in threadpool_info()}:
        among = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    for rows in (2, 3, 7, 8, 31, 64, 100, 257, 513):
        for first in (5, len(x) - rows):
            among(net.predict(x[first : first + rows]), whole[first : first + rows])
    for row in range(40):
        among(net.predict(x[row : row + 1])[0], whole[row])


def test_threads_share_one_network(rng):
    net = network([spec.DenseLayer(units=32), spec.DenseLayer(units=32)], 8, 3, output="softmax")
    batches = [with_ones(rng.standard_normal((n, 8))) for n in (1, 2, 50, 200) for _ in range(10)]
    alone = [net.predict(x) for x in batches]
    with ThreadPoolExecutor(8) as threads:
        at_once = list(threads.map(net.predict, batches))
    for a, b in zip(alone, at_once, strict=True):
        np.testing.assert_array_equal(a, b)


IMAGE = Inputs((1, 6, 6))
SERIES = Inputs((2,), {0: 3}).repeated(5, masked=False)
GRU = spec.GruLayer(units=3)
CONV = spec.Conv2dLayer(filters=2, kernel=3)


@pytest.mark.parametrize(
    ("layers", "inputs", "path", "words"),
    [
        ([CONV], Inputs((36,)), "/network/layers/0", "put a `reshape` layer before it"),
        ([spec.ReshapeLayer(shape=[1, 5, 5])], Inputs((36,)), "/network/layers/0/shape", "36"),
        ([CONV, CONV, CONV], IMAGE, "/network/layers/2", "nothing is left of an image of 2×2×2"),
        (
            [spec.ResidualLayer(layers=[spec.DenseLayer(units=3)])],
            Inputs((4,)),
            "/network/layers/0",
            "the block gives 3, but takes 4",
        ),
        (
            [spec.DenseLayer(units=2), spec.EmbeddingLayer()],
            Inputs((4,), {1: 3}),
            "/network/layers/1",
            "first layer",
        ),
        ([spec.EmbeddingLayer()], Inputs((4,)), "/network/layers/0", "one is a category"),
        ([GRU], Inputs((4,)), "/network/layers/0", "single rows come in; say in `sequence`"),
        (
            [GRU, GRU],
            SERIES,
            "/network/layers/1",
            "behind recurrent layers with `return_sequences`",
        ),
        ([spec.DenseLayer(units=10), GRU], SERIES, "/network/layers/1", "is none; put it first"),
        (
            [spec.EmbeddingLayer(), spec.DenseLayer(units=10), GRU],
            SERIES,
            "/network/layers/2",
            "is none; put it first, behind an embedding, or behind recurrent layers",
        ),
        ([GRU, spec.EmbeddingLayer()], SERIES, "/network/layers/1", "is the first layer"),
        (
            [GRU.model_copy(update={"return_sequences": True, "pooling": "max"})],
            SERIES,
            "/network/layers/0/pooling",
            "leave one of the two out",
        ),
    ],
)
def test_layers_that_do_not_fit_together_are_refused_where_it_shows(layers, inputs, path, words):
    with pytest.raises(SpecError) as refusal:
        Architecture(spec.NetworkSpec(layers=layers), inputs, 2, "softmax").parameter_count()
    assert refusal.value.path == path
    assert words in refusal.value.reason
