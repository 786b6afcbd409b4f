"""Losses: each returns the mean loss and its gradient at the logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from engine.activations import shift, softmax
from engine.arrays import Labels, Matrix, Workspace
from engine.spec import LossName

Output = Literal["softmax", "identity"]
"""What the network makes of its logits."""

Loss = Callable[[Matrix, Any, Workspace], tuple[float, Matrix]]


def cross_entropy(logits: Matrix, labels: Labels, workspace: Workspace) -> tuple[float, Matrix]:
    """Mean of ``log(sum(exp(z))) - z[label]``: cross-entropy after a softmax, fused with it.

    Parameters
    ----------
    logits : Matrix of shape (batch, classes)
    labels : Labels of shape (batch,)
        From 0 to classes - 1.
    workspace : Workspace

    Returns
    -------
    loss : float
        In nats.
    gradient : Matrix of shape (batch, classes)
        ``(softmax(z) - t) / batch``, where t is 1 at the label, else 0.
    """
    t = _one_hot(labels, logits, workspace)
    z = shift(logits, workspace)
    z_label = np.vdot(z, t)
    p = np.exp(z, out=z)
    total = np.add.reduce(p, axis=1, keepdims=True, out=workspace.array(len(p), 1))
    np.divide(p, total, out=p)
    loss = (float(np.add.reduce(np.log(total, out=total), axis=None)) - float(z_label)) / len(p)
    gradient = np.subtract(p, t, out=p)
    return loss, np.multiply(gradient, 1 / len(p), out=gradient)


def squared_error(y: Matrix, targets: Matrix, workspace: Workspace) -> tuple[float, Matrix]:
    """Mean of ``(y - t)**2`` over all rows and outputs, without a factor of one half.

    Parameters
    ----------
    y, targets : Matrix of shape (batch, outputs)
    workspace : Workspace

    Returns
    -------
    loss : float
    gradient : Matrix of shape (batch, outputs)
    """
    if y.shape != targets.shape:
        raise ValueError(f"outputs are {y.shape}, targets {targets.shape}; they must be the same")
    difference = np.subtract(y, targets, out=workspace.array(*y.shape))
    loss = float(np.vdot(difference, difference)) / y.size
    return loss, np.multiply(difference, 2 / y.size, out=difference)


def brier_score(logits: Matrix, labels: Labels, workspace: Workspace) -> tuple[float, Matrix]:
    """Mean of ``(softmax(z) - t)**2`` over all rows and classes, t being 1 at the label, else 0.

    Deviation: Brier (1950) sums over the classes; the mean keeps it a `squared_error`.

    Parameters
    ----------
    logits : Matrix of shape (batch, classes)
    labels : Labels of shape (batch,)
    workspace : Workspace

    Returns
    -------
    loss : float
    gradient : Matrix of shape (batch, classes)
        ``p * (dp - sum(p * dp))``: dp through the Jacobian of the softmax.
    """
    t = _one_hot(labels, logits, workspace)
    p = softmax(logits, workspace)
    loss, dp = squared_error(p, t, workspace)
    np.multiply(p, dp, out=t)
    total = np.add.reduce(t, axis=1, keepdims=True, out=workspace.array(len(p), 1))
    gradient = np.subtract(dp, total, out=dp)
    return loss, np.multiply(gradient, p, out=gradient)


def _one_hot(labels: Labels, logits: Matrix, workspace: Workspace) -> Matrix:
    batch, classes = logits.shape
    if labels.shape != (batch,):
        raise ValueError(
            f"logits are {logits.shape}, so labels must be ({batch},), not {labels.shape}"
        )
    out = workspace.array(batch, classes)
    return np.equal(labels[:, None], np.arange(classes), out=out)


LOSSES: dict[tuple[LossName, Output], Loss] = {
    ("cross_entropy", "softmax"): cross_entropy,
    ("squared_error", "softmax"): brier_score,
    ("squared_error", "identity"): squared_error,
}
