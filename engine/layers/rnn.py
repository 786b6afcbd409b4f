"""Simple recurrent units, whose state is an activation of one sum."""

from __future__ import annotations

import numpy as np

from engine.arrays import Matrix, Tensor
from engine.layers.cell import Cell, Each, Given
from engine.wires import Workspace


class Rnn(Cell):
    """``h = tanh(weight @ x + recurrent @ h + bias)`` (Elman 1990)."""

    def allocate(self, workspace: Workspace) -> None:
        """Allocate what this kind of cell needs beside."""
        # `dot` is quicker, but does not go part by part.
        self.product = np.ndarray.dot if workspace.learns else np.matmul
        self.zero = workspace.scalar(0)

    def forward(self, resets: Each) -> None:
        """Fill the states."""
        weight, z, activate, product = self.weight[0], self.spare, self.activate, self.product
        rows, out = (self.rows, z) if self.kept == self.steps else map(self.alikes, (self.rows, z))
        for row, h, place, reset in zip(rows, self.states[1:], self.places, resets, strict=False):
            product(row, weight, out)
            activate(z, h)
            if reset is not None:
                np.multiply(h, reset, out=h)
            np.copyto(place, h)

    def back(self, steps: slice, d_sums: Tensor, arriving: Given, factors: Given) -> None:
        """Fill the gradient at the sums of some steps."""
        [d_z], [to_state], dh = d_sums, self.to_state, self.d_state
        self.slopes(self.states[1:][steps], d_z)
        for dz, arrival, factor in zip(d_z[::-1], arriving, factors, strict=False):
            if factor is not None:
                np.multiply(dh, factor, out=dh)
            if arrival is not None:
                np.add(dh, arrival, out=dh)
            np.multiply(dz, dh, out=dz)
            np.dot(dz, to_state, out=dh)

    def activate(self, z: Matrix, h: Matrix) -> None:
        """Fill a state."""
        np.tanh(z, out=h)

    def slopes(self, h: Tensor, out: Tensor) -> None:
        """Fill the slopes at states."""
        np.multiply(h, h, out=out)
        np.subtract(self.one, out, out=out)


class ReluRnn(Rnn):
    """``h = max(weight @ x + recurrent @ h + bias, 0)``."""

    activation = "relu"

    def activate(self, z: Matrix, h: Matrix) -> None:
        """Fill a state."""
        np.maximum(z, self.zero, out=h)

    def slopes(self, h: Tensor, out: Tensor) -> None:
        """Fill the slopes at states."""
        np.greater(h, self.zero, out=out)
