"""Activation: one function on every value; and dropout, which leaves some of them out."""

from __future__ import annotations

import numpy as np

from engine import spec
from engine.activations import ACTIVATIONS, IN_PLACE, SWITCHES
from engine.arrays import Shape, bits
from engine.layers.layer import Layer
from engine.wires import Bound, Wire, Workspace, nothing


class Activation(Layer):
    """``y = f(x)``, value by value.

    Parameters
    ----------
    function : spec.Activation
        Its name.
    input_shape : Shape
    within : bool
        Whether it is part of the layer before it, whose outputs nobody else asks for.
    """

    def __init__(
        self, function: spec.Activation, input_shape: Shape, *, within: bool = False
    ) -> None:
        super().__init__(input_shape, input_shape)
        self.name = function
        self.function = ACTIVATIONS[function]
        self.in_place = within and function in IN_PLACE
        self.switches = function in SWITCHES

    def bind(self, x: Wire, workspace: Workspace) -> Bound:
        """Bind to a batch."""
        y = x
        if not (self.in_place and workspace.shares):
            y = workspace.wire(x.units, learns=x.gradient is not None)
        z, settle = x.settled(workspace)
        function, slope = self.function(z, y.value, workspace)
        dy, dx = y.gradient, x.gradient

        def settled() -> None:
            settle()
            function()

        forward = settled if x.moves else function
        if dy is None or dx is None:
            return Bound(y, forward, nothing)
        if self.switches:
            dy, dx = bits(dy), bits(dx)
        return Bound(y, forward, lambda: np.multiply(dy, slope(), dx))
