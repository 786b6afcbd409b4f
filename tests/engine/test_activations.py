"""Activations: the textbook's values, the textbook's slopes, and no overflow."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import spec
from engine.activations import ACTIVATIONS, relu, sigmoid, softmax
from engine.arrays import Workspace
from engine.gradcheck import slope_error

TEXTBOOK = {
    "identity": lambda z: z,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": lambda z: (np.exp(z) - np.exp(-z)) / (np.exp(z) + np.exp(-z)),
    "relu": lambda z: np.where(z > 0, z, 0),
}
EVERY = pytest.mark.parametrize("name", ACTIVATIONS)
PRECISIONS = pytest.mark.parametrize("dtype", [np.float32, np.float64])
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 7))


def test_every_activation_that_can_be_asked_for_exists():
    assert set(ACTIVATIONS) == set(get_args(spec.Activation)) == set(TEXTBOOK)


@EVERY
@given(shape=SHAPES, seed=st.integers(0, 2**32 - 1))
def test_every_activation_agrees_with_the_textbook(name, shape, seed):
    z = 3 * np.random.default_rng(seed).standard_normal(shape)
    before = z.copy()
    y, _ = ACTIVATIONS[name](z, Workspace(np.float64))
    np.testing.assert_allclose(y, TEXTBOOK[name](z), rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(z, before)


@EVERY
@given(shape=SHAPES, seed=st.integers(0, 2**32 - 1))
def test_every_activation_agrees_with_central_differences(name, shape, seed):
    rng = np.random.default_rng(seed)
    z, weights = rng.standard_normal(shape), rng.standard_normal(shape)

    def value(point):
        return float(np.vdot(ACTIVATIONS[name](point, Workspace(np.float64))[0], weights))

    _, backward = ACTIVATIONS[name](z, Workspace(np.float64))
    assert slope_error(value, z, backward(weights), rng) < 1e-6


@PRECISIONS
def test_sigmoid_does_not_overflow(dtype):
    z = np.array([[-1e4, 0, 1e4]], dtype=dtype)
    y, backward = sigmoid(z, Workspace(dtype))
    assert y.tolist() == [[0, 0.5, 1]]
    assert backward(np.ones_like(z)).tolist() == [[0, 0.25, 0]]


def test_the_slope_of_relu_at_zero_is_zero():
    z = np.array([[-1.0, 0.0, 1.0]])
    _, backward = relu(z, Workspace(np.float64))
    assert backward(np.full_like(z, 5)).tolist() == [[0, 0, 5]]


@given(shape=SHAPES, seed=st.integers(0, 2**32 - 1))
def test_softmax_agrees_with_its_formula(shape, seed):
    z = 3 * np.random.default_rng(seed).standard_normal(shape)
    expected = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax(z, Workspace(np.float64)), expected, rtol=1e-13)


@PRECISIONS
def test_softmax_does_not_overflow(dtype):
    z = np.array([[1e4, -1e4, 1e4], [-1e4, -1e4, -1e4], [0, 1e4, 0]], dtype=dtype)
    p = softmax(z, Workspace(dtype))
    third = dtype(1) / dtype(3)
    assert p.tolist() == [[0.5, 0, 0.5], [third, third, third], [0, 1, 0]]


@pytest.mark.parametrize("shift", [-1000.0, 1000.0])
def test_softmax_does_not_care_about_a_shift(rng, shift):
    z = rng.integers(-8, 8, (3, 4)).astype(np.float64)
    shifted = softmax(z + shift, Workspace(np.float64))
    np.testing.assert_array_equal(shifted, softmax(z, Workspace(np.float64)))
