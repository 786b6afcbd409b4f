"""Dropout: while training, some values are left out at random."""

from __future__ import annotations

import numpy as np

from engine import spec
from engine.arrays import Shape
from engine.layers.layer import Layer
from engine.wires import Bound, Wire, Workspace, nothing


class Dropout(Layer):
    """``y = x * mask``, the mask 0 with probability ``rate`` and ``1 / (1 - rate)`` otherwise.

    Srivastava et al. (2014). Deviation: values are scaled up while training
    instead of down afterwards, so that a prediction leaves them as they are.
    Stacked networks each draw from their own generator, as they would alone.

    Parameters
    ----------
    settings : spec.DropoutLayer
    input_shape : Shape
    """

    def __init__(self, settings: spec.DropoutLayer, input_shape: Shape) -> None:
        super().__init__(input_shape, input_shape)
        self.rate = settings.rate

    def bind(self, x: Wire, workspace: Workspace) -> Bound:
        """Bind to a batch; without a generator nothing is dropped."""
        if workspace.rng is None or self.rate == 0:
            return Bound(x, nothing, nothing)
        y = workspace.wire(x.units, learns=x.gradient is not None)
        dy, dx = y.gradient, x.gradient
        mask, kept = workspace.array(*x.value.shape), workspace.mask(*x.value.shape)
        rng, masks = workspace.rng, mask.reshape(-1, x.units, x.batch)
        rngs = [rng] if isinstance(rng, np.random.Generator) else rng
        draws = list(zip(rngs, masks, strict=True))
        rate, scale = workspace.scalar(self.rate), workspace.scalar(1 / (1 - self.rate))

        def forward() -> None:
            for own, part in draws:
                own.random(out=part, dtype=part.dtype.type)
            np.greater_equal(mask, rate, out=kept)
            np.multiply(kept, scale, out=mask)
            np.multiply(x.value, mask, out=y.value)

        if dy is None or dx is None:
            return Bound(y, forward, nothing)
        return Bound(y, forward, lambda: np.multiply(dy, mask, out=dx))
