"""Whole networks: their gradient, their parameters, and their predictions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import arrays, spec
from engine.arrays import Workspace, aligned_zeros
from engine.gradcheck import network_error
from engine.layers.dense import Dense
from engine.losses import LOSSES
from engine.network import (
    build_network,
    initialize_network,
    parameter_count,
    parameter_shapes,
)
from tests.engine.beginnings import network, targets_of

ACTIVATION_NAMES = st.sampled_from(["identity", "sigmoid", "tanh", "relu"])
DENSE = st.builds(
    spec.DenseLayer,
    units=st.integers(1, 6),
    activation=ACTIVATION_NAMES,
    bias=st.booleans(),
)
LAYERS = st.lists(
    st.one_of(
        DENSE,
        st.builds(spec.ActivationLayer, activation=ACTIVATION_NAMES),
        st.builds(spec.DropoutLayer, rate=st.just(0.5)),
    ),
    max_size=4,
)
SEEDS = st.integers(0, 2**32 - 1)
EVERY_LOSS = pytest.mark.parametrize("key", LOSSES, ids=" of ".join)


def gradient_of(net, loss, x, y):
    workspace = Workspace(net.parameters.dtype)
    logits, fill_gradient = net.forward(x, workspace)
    fill_gradient(loss(logits, y, workspace)[1])
    return net.gradient.copy()


@EVERY_LOSS
@given(
    layers=LAYERS,
    rows=st.integers(1, 5),
    inputs=st.integers(1, 4),
    outputs=st.integers(2, 4),
    seed=SEEDS,
)
def test_whole_networks_agree_with_central_differences(key, layers, rows, inputs, outputs, seed):
    rng = np.random.default_rng(seed)
    net = network(layers, inputs, outputs, output=key[1], seed=seed)
    x, y = rng.standard_normal((rows, inputs)), targets_of(key, rows, outputs, rng)
    assert network_error(net, LOSSES[key], x, y, rng) < 1e-6


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-12)])
@EVERY_LOSS
@given(layers=LAYERS, cuts=st.sets(st.integers(1, 11), max_size=5), seed=SEEDS)
def test_the_full_batch_gradient_is_the_mean_of_its_parts(
    key, dtype, tolerance, layers, cuts, seed
):
    rng = np.random.default_rng(seed)
    net = network(layers, 3, 4, output=key[1], dtype=dtype, seed=seed)
    x, y = rng.standard_normal((12, 3)).astype(dtype), targets_of(key, 12, 4, rng)
    y = y if y.ndim == 1 else y.astype(dtype)
    whole = gradient_of(net, LOSSES[key], x, y)
    parts = [slice(a, b) for a, b in zip([0, *sorted(cuts)], [*sorted(cuts), 12], strict=True)]
    mean = sum(gradient_of(net, LOSSES[key], x[p], y[p]) * dtype(len(x[p]) / 12) for p in parts)
    # Relative to the terms of the sum, as these may cancel.
    size = max(np.linalg.norm(gradient_of(net, LOSSES[key], x[p], y[p])) for p in parts)
    assert np.linalg.norm(whole - mean) <= tolerance * size


def test_only_the_lowest_layer_that_learns_sends_no_gradient_on():
    layers = [spec.ActivationLayer(activation="tanh"), spec.DenseLayer(units=3)]
    dense = [layer for layer in network(layers, 2, 3).layers if isinstance(layer, Dense)]
    assert [layer.learns_below for layer in dense] == [False, True]


def test_tensors_are_views_of_the_flat_parameters():
    net = network([spec.DenseLayer(units=3), spec.DropoutLayer(rate=0.5)], 2, 4)
    net.parameters[:] = np.arange(net.parameters.size)
    tensors = net.tensors()
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "layers.0.weight": (2, 3),
        "layers.0.bias": (3,),
        "layers.2.weight": (3, 4),
        "layers.2.bias": (4,),
    }
    assert np.concatenate([t.ravel() for t in tensors.values()]).tolist() == list(range(25))
    assert all(np.shares_memory(tensor, net.parameters) for tensor in tensors.values())


@given(layers=LAYERS, inputs=st.integers(1, 9), outputs=st.integers(1, 9))
def test_parameters_are_counted_without_making_them(layers, inputs, outputs):
    hidden = spec.NetworkSpec(layers=layers)
    built = build_network(hidden, inputs, outputs, "identity", np.float32)
    assert parameter_count(hidden, inputs=inputs, outputs=outputs) == built.parameters.size


def test_the_largest_network_that_can_be_asked_for_can_be_counted():
    wide = spec.DenseLayer(units=spec.MAX_UNITS)
    layers = spec.NetworkSpec(layers=[wide] * spec.MAX_LAYERS)
    count = parameter_count(layers, inputs=1, outputs=1)
    assert count == (spec.MAX_LAYERS - 1) * 2**106 + (spec.MAX_LAYERS + 2) * 2**53 + 1


def test_a_layer_without_bias_has_no_weight_from_the_unit_that_is_always_one():
    layers = [spec.DenseLayer(units=3, bias=False)]
    shapes = parameter_shapes(spec.NetworkSpec(layers=layers), 2, 4)
    assert list(shapes) == ["layers.0.weight", "layers.1.weight", "layers.1.bias"]


def test_initial_weights_are_drawn_and_initial_biases_are_zero():
    hidden = spec.NetworkSpec(layers=[spec.DenseLayer(units=5), spec.DenseLayer(units=4)])
    nets = [build_network(hidden, 3, 2, "identity", np.float32) for _ in range(3)]
    for net, seed in zip(nets, [1, 1, 2], strict=True):
        initialize_network(net, np.random.default_rng(seed))
    for name, tensor in nets[0].tensors().items():
        assert (tensor == 0).all() if name.endswith("bias") else (tensor != 0).all()
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)
    assert (nets[0].parameters != nets[2].parameters).any()


def test_a_network_with_other_parameters_has_them_for_itself(rng):
    net = network([spec.DenseLayer(units=3)], 2, 2)
    x = rng.standard_normal((4, 2))
    before = net.predict(x)
    other = net.with_parameters(net.parameters)
    np.testing.assert_array_equal(other.predict(x), before)
    other.parameters[:] = 0
    assert not other.predict(x).any()
    np.testing.assert_array_equal(net.predict(x), before)


def test_frozen_parameters_cannot_be_written():
    frozen = network([spec.DenseLayer(units=3)], 2, 2).frozen()
    assert frozen.gradient.size == 0
    with pytest.raises(ValueError, match="read-only"):
        frozen.parameters[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        frozen.tensors()["layers.1.bias"][0] = 1


def test_a_prediction_after_a_softmax_is_a_probability(rng):
    net = network([spec.DenseLayer(units=8)], 3, 4, output="softmax")
    logits = replace(net, output="identity").predict(x := rng.standard_normal((20, 3)))
    p = net.predict(x)
    assert (p > 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(p.argmax(axis=1), logits.argmax(axis=1))


def test_a_prediction_is_what_a_pass_without_dropout_answers(rng):
    layers = [spec.DenseLayer(units=8), spec.DropoutLayer(rate=0.5)]
    net = network(layers, 3, 2)
    x = rng.standard_normal((20, 3))
    logits, _ = net.forward(x, Workspace(np.float64))
    np.testing.assert_allclose(net.predict(x), logits, rtol=1e-12)


def test_a_prediction_of_many_rows_takes_the_memory_of_one_pass(rng, monkeypatch):
    made = []

    def counted(size, dtype):
        made.append(size)
        return aligned_zeros(size, dtype)

    monkeypatch.setattr(arrays, "aligned_zeros", counted)
    net = network([spec.DenseLayer(units=8)], 3, 2, output="softmax")
    net.predict(rng.standard_normal((1, 3)))
    of_one = len(made)
    net.predict(rng.standard_normal((100, 3)))
    assert len(made) == 2 * of_one


def test_no_rows_get_no_predictions():
    assert network([], 3, 2).predict(np.empty((0, 3))).shape == (0, 2)


WIDTHS = st.sampled_from([1, 2, 3, 8, 13, 16, 17, 30, 64, 100, 300])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(
    widths=st.lists(WIDTHS, min_size=2, max_size=4),
    rows=st.sampled_from([2, 3, 5, 8, 17, 64, 257]),
    activation=ACTIVATION_NAMES,
    output=st.sampled_from(["softmax", "identity"]),
    seed=SEEDS,
)
def test_a_row_is_predicted_alike_alone_and_among_others_bit_for_bit(
    dtype, widths, rows, activation, output, seed
):
    rng = np.random.default_rng(seed)
    inputs, *hidden, outputs = widths
    layers = [spec.DenseLayer(units=units, activation=activation) for units in hidden]
    net = network(layers, inputs, outputs, output=output, dtype=dtype, seed=seed)
    x = rng.standard_normal((rows, inputs)).astype(dtype)
    together, order = net.predict(x), rng.permutation(rows)
    np.testing.assert_array_equal(net.predict(x[order]), together[order])
    for row in order[:5]:
        np.testing.assert_array_equal(net.predict(x[row : row + 1])[0], together[row])


def test_threads_share_one_network(rng):
    net = network([spec.DenseLayer(units=32), spec.DenseLayer(units=32)], 8, 3, output="softmax")
    batches = [rng.standard_normal((rows, 8)) for rows in (1, 2, 50, 200) for _ in range(10)]
    alone = [net.predict(x) for x in batches]
    with ThreadPoolExecutor(8) as threads:
        at_once = list(threads.map(net.predict, batches))
    for a, b in zip(alone, at_once, strict=True):
        np.testing.assert_array_equal(a, b)
