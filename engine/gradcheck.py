"""Gradient check: what backpropagation finds is held against the slope of the loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engine import spec
from engine.arrays import Matrix, Vector
from engine.losses import bind_loss
from engine.network import Network
from engine.wires import Workspace


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
    network: Network,
    loss: spec.Loss,
    task: spec.Task,
    rows: Matrix,
    targets: Matrix,
    rng: np.random.Generator,
) -> float:
    """Check the gradient of a loss at all parameters and inputs of a float64 network.

    Parameters
    ----------
    network : Network
    loss : spec.Loss
    task : spec.Task
    rows : Matrix of shape (batch, inputs + 1)
        The last column is 1.
    targets : Matrix of shape (outputs, batch)
    rng : numpy.random.Generator

    Returns
    -------
    float
        As `slope_error`.
    """
    workspace = Workspace(np.float64, len(rows), learns=True)
    bound = network.bind(workspace, to_input=True)
    loss_at = bind_loss(loss, task, bound.logits, workspace)
    start, size = network.parameters.copy(), network.parameters.size

    def value(point: Vector) -> float:
        network.parameters[:] = point[:size]
        fed = rows.copy()
        fed[:, :-1] = point[size:].reshape(len(rows), -1)
        bound.forward(fed)
        return loss_at(targets, None)

    point = np.concatenate([start, rows[:, :-1].ravel()])
    value(point)
    bound.backward()
    d_input = bound.source.gradient
    gradient = np.concatenate([network.gradient, np.ravel(d_input.T if d_input is not None else 0)])
    try:
        return slope_error(value, point, gradient, rng)
    finally:
        network.parameters[:] = start
