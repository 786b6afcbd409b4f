"""Normalization: batch norm over the examples, layer norm over the units of one example."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from engine import spec
from engine.arrays import Shape, Tensor
from engine.layers.layer import Layer
from engine.wires import Bound, Wire, Workspace, nothing


class BatchNorm(Layer):
    """``y = scale * (x - mean) / sqrt(variance + epsilon) + shift`` over the batch.

    Ioffe & Szegedy (2015), Algorithm 1.

    Mean and variance are those of the batch while training, and running means
    of them in a prediction. A layer of images has one of each a channel.

    Parameters
    ----------
    settings : spec.BatchNormLayer
    input_shape : Shape
    """

    plain: ClassVar[frozenset[str]] = frozenset({"scale", "shift", "mean", "variance"})

    def __init__(self, settings: spec.BatchNormLayer, input_shape: Shape) -> None:
        super().__init__(input_shape, input_shape)
        self.settings = settings
        self.channels = input_shape[0]
        self.parameter_shapes = dict.fromkeys(("scale", "shift"), (self.channels,))
        self.statistic_shapes = dict.fromkeys(("mean", "variance"), (self.channels,))

    def initialize(self, rng: np.random.Generator) -> None:  # noqa: ARG002 - nothing to draw
        """Begin with the identity."""
        self.parameters["scale"].fill(1)
        self.parameters["shift"].fill(0)
        self.statistics["mean"].fill(0)
        self.statistics["variance"].fill(1)

    def bind(self, x: Wire, workspace: Workspace) -> Bound:
        """Bind to a batch."""
        y = workspace.wire(x.units)
        shape = (self.channels, -1)
        scale, shift = (self.parameters[name][:, None] for name in ("scale", "shift"))
        deviation = workspace.array(self.channels, 1)
        normal = workspace.array(x.units, x.batch).reshape(shape)
        out = y.value.reshape(shape)

        def forward() -> None:
            values = x.value.reshape(shape)
            mean, variance = self._moments(values, learning=workspace.rng is not None)
            np.sqrt(variance + self.settings.epsilon, out=deviation)
            np.subtract(values, mean, out=normal)
            np.divide(normal, deviation, out=normal)
            np.multiply(normal, scale, out=out)
            np.add(out, shift, out=out)

        if y.gradient is None:
            return Bound(y, forward, nothing)
        dy = y.gradient.reshape(shape)

        def backward() -> None:
            np.vecdot(dy, normal, out=self.gradients["scale"])
            np.add.reduce(dy, axis=1, out=self.gradients["shift"])
            if x.gradient is not None:
                dx = x.gradient.reshape(shape)
                np.multiply(dy, scale, out=dx)
                if workspace.rng is not None:
                    _center(dx, normal, axis=1)
                np.divide(dx, deviation, out=dx)

        return Bound(y, forward, backward)

    def _moments(self, values: Tensor, *, learning: bool) -> tuple[Tensor, Tensor]:
        running = self.statistics["mean"], self.statistics["variance"]
        if not learning:
            return running[0][:, None], running[1][:, None]
        mean, variance = values.mean(axis=1), values.var(axis=1)
        unbiased = variance * (values.shape[1] / max(values.shape[1] - 1, 1))
        for kept, new in zip(running, (mean, unbiased), strict=True):
            kept += self.settings.momentum * (new - kept)
        return mean[:, None], variance[:, None]


class LayerNorm(Layer):
    """``y = scale * (x - mean) / sqrt(variance + epsilon) + shift`` over the units of one example.

    Ba, Kiros & Hinton (2016), equation 4.

    Parameters
    ----------
    settings : spec.LayerNormLayer
    input_shape : Shape
    """

    plain: ClassVar[frozenset[str]] = frozenset({"scale", "shift", "mean", "variance"})

    def __init__(self, settings: spec.LayerNormLayer, input_shape: Shape) -> None:
        super().__init__(input_shape, input_shape)
        self.epsilon = settings.epsilon
        self.parameter_shapes = dict.fromkeys(("scale", "shift"), (self.units,))

    def initialize(self, rng: np.random.Generator) -> None:  # noqa: ARG002 - nothing to draw
        """Begin with the identity."""
        self.parameters["scale"].fill(1)
        self.parameters["shift"].fill(0)

    def bind(self, x: Wire, workspace: Workspace) -> Bound:
        """Bind to a batch."""
        y = workspace.wire(x.units)
        scale, shift = (self.parameters[name][:, None] for name in ("scale", "shift"))
        normal, deviation = workspace.array(x.units, x.batch), workspace.array(x.batch)

        def forward() -> None:
            np.subtract(x.value, x.value.mean(axis=0), out=normal)
            np.sqrt(np.square(normal).mean(axis=0) + self.epsilon, out=deviation)
            np.divide(normal, deviation, out=normal)
            np.multiply(normal, scale, out=y.value)
            np.add(y.value, shift, out=y.value)

        dy, dx = y.gradient, x.gradient
        if dy is None:
            return Bound(y, forward, nothing)

        def backward() -> None:
            np.vecdot(dy, normal, out=self.gradients["scale"])
            np.add.reduce(dy, axis=1, out=self.gradients["shift"])
            if dx is not None:
                np.multiply(dy, scale, out=dx)
                _center(dx, normal, axis=0)
                np.divide(dx, deviation, out=dx)

        return Bound(y, forward, backward)


def _center(d: Tensor, normal: Tensor, axis: int) -> None:
    """Take out of ``d`` what moving the mean and the variance would undo.

    ``d - mean(d) - normal * mean(d * normal)``, means along the axis that was normalized.
    """
    along = np.multiply(d, normal).mean(axis=axis, keepdims=True)
    np.subtract(d, d.mean(axis=axis, keepdims=True), out=d)
    np.subtract(d, normal * along, out=d)
