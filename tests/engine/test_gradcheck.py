"""The gradient check accepts what is right and notices what is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine import spec
from engine.activations import sigmoid
from engine.gradcheck import network_error, slope_error
from engine.layers.activation import Activation
from engine.layers.dense import Dense
from engine.losses import LOSSES
from tests.engine.beginnings import network, targets_of

CROSS_ENTROPY = ("cross_entropy", "softmax")


def wavy(x):
    return float(np.sin(x).sum())


def test_a_right_gradient_passes(rng):
    x = rng.standard_normal((4, 5))
    errors = [slope_error(wavy, x, np.cos(x), rng) for _ in range(20)]
    assert max(errors) < 1e-8


@pytest.mark.parametrize("component", range(6))
@pytest.mark.parametrize("wrong", [lambda g: -g, lambda g: 0 * g, lambda g: 1.01 * g])
def test_one_wrong_component_is_noticed(component, wrong, rng):
    x = rng.standard_normal(6)
    gradient = np.cos(x)
    gradient[component] = wrong(gradient[component])
    assert slope_error(wavy, x, gradient, rng) > 1e-4


def test_a_flat_function_has_no_slope(rng):
    x = rng.standard_normal(3)
    assert slope_error(lambda _: 1.0, x, np.zeros(3), rng) == 0
    assert slope_error(lambda _: 1.0, x, np.full(3, 1e-9), rng) == 1


class SlopeTooSteep:
    """A sigmoid whose way back forgets a factor."""

    def forward(self, x, workspace):
        y, backward = sigmoid(x, workspace)
        return y, lambda dy: backward(dy) * 1.001


class BiasForgotten:
    """A dense layer whose way back leaves the bias out."""

    def __init__(self, dense):
        self.dense = dense

    def forward(self, x, workspace):
        y, backward = self.dense.forward(x, workspace)

        def without_bias(dy):
            dx = backward(dy)
            self.dense.bias_gradient.fill(0)
            return dx

        return y, without_bias


def steepen(layer):
    return SlopeTooSteep() if isinstance(layer, Activation) else layer


def forget_bias(layer):
    return BiasForgotten(layer) if isinstance(layer, Dense) else layer


@pytest.mark.parametrize("damage", [steepen, forget_bias])
def test_a_layer_with_a_wrong_way_back_is_noticed(damage, rng):
    net = network([spec.DenseLayer(units=4, activation="sigmoid")], 3, 3, output="softmax")
    x, y = rng.standard_normal((5, 3)), targets_of(CROSS_ENTROPY, 5, 3, rng)
    assert network_error(net, LOSSES[CROSS_ENTROPY], x, y, rng) < 1e-7
    damaged = replace(net, layers=tuple(damage(layer) for layer in net.layers))
    assert network_error(damaged, LOSSES[CROSS_ENTROPY], x, y, rng) > 1e-5


def test_a_wrong_loss_is_noticed(rng):
    net = network([spec.DenseLayer(units=4)], 3, 2)
    x, y = rng.standard_normal((5, 3)), rng.standard_normal((5, 2))

    def half(logits, targets, workspace):
        loss, gradient = LOSSES["squared_error", "identity"](logits, targets, workspace)
        return loss / 2, gradient

    assert network_error(net, half, x, y, rng) == pytest.approx(0.5, rel=1e-6)


def test_the_check_leaves_the_network_as_it_was(rng):
    net = network([spec.DenseLayer(units=4)], 3, 2)
    before = net.parameters.copy()
    x, y = rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    network_error(net, LOSSES["squared_error", "identity"], x, y, rng)
    np.testing.assert_array_equal(net.parameters, before)
