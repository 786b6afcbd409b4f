"""Dense: the gradient at weight, bias and input, and what a bias is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.arrays import Workspace
from engine.gradcheck import slope_error
from engine.layers.dense import Dense

SIZES = {"rows": st.integers(1, 6), "n_in": st.integers(1, 7), "n_out": st.integers(1, 5)}
SEEDS = st.integers(0, 2**32 - 1)
WITH_AND_WITHOUT_BIAS = pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])


def dense(weight, bias=None, *, learns_below=True):
    gradient = None if bias is None else np.zeros_like(bias)
    return Dense(weight, np.zeros_like(weight), bias, gradient, learns_below)


def forward(layer, x):
    return layer.forward(x, Workspace(x.dtype))


@WITH_AND_WITHOUT_BIAS
@given(**SIZES, seed=SEEDS)
def test_dense_agrees_with_central_differences_at_weight_bias_and_input(
    bias, rows, n_in, n_out, seed
):
    rng = np.random.default_rng(seed)
    x, weight = rng.standard_normal((rows, n_in)), rng.standard_normal((n_in, n_out))
    b = rng.standard_normal(n_out) if bias else None
    dy = rng.standard_normal((rows, n_out))
    layer = dense(weight, b)
    _, backward = forward(layer, x)
    dx = backward(dy)

    def at_weight(point):
        return float(np.vdot(forward(dense(point, b), x)[0], dy))

    def at_bias(point):
        return float(np.vdot(forward(dense(weight, point), x)[0], dy))

    def at_input(point):
        return float(np.vdot(forward(dense(weight, b), point)[0], dy))

    assert slope_error(at_weight, weight, layer.weight_gradient, rng) < 1e-6
    assert slope_error(at_input, x, dx, rng) < 1e-6
    if bias:
        assert slope_error(at_bias, b, layer.bias_gradient, rng) < 1e-6


@given(**SIZES, seed=SEEDS)
def test_a_bias_is_the_weight_of_a_unit_that_is_always_one(rows, n_in, n_out, seed):
    rng = np.random.default_rng(seed)
    x, weight = rng.standard_normal((rows, n_in)), rng.standard_normal((n_in, n_out))
    bias, dy = rng.standard_normal(n_out), rng.standard_normal((rows, n_out))
    with_bias, with_unit = dense(weight, bias), dense(np.vstack([weight, bias]))
    y, backward = forward(with_bias, x)
    y_unit, backward_unit = forward(with_unit, np.hstack([x, np.ones((rows, 1))]))
    dx, dx_unit = backward(dy), backward_unit(dy)
    close = {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(y, y_unit, **close)
    np.testing.assert_allclose(with_bias.weight_gradient, with_unit.weight_gradient[:-1], **close)
    np.testing.assert_allclose(with_bias.bias_gradient, with_unit.weight_gradient[-1], **close)
    np.testing.assert_allclose(dx, dx_unit[:, :-1], **close)


def test_a_gradient_replaces_the_one_before(rng):
    layer = dense(rng.standard_normal((2, 3)), rng.standard_normal(3))
    x, dy = rng.standard_normal((4, 2)), rng.standard_normal((4, 3))
    for _ in range(2):
        _, backward = forward(layer, x)
        backward(dy)
    np.testing.assert_allclose(layer.weight_gradient, x.T @ dy, rtol=1e-12)
    np.testing.assert_allclose(layer.bias_gradient, dy.sum(axis=0), rtol=1e-12)


def test_two_passes_do_not_disturb_each_other(rng):
    layer = dense(rng.standard_normal((2, 3)), rng.standard_normal(3))
    x, dy = rng.standard_normal((4, 2)), rng.standard_normal((4, 3))
    y, backward = forward(layer, x)
    kept = y.copy()
    forward(layer, 2 * x)
    backward(dy)
    np.testing.assert_array_equal(y, kept)
    np.testing.assert_allclose(layer.weight_gradient, x.T @ dy, rtol=1e-12)


def test_no_gradient_goes_on_where_nothing_below_learns(rng):
    layer = dense(rng.standard_normal((2, 3)), learns_below=False)
    x, dy = rng.standard_normal((4, 2)), rng.standard_normal((4, 3))
    _, backward = forward(layer, x)
    assert backward(dy) is None
    np.testing.assert_allclose(layer.weight_gradient, x.T @ dy, rtol=1e-12)
