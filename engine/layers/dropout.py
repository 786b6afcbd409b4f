"""Dropout: while training, some values are left out at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.arrays import Backward, Matrix, Workspace


@dataclass(frozen=True)
class Dropout:
    """``y = x * mask``, the mask 0 with probability ``rate`` and ``1 / (1 - rate)`` otherwise.

    Srivastava et al. (2014). Deviation: values are scaled up while training
    instead of down afterwards, so that a prediction leaves them as they are.

    Parameters
    ----------
    rate : float
        The probability of dropping a value, below 1.
    """

    rate: float

    def forward(self, x: Matrix, workspace: Workspace) -> tuple[Matrix, Backward]:
        """Drop from a batch ``x`` of shape (batch, n), if the workspace has a generator."""
        if workspace.rng is None or self.rate == 0:
            return x, lambda dy: dy
        mask = workspace.array(*x.shape)
        workspace.rng.random(out=mask, dtype=mask.dtype.type)
        np.greater_equal(mask, self.rate, out=mask)
        np.multiply(mask, 1 / (1 - self.rate), out=mask)
        y = np.multiply(x, mask, out=workspace.array(*x.shape))
        return y, lambda dy: np.multiply(dy, mask, out=workspace.array(*x.shape))
