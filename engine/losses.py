"""Losses: each gives the mean loss of a batch and its gradient at the logits.

A loss is bound to the last wire of a network, as a layer is. Targets are a
matrix of the wire's shape, one example a column: numbers, or 1 at the true
class and 0 elsewhere (a mixture where labels are smoothed). Where networks are
stacked, there is a matrix and a loss for each. Gradients are
worked out at the logits, fused with the softmax or sigmoid that a prediction
puts behind them, so that nothing overflows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from engine import spec
from engine.activations import logistic
from engine.arrays import Matrix, Tensor, Vector
from engine.wires import Wire, Workspace

Loss = Callable[[Matrix, Vector | None], float]
"""From targets of shape (outputs, batch), and weights of shape (batch,) or None, to the mean loss.

It fills the gradient of the wire that it was bound to, if the wire has one.
"""

StackedLoss = Callable[[Tensor, Tensor | None], Vector]
"""The same for stacked networks: from shapes (K, outputs, batch) and (K, 1, batch) to K losses."""

Fill = Callable[[Matrix], Any]
"""From targets: fills the loss and its slope at every output, or the loss at every example."""


def bind_loss(settings: spec.Loss, task: spec.Task, logits: Wire, workspace: Workspace) -> Loss:
    """Bind a loss to the outputs of a network for one batch size."""
    z = logits.value
    slope, values, fill = _bind(settings, task, logits, workspace)
    scale, weighted = workspace.scalar(1 / values.size), workspace.array(*values.shape)
    quick = None
    if isinstance(settings, spec.CrossEntropy):
        quick = _quick_cross_entropy(z, slope, workspace)

    def loss(t: Matrix, weights: Vector | None) -> float:
        if t.shape != z.shape:
            raise ValueError(f"outputs are {z.shape}, targets {t.shape}; they must be the same")
        if quick is not None and weights is None:
            return quick(t)
        fill(t)
        np.multiply(slope, scale, out=slope)
        if weights is None:
            return float(np.add.reduce(values, axis=None)) / values.size
        np.multiply(slope, weights, out=slope)
        np.multiply(values, weights, out=weighted)
        return float(np.add.reduce(weighted, axis=None)) / values.size

    return loss


def bind_stacked_loss(
    settings: spec.Loss, task: spec.Task, logits: Wire, workspace: Workspace
) -> StackedLoss:
    """Bind a loss to the outputs of stacked networks for one batch size."""
    slope, values, fill = _bind(settings, task, logits, workspace)
    size = values[0].size
    scale = workspace.scalar(1 / size)

    def losses(t: Tensor, weights: Tensor | None) -> Vector:
        fill(t)
        np.multiply(slope, scale, out=slope)
        if weights is not None:
            np.multiply(slope, weights, out=slope)
            np.multiply(values, weights, out=values)
        means: Vector = np.add.reduce(values, axis=(1, 2)).astype(np.float64) / size
        return means

    return losses


def _bind(
    settings: spec.Loss, task: spec.Task, logits: Wire, workspace: Workspace
) -> tuple[Tensor, Tensor, Fill]:
    """Return where the slope and the loss are put, and what fills them."""
    z = logits.value
    slope = workspace.array(*z.shape) if logits.gradient is None else logits.gradient
    bind = _FILLS[type(settings)]
    if isinstance(settings, spec.SquaredError) and task == "classification":
        bind = _brier
    values, fill = bind(settings, z, slope, workspace)
    return slope, values, fill


class _Softmax:
    """Softmax of the columns of ``z``, and its logarithm at the target.

    Parameters
    ----------
    z, p : Matrix of shape (…, classes, batch)
        Logits, and where to put the probabilities.
    workspace : Workspace
    """

    def __init__(self, z: Matrix, p: Matrix, workspace: Workspace) -> None:
        self.z, self.p = z, p
        self.shifted = workspace.array(*z.shape)
        self.total, self.chosen = workspace.by_example(), workspace.by_example()

    def fill(self, t: Matrix) -> Matrix:
        """Fill ``p``; return ``sum(t * log(p))`` of each column."""
        shifted, p, total, chosen = self.shifted, self.p, self.total, self.chosen
        np.maximum.reduce(self.z, axis=-2, out=total, keepdims=True)
        np.subtract(self.z, total, out=shifted)
        np.exp(shifted, out=p)
        np.add.reduce(p, axis=-2, out=total, keepdims=True)
        np.divide(p, total, out=p)
        np.multiply(shifted, t, out=shifted)
        np.add.reduce(shifted, axis=-2, out=chosen, keepdims=True)
        np.log(total, out=total)
        return np.subtract(chosen, total, out=chosen)


def _cross_entropy(
    _settings: spec.CrossEntropy, z: Matrix, slope: Matrix, workspace: Workspace
) -> tuple[Matrix, Fill]:
    """``-log(p[class])`` in nats; the slope is ``p - t``."""
    softmax = _Softmax(z, slope, workspace)
    values = softmax.chosen

    def fill(t: Matrix) -> None:
        np.negative(softmax.fill(t), out=values)
        np.subtract(slope, t, out=slope)

    return values, fill


SAFE_EXPONENT = 60.0
"""Sums of exponentials from ``exp(-60)`` to ``exp(60)`` are as exact as those of shifted logits."""

FEW_CLASSES = 32
"""With so few, one product writes an example's sum below every class, so that NumPy, which is slow
at that, need not repeat a row."""


def _quick_cross_entropy(
    z: Matrix, slope: Matrix, workspace: Workspace
) -> Callable[[Matrix], float]:
    """Return `_cross_entropy` where all examples count alike and only the mean is wanted.

    Small networks spend more time in their loss than in their layers; sums by
    products with ones are the quickest that NumPy has, and logits are shifted
    only where their exponentials would be too large or too small.
    """
    batch, classes, scale = workspace.batch, len(z), workspace.scalar(1 / workspace.batch)
    totals = workspace.array(classes if classes <= FEW_CLASSES else 1, batch)
    ones = workspace.array(len(totals), classes) + 1
    total, logarithm, by_example = totals[0], workspace.array(batch), workspace.array(batch) + 1

    def fill(exponent: Matrix) -> None:
        np.exp(exponent, slope)
        ones.dot(slope, totals)
        np.log(total, logarithm)

    def quick(t: Matrix) -> float:
        chosen = np.vdot(z, t)
        fill(z)
        if not logarithm.dot(logarithm) < SAFE_EXPONENT**2:
            np.subtract(z, np.maximum.reduce(z, axis=0, out=total), slope)
            chosen = np.vdot(slope, t)
            fill(slope)
        np.reciprocal(totals, totals)
        np.multiply(slope, totals, slope)
        np.subtract(slope, t, slope)
        np.multiply(slope, scale, slope)
        return (float(by_example.dot(logarithm)) - float(chosen)) / batch

    return quick


def _brier(
    _settings: spec.SquaredError, z: Matrix, slope: Matrix, workspace: Workspace
) -> tuple[Matrix, Fill]:
    """``(p - t)**2`` at every class (Brier 1950; the mean keeps it a squared error).

    The slope is ``p * (d - sum(p * d))`` with ``d = 2 (p - t)``: d through the softmax's Jacobian.
    """
    p, d, values = (workspace.array(*z.shape) for _ in range(3))
    softmax, total = _Softmax(z, p, workspace), workspace.by_example()

    def fill(t: Matrix) -> None:
        softmax.fill(t)
        np.subtract(p, t, out=d)
        np.multiply(d, d, out=values)
        np.add(d, d, out=d)
        np.multiply(p, d, out=slope)
        np.add.reduce(slope, axis=-2, out=total, keepdims=True)
        np.subtract(d, total, out=d)
        np.multiply(p, d, out=slope)

    return values, fill


def _focal(
    settings: spec.Focal, z: Matrix, slope: Matrix, workspace: Workspace
) -> tuple[Matrix, Fill]:
    """``-(1 - p[class])**gamma * log(p[class])`` (Lin et al. 2017, equation 4), after a softmax.

    The slope is ``(gamma r**(gamma - 1) q log(q) - r**gamma) (t - p)``, q = p[class], r = 1 - q.
    """
    gamma, p, values = settings.gamma, workspace.array(*z.shape), workspace.by_example()
    softmax = _Softmax(z, p, workspace)

    def fill(t: Matrix) -> None:
        log_q = softmax.fill(t)
        q = np.exp(log_q)
        rest = np.maximum(1 - q, np.finfo(q.dtype).tiny)
        np.multiply(-(rest**gamma), log_q, out=values)
        np.subtract(t, p, out=slope)
        np.multiply(slope, gamma * rest ** (gamma - 1) * q * log_q - rest**gamma, out=slope)

    return values, fill


def _hinge(
    _settings: spec.Hinge, z: Matrix, slope: Matrix, workspace: Workspace
) -> tuple[Matrix, Fill]:
    """``max(0, 1 + max(z[other]) - z[class])`` (Crammer & Singer 2001)."""
    values, far = workspace.by_example(), np.finfo(workspace.dtype).max / 4

    def fill(t: Matrix) -> None:
        others = z - far * t
        best = others.max(axis=-2, keepdims=True)
        np.add(1 + best, -np.add.reduce(z * t, axis=-2, keepdims=True), out=values)
        np.maximum(values, 0, out=values)
        np.subtract(others == best, t, out=slope)
        np.multiply(slope, values > 0, out=slope)

    return values, fill


def _binary_cross_entropy(
    _settings: spec.BinaryCrossEntropy, z: Matrix, slope: Matrix, workspace: Workspace
) -> tuple[Matrix, Fill]:
    """``log(1 + exp(z)) - t z``: cross-entropy after a sigmoid; the slope is ``sigmoid(z) - t``."""
    values, half = workspace.array(*z.shape), workspace.scalar(0.5)

    def fill(t: Matrix) -> None:
        np.log1p(np.exp(-np.abs(z)), out=values)
        np.add(values, np.maximum(z, 0) - t * z, out=values)
        logistic(z, half, slope)
        np.subtract(slope, t, out=slope)

    return values, fill


def _squared_error(
    _settings: spec.SquaredError, z: Matrix, slope: Matrix, workspace: Workspace
) -> tuple[Matrix, Fill]:
    """``(y - t)**2``, without a factor of one half."""
    values = workspace.array(*z.shape)

    def fill(t: Matrix) -> None:
        np.subtract(z, t, out=slope)
        np.multiply(slope, slope, out=values)
        np.add(slope, slope, out=slope)

    return values, fill


def _absolute_error(
    _settings: spec.AbsoluteError, z: Matrix, slope: Matrix, workspace: Workspace
) -> tuple[Matrix, Fill]:
    """``|y - t|``; the slope at 0 is taken as 0."""
    values = workspace.array(*z.shape)

    def fill(t: Matrix) -> None:
        np.subtract(z, t, out=slope)
        np.abs(slope, out=values)
        np.sign(slope, out=slope)

    return values, fill


def _huber(
    settings: spec.Huber, z: Matrix, slope: Matrix, workspace: Workspace
) -> tuple[Matrix, Fill]:
    """``e**2 / 2`` up to delta, ``delta (|e| - delta / 2)`` beyond (Huber 1964): ``c (e - c / 2)``.

    The slope c is ``e = y - t`` cut off at delta.
    """
    values = workspace.array(*z.shape)

    def fill(t: Matrix) -> None:
        e = z - t
        np.clip(e, -settings.delta, settings.delta, out=slope)
        np.multiply(slope, e - slope / 2, out=values)

    return values, fill


def _log_cosh(
    _settings: spec.LogCosh, z: Matrix, slope: Matrix, workspace: Workspace
) -> tuple[Matrix, Fill]:
    """``log(cosh(e))`` with ``e = y - t``, computed as ``|e| + log(1 + exp(-2 |e|)) - log(2)``."""
    values = workspace.array(*z.shape)

    def fill(t: Matrix) -> None:
        e = z - t
        size = np.abs(e)
        np.log1p(np.exp(-2 * size), out=values)
        np.add(values, size - math.log(2), out=values)
        np.tanh(e, out=slope)

    return values, fill


def _quantile(
    settings: spec.Quantile, z: Matrix, slope: Matrix, workspace: Workspace
) -> tuple[Matrix, Fill]:
    """``q (t - y)`` where y is too small, ``(1 - q) (y - t)`` where it is too large.

    Koenker & Bassett (1978). The outputs for a number are those of its quantiles q, side by side.
    """
    values = workspace.array(*z.shape)
    levels = np.tile(settings.levels, z.shape[-2] // len(settings.levels))[:, None]

    def fill(t: Matrix) -> None:
        e = z - t
        np.subtract(e > 0, levels, out=slope)
        np.multiply(slope, e, out=values)

    return values, fill


def _poisson(
    _settings: spec.Poisson, z: Matrix, slope: Matrix, workspace: Workspace
) -> tuple[Matrix, Fill]:
    """``exp(z) - t z``: minus the log-likelihood of a count t of mean exp(z), but for log(t!)."""
    values = workspace.array(*z.shape)

    def fill(t: Matrix) -> None:
        np.exp(z, out=slope)
        np.subtract(slope, t * z, out=values)
        np.subtract(slope, t, out=slope)

    return values, fill


_FILLS: dict[type[spec.Spec], Callable[[Any, Matrix, Matrix, Workspace], tuple[Tensor, Fill]]] = {
    spec.CrossEntropy: _cross_entropy,
    spec.BinaryCrossEntropy: _binary_cross_entropy,
    spec.Focal: _focal,
    spec.Hinge: _hinge,
    spec.SquaredError: _squared_error,
    spec.AbsoluteError: _absolute_error,
    spec.Huber: _huber,
    spec.LogCosh: _log_cosh,
    spec.Quantile: _quantile,
    spec.Poisson: _poisson,
}
