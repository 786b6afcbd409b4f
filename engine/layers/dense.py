"""Dense: every unit sees every output of the layer before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.arrays import Backward, Matrix, Vector, Workspace


@dataclass(frozen=True)
class Dense:
    """Affine map ``y = x @ weight + bias``.

    The bias is the weight of a unit that is always 1: its gradient is
    ``1 @ dy``, as the weight's is ``x.T @ dy``.

    Parameters
    ----------
    weight, weight_gradient : Matrix of shape (n_in, n_out)
    bias, bias_gradient : Vector of shape (n_out,), or None
        Views into the network's flat parameter and gradient vectors.
    learns_below : bool
        Whether any layer before this one has parameters; if not, no gradient goes on.
    """

    weight: Matrix
    weight_gradient: Matrix
    bias: Vector | None
    bias_gradient: Vector | None
    learns_below: bool = True

    def forward(self, x: Matrix, workspace: Workspace) -> tuple[Matrix, Backward]:
        """Apply the map to a batch ``x`` of shape (batch, n_in)."""
        batch, (n_in, n_out) = len(x), self.weight.shape
        y = x.dot(self.weight, out=workspace.array(batch, n_out))
        if self.bias is not None:
            np.add(y, self.bias, out=y)

        def backward(dy: Matrix) -> Matrix | None:
            x.T.dot(dy, out=self.weight_gradient)
            if self.bias_gradient is not None:
                workspace.ones(batch).dot(dy, out=self.bias_gradient)
            if not self.learns_below:
                return None
            return dy.dot(self.weight.T, out=workspace.array(batch, n_in))

        return y, backward
