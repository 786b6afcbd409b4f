"""Dropout: how much is dropped, what becomes of the rest, and that predictions keep all."""

from __future__ import annotations

import numpy as np
import pytest

from engine.arrays import Workspace
from engine.gradcheck import slope_error
from engine.layers.dropout import Dropout

RATES = pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
PRECISIONS = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def training(dtype=np.float64, seed=0):
    return Workspace(dtype, np.random.default_rng(seed))


@RATES
def test_a_prediction_drops_nothing(rate, rng):
    x, dy = rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
    y, backward = Dropout(rate).forward(x, Workspace(np.float64))
    assert y is x
    assert backward(dy) is dy


def test_a_rate_of_zero_drops_nothing_and_draws_nothing(rng):
    workspace = training()
    before = workspace.rng.bit_generator.state
    x = rng.standard_normal((3, 4))
    assert Dropout(0.0).forward(x, workspace)[0] is x
    assert workspace.rng.bit_generator.state == before


@PRECISIONS
@RATES
def test_the_rate_is_the_share_that_is_dropped_and_the_mean_stays(rate, dtype):
    x = np.ones((400, 500), dtype=dtype)
    y, _ = Dropout(rate).forward(x, training(dtype))
    assert y.dtype == dtype
    assert set(np.unique(y).tolist()) == {0, dtype(1 / (1 - rate))}
    five_deviations = 5 * np.sqrt(rate * (1 - rate) / x.size)
    assert (y == 0).mean() == pytest.approx(rate, abs=five_deviations)
    assert y.mean(dtype=np.float64) == pytest.approx(1, abs=five_deviations / (1 - rate))


@RATES
def test_the_gradient_goes_back_through_what_was_kept(rate, rng):
    x, dy = rng.standard_normal((30, 40)), rng.standard_normal((30, 40))
    layer = Dropout(rate)

    def value(point):
        return float(np.vdot(layer.forward(point, training())[0], dy))

    y, backward = layer.forward(x, training())
    dx = backward(dy)
    np.testing.assert_array_equal(dx == 0, y == 0)
    assert slope_error(value, x, dx, rng) < 1e-6


def test_every_pass_drops_others_and_the_same_seed_the_same():
    x, workspace = np.ones((20, 20)), training()
    first = Dropout(0.5).forward(x, workspace)[0].copy()
    workspace.rewind()
    second = Dropout(0.5).forward(x, workspace)[0]
    assert (first != second).any()
    np.testing.assert_array_equal(Dropout(0.5).forward(x, training())[0], first)
