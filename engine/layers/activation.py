"""Activation: one function on every value."""

from __future__ import annotations

from dataclasses import dataclass

from engine import activations
from engine.arrays import Backward, Matrix, Workspace


@dataclass(frozen=True)
class Activation:
    """``y = function(x)``, value by value.

    Parameters
    ----------
    function : activations.Activation
    """

    function: activations.Activation

    def forward(self, x: Matrix, workspace: Workspace) -> tuple[Matrix, Backward]:
        """Apply the function to a batch ``x`` of shape (batch, n)."""
        return self.function(x, workspace)
