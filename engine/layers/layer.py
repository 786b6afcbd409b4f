"""What every layer is: shapes first, memory later, steps last."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from engine.arrays import Shape, Tensor
from engine.wires import Bound, Wire, Workspace, nothing

Tensors = Mapping[str, Tensor]


class Layer(ABC):
    """A layer of a network.

    Made from its spec it knows its shapes and holds no memory, so that a
    network can be measured before it is built. The network then gives it views
    into its flat vectors.

    Parameters
    ----------
    input_shape, output_shape : Shape
        Of one example.

    Attributes
    ----------
    parameter_shapes, statistic_shapes : dict of str to Shape
        Of what is learnt by gradient, and of what is remembered without one.
    parameters, gradients, statistics : Tensors
        Views, once the network has given them.
    """

    plain: ClassVar[frozenset[str]] = frozenset({"bias"})
    """Tensors that weight decay leaves alone."""

    def __init__(self, input_shape: Shape, output_shape: Shape) -> None:
        self.input_shape, self.output_shape = input_shape, output_shape
        self.parameter_shapes: dict[str, Shape] = {}
        self.statistic_shapes: dict[str, Shape] = {}
        self.parameters: Tensors = {}
        self.gradients: Tensors = {}
        self.statistics: Tensors = {}

    def initialize(self, rng: np.random.Generator) -> None:  # noqa: B027 - most have nothing to draw
        """Fill the parameters and statistics."""

    @abstractmethod
    def bind(self, x: Wire, workspace: Workspace) -> Bound:
        """Take what a batch of this size needs, and return how to go forward and back."""

    def answers_apart(self, x: Wire, workspace: Workspace) -> bool:
        """Whether a prediction of so few examples would differ from theirs among others.

        That of a single number also differs by how its inputs lie in memory.
        """
        if workspace.learns or workspace.stack:
            return False
        return x.batch < self.least_batch or (x.moves and self.units == 1)

    def among_others(self, x: Wire, workspace: Workspace) -> Bound:
        """Bind to a batch of few as to one of many, of which the others are not looked at."""
        many = Workspace(workspace.dtype, max(x.batch, self.least_batch))
        wide = many.wire(x.units)
        bound, y = self.bind(wide, many), workspace.wire(self.units)
        place, found = wide.value[:, : x.batch], bound.output.value[:, : x.batch]

        def forward() -> None:
            np.copyto(place, x.value)
            bound.forward()
            np.copyto(y.value, found)

        return Bound(y, forward, nothing)

    def tensors(self) -> Tensors:
        """Return all numbers by name, as views."""
        return {**self.split(self.parameters), **self.statistics}

    def split(self, tensors: Tensors) -> Tensors:
        """Return parameters, or their gradients, as they are known outside, as views."""
        return tensors

    @property
    def multiply_adds(self) -> int:
        """How many an example takes forward: one for each number, but for layers that do more."""
        return self.units

    @property
    def least_batch(self) -> int:
        """From how many examples on each is answered, to the last bit, as among any others."""
        return 1

    @property
    def units(self) -> int:
        """How many numbers it answers for an example."""
        return int(np.prod(self.output_shape, dtype=np.int64))
