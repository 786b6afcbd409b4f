"""Losses: the value, its slope at the logits, and what is refused."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.arrays import Workspace
from engine.gradcheck import slope_error
from engine.losses import LOSSES, brier_score, cross_entropy, squared_error
from engine.spec import LossName
from tests.engine.beginnings import targets_of

EVERY = pytest.mark.parametrize("key", LOSSES, ids=" of ".join)
PRECISIONS = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def probabilities(z):
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def literally(key, z, y):
    """The loss as its definition says, one row after the other."""
    if key == ("cross_entropy", "softmax"):
        return np.mean(
            [-np.log(row[label]) for row, label in zip(probabilities(z), y, strict=True)]
        )
    if key == ("squared_error", "softmax"):
        return np.mean((probabilities(z) - np.eye(z.shape[1])[y]) ** 2)
    return np.mean([(a - b) ** 2 for a, b in zip(z.flat, y.flat, strict=True)])


def test_every_loss_that_can_be_asked_for_exists():
    assert {name for name, _ in LOSSES} == set(get_args(LossName))


@EVERY
@given(rows=st.integers(1, 6), outputs=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_every_loss_agrees_with_its_definition(key, rows, outputs, seed):
    rng = np.random.default_rng(seed)
    z, y = rng.standard_normal((rows, outputs)), targets_of(key, rows, outputs, rng)
    before = z.copy()
    loss, _ = LOSSES[key](z, y, Workspace(np.float64))
    assert loss == pytest.approx(literally(key, z, y), rel=1e-12, abs=1e-15)
    np.testing.assert_array_equal(z, before)


@EVERY
@given(rows=st.integers(1, 6), outputs=st.integers(2, 5), seed=st.integers(0, 2**32 - 1))
def test_every_loss_agrees_with_central_differences(key, rows, outputs, seed):
    rng = np.random.default_rng(seed)
    z, y = rng.standard_normal((rows, outputs)), targets_of(key, rows, outputs, rng)

    def value(point):
        return LOSSES[key](point, y, Workspace(np.float64))[0]

    _, gradient = LOSSES[key](z, y, Workspace(np.float64))
    assert slope_error(value, z, gradient, rng) < 1e-6


@EVERY
def test_every_loss_is_a_mean_that_does_not_grow_with_the_rows(key, rng):
    z, y = rng.standard_normal((3, 4)), targets_of(key, 3, 4, rng)
    once, _ = LOSSES[key](z, y, Workspace(np.float64))
    twice, _ = LOSSES[key](np.tile(z, (2, 1)), np.concatenate([y, y]), Workspace(np.float64))
    assert twice == pytest.approx(once, rel=1e-14)


@PRECISIONS
def test_cross_entropy_does_not_overflow(dtype):
    z = np.array([[1e4, -1e4], [1e4, -1e4]], dtype=dtype)
    loss, gradient = cross_entropy(z, np.array([0, 1]), Workspace(dtype))
    assert loss == 1e4  # 0 where it was right, 2e4 where it was wrong
    assert gradient.tolist() == [[0, 0], [0.5, -0.5]]


@PRECISIONS
def test_the_brier_score_does_not_overflow(dtype):
    z = np.array([[1e4, -1e4], [1e4, -1e4]], dtype=dtype)
    loss, gradient = brier_score(z, np.array([0, 1]), Workspace(dtype))
    assert loss == 0.5
    assert gradient.tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [((3, 1), (3,)), ((3, 2), (1, 2)), ((3, 2), (3, 1)), ((1, 2), (3, 2)), ((3, 2), (2, 3))],
)
def test_squared_error_refuses_what_numpy_would_broadcast(outputs, targets):
    with pytest.raises(ValueError, match="must be the same"):
        squared_error(np.zeros(outputs), np.zeros(targets), Workspace(np.float64))


@pytest.mark.parametrize("loss", [cross_entropy, brier_score])
@pytest.mark.parametrize("labels", [(1,), (4,), (3, 1), (1, 3), (3, 2), ()])
def test_losses_of_classes_refuse_labels_of_another_shape(loss, labels):
    with pytest.raises(ValueError, match=r"labels must be \(3,\)"):
        loss(np.zeros((3, 2)), np.zeros(labels, dtype=np.intp), Workspace(np.float64))
