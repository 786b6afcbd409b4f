"""Activations: the textbook's values, and no overflow."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest

from engine import spec
from engine.activations import ACTIVATIONS, softmax
from engine.layers.activation import Activation
from engine.wires import Workspace

PRECISIONS = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


TEXTBOOK = {
    "identity": lambda z: z,
    "sigmoid": sigmoid,
    "tanh": lambda z: (np.exp(z) - np.exp(-z)) / (np.exp(z) + np.exp(-z)),
    "relu": lambda z: np.where(z > 0, z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "elu": lambda z: np.where(z > 0, z, np.exp(z) - 1),
    "selu": lambda z: 1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * (np.exp(z) - 1)),
    "gelu": lambda z: z / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
    "silu": lambda z: z * sigmoid(z),
    "mish": lambda z: z * np.tanh(np.log(1 + np.exp(z))),
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "hard_sigmoid": lambda z: np.clip(z / 6 + 1 / 2, 0, 1),
    "hard_tanh": lambda z: np.clip(z, -1, 1),
    "hard_swish": lambda z: z * np.clip(z / 6 + 1 / 2, 0, 1),
}
BELOW_AND_ABOVE = {
    "sigmoid": (0, 1),
    "tanh": (-1, 1),
    "elu": (-1, 1e4),
    "selu": (-1.0507009873554805 * 1.6732632423543772, 1.0507009873554805e4),
    "leaky_relu": (-100, 1e4),
    "identity": (-1e4, 1e4),
    "hard_sigmoid": (0, 1),
    "hard_tanh": (-1, 1),
}


def run(name, z):
    """Return what comes out, and the slope there."""
    y = np.empty_like(z)
    forward, slope = ACTIVATIONS[name](z, y, Workspace(z.dtype, z.shape[1], learns=True))
    forward()
    return y, np.broadcast_to(slope(), z.shape)


def test_every_activation_that_can_be_asked_for_exists():
    assert set(ACTIVATIONS) == set(get_args(spec.Activation)) == set(TEXTBOOK)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_agrees_with_the_textbook(name, rng):
    z = 3 * rng.standard_normal((5, 400))
    before = z.copy()
    y, _ = run(name, z)
    np.testing.assert_allclose(y, TEXTBOOK[name](z), rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(z, before)


@PRECISIONS
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_no_activation_overflows(name, dtype):
    z = np.array([[-1e4, 1e4]], dtype=dtype)
    y, slope = run(name, z)
    np.testing.assert_allclose(y[0], BELOW_AND_ABOVE.get(name, (0, 1e4)), rtol=1e-6, atol=1e-6)
    assert np.isfinite(slope).all()


@PRECISIONS
@pytest.mark.parametrize("repeats", [1, 7, 100])  # what vector instructions leave over goes alone
def test_the_slope_of_relu_at_either_zero_is_zero(dtype, repeats):
    tiny = np.finfo(dtype).smallest_subnormal
    z = np.repeat(np.array([[-1.0, -tiny, -0.0, 0.0, tiny, 1.0, np.inf]], dtype), repeats, axis=1)
    _, slope = run("relu", z)
    assert slope.reshape(7, repeats).T.tolist() == [[0, 0, 0, 0, 1, 1, 1]] * repeats


@PRECISIONS
def test_a_gradient_passes_a_relu_bit_by_bit_or_not_at_all(dtype):
    layer, workspace = Activation("relu", (4,)), Workspace(dtype, 1, learns=True)
    x = workspace.wire(4)
    x.value[:] = np.array([[-1, 1, 2, -2]], dtype).T
    bound = layer.bind(x, workspace)
    bound.forward()
    bound.output.gradient[:] = np.array([[np.inf, -1e-30, -np.inf, 3]], dtype).T
    bound.backward()
    np.testing.assert_array_equal(x.gradient.T, np.array([[0, -1e-30, -np.inf, 0]], dtype))


@PRECISIONS
def test_softmax_does_not_overflow(dtype):
    z = np.array([[1e4, -1e4, 1e4], [-1e4, -1e4, -1e4], [0, 1e4, 0]], dtype=dtype).T
    third = dtype(1) / dtype(3)
    assert softmax(z).T.tolist() == [[0.5, 0, 0.5], [third, third, third], [0, 1, 0]]


@PRECISIONS
@pytest.mark.parametrize("size", [1, 100, 1e4])
@pytest.mark.parametrize("classes", [1, 3, 10, 100])
def test_the_softmax_of_one_is_that_of_many_to_the_bit(dtype, size, classes, rng):
    z = (size * rng.standard_normal((classes, 40))).astype(dtype)
    for one, among_many in zip(z.T, softmax(z).T, strict=True):
        assert softmax(one).tolist() == among_many.tolist()


@pytest.mark.parametrize("shift", [-1000.0, 1000.0])
def test_softmax_does_not_care_about_a_shift(rng, shift):
    z = rng.integers(-8, 8, (4, 3)).astype(np.float64)
    np.testing.assert_array_equal(softmax(z + shift), softmax(z))
