"""Cell: what a recurrent layer makes of a step, and of the state that the steps before it left.

A batch of sequences lies as (steps, batch, numbers): a step is one contiguous
matrix with one example a row. That row has the step's inputs, a 1 and the state
before it, so that inputs, biases and state meet the weights of a gate in one
product. On the way back the products for the gradient of the weights take
several steps at once, while what they read is still in cache.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import ClassVar

import numpy as np

from engine.arrays import SMALL_PRODUCT, Matrix, Shape, Tensor
from engine.initializers import INITIALIZERS, initialize
from engine.layers.layer import Tensors
from engine.spec import Activation
from engine.wires import Workspace

ALIKE = 4
"""Rows of a prediction meet the weights so many at a time: each row's product is then added in one
order, whatever stands beside it. Measured on OpenBLAS 0.3.31 with its SkylakeX kernels."""

Each = Iterable[Matrix | None]
Given = Iterator[Matrix | None]
"""A matrix for every step, or None where there is nothing to do; and the same, used up."""

HandOn = Callable[[slice, Matrix], None]
"""Takes the gradient at the inputs of some steps, of shape (steps * batch, inputs)."""


class Cell(ABC):
    """A recurrence, bound to a batch.

    Parameters
    ----------
    parameters, gradients : Tensors
        Of the `shapes`. ``weight`` has a matrix for every gate, with one input a row: those of
        the step, the 1, and those of the state.
    rows : Tensor of shape (steps + 1, batch, inputs + 1 + units)
        Of every step, and one that no step reads. The cell fills in all but the inputs.
    workspace : Workspace
    hands_on : bool
        Whether the inputs want a gradient.

    Attributes
    ----------
    states : Tensor of shape (steps + 1, batch, units)
        Before the first step, which is 0, and after each.
    """

    gates: ClassVar[int] = 1
    sums: ClassVar[int] = 1
    """How many sums of a unit have a gradient of their own."""
    activation: ClassVar[Activation] = "tanh"

    def __init__(
        self,
        parameters: Tensors,
        gradients: Tensors,
        rows: Tensor,
        workspace: Workspace,
        *,
        hands_on: bool,
    ) -> None:
        self.parameters, self.gradients, self.hands_on = parameters, gradients, hands_on
        self.weight = parameters["weight"]
        gates, height, units = self.weight.shape
        steps, batch, inputs = len(rows) - 1, rows.shape[1], height - 1 - units
        self.units, self.steps, self.batch, self.inputs = units, steps, batch, inputs
        rows[..., inputs] = 1
        self.rows, self.places = rows[:-1], rows[1:, :, inputs + 1 :]
        self.states = workspace.array(steps + 1, batch, units)
        self.kept = steps if workspace.learns else 1
        self.alike = batch if workspace.learns else ALIKE
        self.one, self.half = workspace.scalar(1), workspace.scalar(0.5)
        self.spare = workspace.array(batch, units)
        if workspace.learns:
            self.at_once = min(steps, max(1, SMALL_PRODUCT // (batch * height * units)))
            self.d_part = workspace.array(gates, height, units)
            self.d_sums = workspace.array(self.sums, self.at_once, batch, units)
            self.d_state = workspace.array(batch, units)
            self.d_states = workspace.array(gates, batch, units)
            self.to_state = workspace.array(gates, units, units)
            self.to_inputs = workspace.array(gates, units, inputs * hands_on)
            self.d_inputs = workspace.array(gates + 1, self.at_once * batch, inputs * hands_on)
        self.allocate(workspace)

    @abstractmethod
    def allocate(self, workspace: Workspace) -> None:
        """Allocate what this kind of cell needs beside."""

    @classmethod
    def shapes(cls, inputs: int, units: int) -> dict[str, Shape]:
        """Return the shapes of the parameters."""
        return {"weight": (cls.gates, inputs + 1 + units, units)}

    @classmethod
    def split(cls, tensors: Tensors) -> dict[str, Tensor]:
        """Return weights from inputs, weights from states, and biases, gate by gate, as views."""
        weight = tensors["weight"]
        inputs = weight.shape[1] - 1 - weight.shape[2]
        return {
            "weight": weight[:, :inputs].mT,
            "recurrent": weight[:, inputs + 1 :].mT,
            "bias": weight[:, inputs],
        }

    @classmethod
    def initialize(cls, parameters: Tensors, rng: np.random.Generator) -> None:
        """Draw weights from inputs as suits the activation, and orthogonal ones from states."""
        weight = parameters["weight"]
        inputs = weight.shape[1] - 1 - weight.shape[2]
        for gate in weight:
            initialize(gate[:inputs].T, None, cls.activation, rng)
            INITIALIZERS["orthogonal"](gate[inputs + 1 :].T, rng)

    def alikes(self, values: Tensor) -> Tensor:
        """Return a view of shape (…, parts, rows, numbers) of values whose rows go in parts."""
        *before, _, numbers = values.shape
        return values.reshape(*before, -1, self.alike, numbers)

    def each(self, kept: Tensor) -> Iterable[Tensor]:
        """Return what is kept of each step; where nothing learns all have the same place."""
        return kept if self.kept == self.steps else repeat(kept[0])

    @abstractmethod
    def forward(self, resets: Each) -> None:
        """Fill the states, each multiplied by its reset of shape (batch, 1)."""

    def backward(self, arriving: Given, factors: Given, first: int, hand_on: HandOn | None) -> None:
        """Fill the gradient, going through the steps from the last to ``first``.

        Parameters
        ----------
        arriving : iterator of Matrix or None
            The gradient at each state from above, of shape (batch, units).
        factors : iterator of Matrix or None
            What the gradient at each state from the step after it is multiplied by.
        first : int
        hand_on : HandOn, optional
        """
        self.begin_back()
        for stop in range(self.steps, first, -self.at_once):
            steps = slice(max(stop - self.at_once, first), stop)
            d_sums = self.d_sums[:, : stop - steps.start]
            self.back(steps, d_sums, arriving, factors)
            flat = d_sums.reshape(self.sums, -1, self.units)
            rows = self.rows[steps].reshape(flat.shape[1], -1)
            self.learn(rows, flat)
            if hand_on is not None:
                d_inputs = self.d_inputs[:, : len(rows)]
                np.matmul(flat[: self.gates], self.to_inputs, out=d_inputs[1:])
                hand_on(steps, np.add.reduce(d_inputs[1:], axis=0, out=d_inputs[0]))

    def begin_back(self) -> None:
        """Lay the weights out for the way back, and begin without a gradient."""
        np.copyto(self.to_state, self.weight[:, self.inputs + 1 :].mT)
        if self.hands_on:
            np.copyto(self.to_inputs, self.weight[:, : self.inputs].mT)
        for gradient in self.gradients.values():
            gradient.fill(0)
        self.d_state.fill(0)

    @abstractmethod
    def back(self, steps: slice, d_sums: Tensor, arriving: Given, factors: Given) -> None:
        """Fill the gradient at the sums of some steps, the last of them first."""

    def learn(self, rows: Matrix, d_sums: Tensor) -> None:
        """Add what some steps say to the gradient of the weights."""
        np.matmul(rows.T, d_sums, out=self.d_part)
        np.add(self.gradients["weight"], self.d_part, out=self.gradients["weight"])
