"""Residual: a block of layers, added to its own input."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from engine.layers.layer import Layer
from engine.wires import Bound, Wire, Workspace, nothing


class Residual(Layer):
    """``y = x + block(x)`` (He et al. 2016, equation 1).

    Parameters
    ----------
    block : mapping of str to Layer
        By name; its output has the shape of its input. The network gives them their views.
    """

    def __init__(self, block: Mapping[str, Layer]) -> None:
        first, *_ = layers = list(block.values())
        super().__init__(first.input_shape, layers[-1].output_shape)
        self.block = block

    def bind(self, x: Wire, workspace: Workspace) -> Bound:
        """Bind to a batch."""
        wire = inner = workspace.wire(x.units, learns=x.gradient is not None)
        bound = []
        for layer in self.block.values():
            bound.append(layer.bind(wire, workspace))
            wire = bound[-1].output
        y = workspace.wire(x.units)

        def forward() -> None:
            np.copyto(inner.value, x.value)
            for layer in bound:
                layer.forward()
            np.add(x.value, wire.value, out=y.value)

        dy = y.gradient
        if dy is None:
            return Bound(y, forward, nothing)

        def backward() -> None:
            if wire.gradient is not None:
                np.copyto(wire.gradient, dy)
                for layer in reversed(bound):
                    layer.backward()
            if x.gradient is not None and inner.gradient is not None:
                np.add(dy, inner.gradient, out=x.gradient)

        return Bound(y, forward, backward)
