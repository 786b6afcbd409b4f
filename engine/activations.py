"""Activations: each returns its output and the way back, as a layer does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engine import spec
from engine.arrays import Backward, Matrix, Workspace

Activation = Callable[[Matrix, Workspace], tuple[Matrix, Backward]]


def identity(z: Matrix, workspace: Workspace) -> tuple[Matrix, Backward]:  # noqa: ARG001 - one signature for all
    """Return ``z`` itself."""
    return z, lambda dy: dy


def sigmoid(z: Matrix, workspace: Workspace) -> tuple[Matrix, Backward]:
    """Return ``1 / (1 + exp(-z))``, computed as ``tanh(z / 2) / 2 + 1/2``: no overflow."""
    y = np.multiply(z, 0.5, out=workspace.array(*z.shape))
    np.tanh(y, out=y)
    np.multiply(y, 0.5, out=y)
    np.add(y, 0.5, out=y)

    def backward(dy: Matrix) -> Matrix:
        dz = np.subtract(1, y, out=workspace.array(*z.shape))
        np.multiply(dz, y, out=dz)
        return np.multiply(dz, dy, out=dz)

    return y, backward


def tanh(z: Matrix, workspace: Workspace) -> tuple[Matrix, Backward]:
    """Return ``tanh(z)``."""
    y = np.tanh(z, out=workspace.array(*z.shape))

    def backward(dy: Matrix) -> Matrix:
        dz = np.multiply(y, y, out=workspace.array(*z.shape))
        np.subtract(1, dz, out=dz)
        return np.multiply(dz, dy, out=dz)

    return y, backward


def relu(z: Matrix, workspace: Workspace) -> tuple[Matrix, Backward]:
    """Return ``max(z, 0)``; the derivative at 0 is taken as 0."""
    y = np.maximum(z, 0, out=workspace.array(*z.shape))

    def backward(dy: Matrix) -> Matrix:
        # The mask is multiplied: `np.where` on a random mask costs ten times an exp.
        dz = np.greater(y, 0, out=workspace.array(*z.shape))
        return np.multiply(dz, dy, out=dz)

    return y, backward


ACTIVATIONS: dict[spec.Activation, Activation] = {
    "identity": identity,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "relu": relu,
}


def softmax(logits: Matrix, workspace: Workspace) -> Matrix:
    """Return ``exp(z) / sum(exp(z))`` of each row, shifted so that the largest exponent is 0."""
    p = shift(logits, workspace)
    np.exp(p, out=p)
    total = np.add.reduce(p, axis=1, keepdims=True, out=workspace.array(len(p), 1))
    return np.divide(p, total, out=p)


def shift(logits: Matrix, workspace: Workspace) -> Matrix:
    """Return ``z - max(z)`` of each row, which leaves its softmax as it is."""
    top = np.maximum.reduce(logits, axis=1, keepdims=True, out=workspace.array(len(logits), 1))
    return np.subtract(logits, top, out=workspace.array(*logits.shape))
