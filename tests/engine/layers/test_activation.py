"""Activation: a layer that is one function."""

from __future__ import annotations

import numpy as np
import pytest

from engine.activations import ACTIVATIONS
from engine.arrays import Workspace
from engine.gradcheck import slope_error
from engine.layers.activation import Activation


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_layer_is_its_function_forwards_and_backwards(name, rng):
    x, dy = rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
    y, backward = Activation(ACTIVATIONS[name]).forward(x, Workspace(np.float64))
    y_alone, backward_alone = ACTIVATIONS[name](x, Workspace(np.float64))
    np.testing.assert_array_equal(y, y_alone)
    np.testing.assert_array_equal(backward(dy), backward_alone(dy))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_layer_agrees_with_central_differences_at_its_input(name, rng):
    layer = Activation(ACTIVATIONS[name])
    x, dy = rng.standard_normal((3, 4)), rng.standard_normal((3, 4))

    def value(point):
        return float(np.vdot(layer.forward(point, Workspace(np.float64))[0], dy))

    _, backward = layer.forward(x, Workspace(np.float64))
    assert slope_error(value, x, backward(dy), rng) < 1e-6
