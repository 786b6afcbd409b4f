"""Dense: every unit sees every output of the layer before."""

from __future__ import annotations

from operator import attrgetter

import numpy as np

from engine import spec
from engine.arrays import Shape, least_columns
from engine.initializers import initialize
from engine.layers.layer import Layer, Tensors
from engine.wires import Bound, Wire, Workspace, nothing


class Dense(Layer):
    """Affine map ``y = weight @ x + bias``.

    The bias is the weight of a unit that is always 1: the last row of one
    matrix, for the last row of the input wire. So a layer is one product
    forward and two back. The matrix is kept with one input a row, so that the
    rows of the weights proper are contiguous and the way back is quick.

    Parameters
    ----------
    settings : spec.DenseLayer
    input_shape : Shape
        A tensor is taken as its numbers in order.
    """

    def __init__(self, settings: spec.DenseLayer, input_shape: Shape) -> None:
        super().__init__(input_shape, (settings.units,))
        self.settings = settings
        self.inputs = int(np.prod(input_shape, dtype=np.int64))
        self.parameter_shapes = {"weight": (self.inputs + settings.bias, settings.units)}

    @property
    def multiply_adds(self) -> int:
        """One for every weight; those of the biases are none."""
        return self.inputs * self.settings.units

    @property
    def least_batch(self) -> int:
        """From how many examples on the product adds as it does for more."""
        return least_columns(self.settings.units, self.inputs + self.settings.bias)

    def initialize(self, rng: np.random.Generator) -> None:
        """Draw the weights as suits the activation; biases start at 0."""
        weight = self.parameters["weight"][: self.inputs]
        initialize(weight.T, self.settings.initializer, self.settings.activation, rng)

    def split(self, tensors: Tensors) -> Tensors:
        """Return weights and biases apart."""
        weight = tensors["weight"]
        parts = {"weight": weight[: self.inputs].T}
        return {**parts, "bias": weight[-1]} if self.settings.bias else parts

    def bind(self, x: Wire, workspace: Workspace) -> Bound:
        """Bind to a batch."""
        if self.answers_apart(x, workspace):
            return self.among_others(x, workspace)
        below = attrgetter("full" if self.settings.bias else "value")
        y = workspace.wire(self.settings.units)
        weight, z, dz, dx = self.parameters["weight"], y.value, y.gradient, x.gradient
        # `dot` is quicker, but does not go matrix by matrix.
        product = np.matmul if workspace.stack else np.ndarray.dot
        by_unit = weight.mT

        def forward() -> None:
            product(by_unit, below(x), z)

        if dz is None:
            return Bound(y, forward, nothing)
        d_weight, back, dz_rows = self.gradients["weight"], weight[..., : self.inputs, :], dz.mT

        def backward() -> None:
            product(below(x), dz_rows, d_weight)
            if dx is not None:
                product(back, dz, dx)

        return Bound(y, forward, backward)
