"""Losses: the value as defined, no overflow, and no broadcasting."""

from __future__ import annotations

import numpy as np
import pytest

from engine import spec
from engine.losses import FEW_CLASSES, bind_loss
from engine.wires import Workspace

PRECISIONS = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def bound(settings, task, z):
    """Bind a loss to a wire that shows ``z``; return both."""
    workspace = Workspace(z.dtype, z.shape[1], learns=True)
    wire = workspace.wire(len(z))
    wire.value[:] = z
    return bind_loss(settings, task, wire, workspace), wire


def softmax(z):
    return np.exp(z) / np.exp(z).sum(axis=0)


DEFINITIONS = {
    "cross_entropy": lambda z, t: -(t * np.log(softmax(z))).sum(axis=0),
    "focal": lambda z, t: (
        -((1 - (t * softmax(z)).sum(axis=0)) ** 2) * np.log((t * softmax(z)).sum(axis=0))
    ),
    "hinge": lambda z, t: np.maximum(
        0, 1 + np.where(t == 1, -np.inf, z).max(axis=0) - (t * z).sum(axis=0)
    ),
    "squared_error": lambda z, t: (z - t) ** 2,
    "absolute_error": lambda z, t: np.abs(z - t),
    "huber": lambda z, t: np.where(np.abs(z - t) <= 1, (z - t) ** 2 / 2, np.abs(z - t) - 1 / 2),
    "log_cosh": lambda z, t: np.log(np.cosh(z - t)),
    "quantile": lambda z, t: np.maximum(0.5 * (t - z), -0.5 * (t - z)),
    "poisson": lambda z, t: np.exp(z) - t * z,
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", DEFINITIONS)
def test_every_loss_is_the_mean_of_its_definition(name, weighted, rng):
    settings = spec.loss_of(name)
    classes = name in ("cross_entropy", "focal", "hinge")
    z = rng.standard_normal((3, 8))
    t = np.eye(3)[:, rng.integers(0, 3, 8)] if classes else rng.poisson(2, (3, 8)).astype(float)
    weights = rng.random(8) if weighted else None
    loss, _ = bound(settings, "classification" if classes else "regression", z)
    expected = DEFINITIONS[name](z, t) * (1 if weights is None else weights)
    assert loss(t, weights) == pytest.approx(expected.mean(), rel=1e-12)


def test_the_quantiles_of_a_number_have_outputs_side_by_side(rng):
    settings = spec.Quantile(quantiles=[0.1, 0.5, 0.9])
    z, t = rng.standard_normal((6, 8)), rng.standard_normal((2, 8)).repeat(3, axis=0)
    loss, _ = bound(settings, "regression", z)
    q = np.array([0.1, 0.5, 0.9, 0.1, 0.5, 0.9])[:, None]
    assert loss(t, None) == pytest.approx(np.where(z < t, q * (t - z), (1 - q) * (z - t)).mean())


def test_the_brier_score_is_a_squared_error_after_a_softmax(rng):
    z, t = rng.standard_normal((3, 8)), np.eye(3)[:, rng.integers(0, 3, 8)]
    loss, _ = bound(spec.SquaredError(), "classification", z)
    assert loss(t, None) == pytest.approx(((softmax(z) - t) ** 2).mean(), rel=1e-12)


def test_binary_cross_entropy_is_cross_entropy_of_two_classes(rng):
    z, t = rng.standard_normal((1, 8)), rng.integers(0, 2, (1, 8)).astype(float)
    one, _ = bound(spec.BinaryCrossEntropy(), "classification", z)
    two, _ = bound(spec.CrossEntropy(), "classification", np.concatenate([0 * z, z]))
    assert one(t, None) == pytest.approx(two(np.concatenate([1 - t, t]), None), rel=1e-12)


@PRECISIONS
@pytest.mark.parametrize("settings", [spec.CrossEntropy(), spec.Focal(), spec.SquaredError()])
def test_losses_after_a_softmax_do_not_overflow(settings, dtype):
    z = np.array([[1e4, 1e4], [-1e4, -1e4]], dtype=dtype)
    loss, wire = bound(settings, "classification", z)
    with np.errstate(over="ignore"):
        value = loss(np.array([[1, 0], [0, 1]], dtype=dtype), None)
    assert value == {"cross_entropy": 1e4, "focal": 1e4, "squared_error": 0.5}[settings.type]
    assert np.isfinite(wire.gradient).all()
    assert wire.gradient[:, 0].tolist() == [0, 0]


@pytest.mark.parametrize("classes", [2, FEW_CLASSES, FEW_CLASSES + 1, 100])
@pytest.mark.parametrize("size", [1, 1e3])
def test_cross_entropy_is_the_same_for_few_and_many_classes(classes, size, rng):
    z = size * rng.standard_normal((classes, 8))
    t = np.eye(classes)[:, rng.integers(0, classes, 8)]
    loss, wire = bound(spec.CrossEntropy(), "classification", z)
    shifted = z - z.max(axis=0)
    with np.errstate(all="ignore"):
        value = loss(t, None)
    expected = np.log(np.exp(shifted).sum(axis=0)) - (shifted * t).sum(axis=0)
    assert value == pytest.approx(expected.mean(), rel=1e-12)
    close = {"rtol": 1e-10, "atol": 1e-15}
    np.testing.assert_allclose(wire.gradient, (softmax(shifted) - t) / 8, **close)


@PRECISIONS
def test_cross_entropy_is_exact_where_all_logits_are_far_below_zero(dtype):
    far = np.array([[-1000.0, -80.0], [-1001.0, -81.0]], dtype=dtype)
    loss, _ = bound(spec.CrossEntropy(), "classification", far)
    near, _ = bound(spec.CrossEntropy(), "classification", far - far[:1])
    t = np.array([[1, 0], [0, 1]], dtype=dtype)
    with np.errstate(all="ignore"):
        assert loss(t, None) == pytest.approx(near(t, None), rel=1e-5)


@PRECISIONS
def test_binary_cross_entropy_does_not_overflow(dtype):
    loss, wire = bound(
        spec.BinaryCrossEntropy(), "classification", np.array([[1e4, -1e4]], dtype=dtype)
    )
    assert loss(np.array([[1, 1]], dtype=dtype), None) == 5e3
    assert wire.gradient.tolist() == [[0, -0.5]]


@pytest.mark.parametrize("shape", [(3,), (1, 4), (3, 1), (4, 3), (3, 5)])
def test_targets_that_numpy_would_broadcast_are_refused(shape):
    loss, _ = bound(spec.SquaredError(), "regression", np.zeros((3, 4)))
    with pytest.raises(ValueError, match="must be the same"):
        loss(np.zeros(shape), None)
