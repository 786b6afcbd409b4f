"""Gradient check: what backpropagation finds is held against the slope of the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engine.arrays import Matrix, Vector, Workspace
from engine.losses import Loss
from engine.network import Network


def slope_error(
    function: Callable[[Vector], float],
    point: Vector,
    gradient: Vector,
    rng: np.random.Generator,
) -> float:
    """Compare a gradient with a central difference along one random direction.

    A wrong component shows with probability one, at the price of two function
    values however many components there are.

    Parameters
    ----------
    function : callable
        From a point to a number.
    point, gradient : Vector
        Of one shape, float64.
    rng : numpy.random.Generator

    Returns
    -------
    float
        ``|numeric - analytic| / max(|numeric|, |analytic|)``; about 1e-8 when right.
    """
    direction = rng.standard_normal(point.shape)
    direction /= np.linalg.norm(direction)
    h = np.cbrt(np.finfo(np.float64).eps) * max(1.0, float(np.abs(point).max()))
    numeric = (function(point + h * direction) - function(point - h * direction)) / (2 * float(h))
    analytic = float(np.vdot(gradient, direction))
    largest = max(abs(numeric), abs(analytic), float(np.finfo(np.float64).tiny))
    return abs(numeric - analytic) / largest


def network_error(
    network: Network, loss: Loss, x: Matrix, y: Any, rng: np.random.Generator
) -> float:
    """Check the gradient of a loss at all parameters of a float64 network, without dropout."""

    def value(parameters: Vector) -> float:
        workspace = Workspace(np.float64)
        logits, _ = network.with_parameters(parameters).forward(x, workspace)
        return float(loss(logits, y, workspace)[0])

    workspace = Workspace(np.float64)
    logits, fill_gradient = network.forward(x, workspace)
    fill_gradient(loss(logits, y, workspace)[1])
    return slope_error(value, network.parameters.copy(), network.gradient, rng)
