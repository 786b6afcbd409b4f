"""Recurrent: units that read a sequence step by step, and see what they were a step before."""

from __future__ import annotations

import math
from itertools import repeat
from typing import ClassVar

import numpy as np

from engine import spec
from engine.arrays import Matrix, Shape, Tensor
from engine.layers.cell import ALIKE, Cell, Given
from engine.layers.gru import Gru
from engine.layers.layer import Layer, Tensors
from engine.layers.lstm import Lstm
from engine.layers.over_time import Answer, Final, Largest, Last, Mean, Whole
from engine.layers.rnn import ReluRnn, Rnn
from engine.wires import Bound, Wire, Workspace, nothing

REVERSE = "reverse_"
"""What the names of tensors begin with that read from the end."""


class Recurrent(Layer):
    """Backpropagation through time (Werbos 1990), over sequences that may be padded at their end.

    The state of a step that is padding is 0 in either direction, so that what
    is read from the end begins at the last step that is there.

    Parameters
    ----------
    settings : spec.RecurrentLayer
    input_shape : Shape
        Steps, and the numbers of one. What comes in behind them is passed over.
    masked : bool
        Whether the network is also fed which steps are there.
    """

    plain: ClassVar[frozenset[str]] = frozenset(
        f"{prefix}{name}" for prefix in ("", REVERSE) for name in ("bias", "recurrent_bias")
    )

    def __init__(self, settings: spec.RecurrentLayer, input_shape: Shape, *, masked: bool) -> None:
        steps, inputs = input_shape
        self.prefixes = ("", REVERSE) if settings.bidirectional else ("",)
        answered = settings.units * len(self.prefixes)
        self.sequence = (steps, answered) if settings.return_sequences else None
        super().__init__(input_shape, (math.prod(self.sequence or (answered,)),))
        self.settings, self.masked, self.cell = settings, masked, _cell_of(settings)
        self.parameter_shapes = {
            f"{prefix}{name}": shape
            for prefix in self.prefixes
            for name, shape in self.cell.shapes(inputs, settings.units).items()
        }

    @property
    def multiply_adds(self) -> int:
        """One for every weight of every gate, at every step; those of the biases are none."""
        (steps, inputs), units = self.input_shape, self.settings.units
        return steps * len(self.prefixes) * self.cell.gates * units * (inputs + units)

    def initialize(self, rng: np.random.Generator) -> None:
        """Draw the weights as the cell does."""
        for prefix in self.prefixes:
            self.cell.initialize(_of(prefix, self.parameters), rng)

    def split(self, tensors: Tensors) -> Tensors:
        """Return weights from inputs, weights from states, and biases apart."""
        return {
            f"{prefix}{name}": tensor
            for prefix in self.prefixes
            for name, tensor in self.cell.split(_of(prefix, tensors)).items()
        }

    def bind(self, x: Wire, workspace: Workspace) -> Bound:
        """Bind to a batch."""
        steps, inputs = self.input_shape
        y = workspace.wire(self.units)
        readings = [_Reading(self, prefix, x, y, workspace) for prefix in self.prefixes]
        source, dx = workspace.source if self.masked else None, x.gradient

        def forward() -> None:
            values = x.value[: steps * inputs].reshape(steps, inputs, -1)
            there = None if source is None else source.value[-steps:]
            for reading in readings:
                reading.forward(values, there)

        if y.gradient is None:
            return Bound(y, forward, nothing)

        def backward() -> None:
            if dx is not None:
                dx.fill(0)
            for reading in readings:
                reading.backward()

        return Bound(y, forward, backward)


class _Reading:
    """A batch that is read in one direction."""

    def __init__(
        self, layer: Recurrent, prefix: str, x: Wire, y: Wire, workspace: Workspace
    ) -> None:
        (steps, inputs), units, settings = layer.input_shape, layer.settings.units, layer.settings
        batch = x.batch if workspace.learns else -(-x.batch // ALIKE) * ALIKE
        rows = workspace.array(steps + 1, batch, inputs + 1 + units)
        self.direction = slice(None, None, -1 if prefix else 1)
        self.given = rows[:-1, : x.batch, :inputs]
        self.there = workspace.array(steps, batch, 1) if layer.masked else None
        tensors = _of(prefix, layer.parameters), _of(prefix, layer.gradients)
        hands_on = x.gradient is not None
        self.cell = layer.cell(*tensors, rows, workspace, hands_on=hands_on)
        self.ends_differ = layer.masked and not prefix
        pool = _answer_of(settings, ends_differ=self.ends_differ)
        self.answer: Answer = pool(self.cell.states, self.there, workspace)
        first = layer.prefixes.index(prefix) * units
        self.part = slice(first, first + units)
        self.out = self._own(y.value, layer)
        if y.gradient is not None:
            self.d_out = self._own(y.gradient, layer)
        self.d_given = None
        if x.gradient is not None:
            d_given = x.gradient[: steps * inputs].reshape(steps, inputs, -1)
            self.d_given = d_given[self.direction].swapaxes(1, 2)
        self.truncation = settings.truncation or steps
        self.first = max(0, steps - self.truncation) if pool is Final else 0

    def _own(self, values: Matrix, layer: Recurrent) -> Tensor:
        """Return the part of the outputs, or of their gradient, that is this reading's."""
        if layer.sequence is None:
            return values[self.part]
        return values.reshape(*layer.sequence, -1)[self.direction, self.part]

    def forward(self, values: Tensor, there: Matrix | None) -> None:
        """Read the values of shape (steps, inputs, batch)."""
        np.copyto(self.given, values[self.direction].swapaxes(1, 2))
        if self.there is not None and there is not None:
            np.copyto(self.there[:, : there.shape[1], 0], there[self.direction])
        self.cell.forward(repeat(None) if self.there is None else self.there)
        self.answer.forward(self.out)

    def backward(self) -> None:
        """Go back through time."""
        arriving = self.answer.backward(self.d_out)
        hand_on = None if self.d_given is None else self._hand_on
        self.cell.backward(arriving, self._factors(), self.first, hand_on)

    def _hand_on(self, steps: slice, d_inputs: Matrix) -> None:
        if self.d_given is not None:
            d_given = self.d_given[steps]
            np.add(d_given, d_inputs.reshape(d_given.shape), out=d_given)

    def _factors(self) -> Given:
        """Yield what the gradient from each next state is multiplied by, last to first.

        It does not go on to padding, nor beyond a block of `truncation` steps, counted from the
        end of each sequence.
        """
        steps, there = len(self.given), self.there
        if self.truncation >= steps:
            yield from repeat(None) if there is None else there[::-1]
            return
        ends = self.answer.counts() if self.ends_differ else np.full((1, 1), steps)
        for step in range(steps, 0, -1):
            goes_on = (ends - step) % self.truncation != 0
            yield goes_on if there is None else goes_on * there[step - 1]


def _of(prefix: str, tensors: Tensors) -> Tensors:
    """Return the tensors of one direction, by the names that a cell knows."""
    own = (name for name in tensors if name.startswith(REVERSE) == bool(prefix))
    return {name.removeprefix(prefix): tensors[name] for name in own}


def _cell_of(settings: spec.RecurrentLayer) -> type[Cell]:
    if isinstance(settings, spec.RnnLayer):
        return Rnn if settings.activation == "tanh" else ReluRnn
    return Lstm if isinstance(settings, spec.LstmLayer) else Gru


def _answer_of(settings: spec.RecurrentLayer, *, ends_differ: bool) -> type[Answer]:
    if settings.return_sequences:
        return Whole
    if settings.pooling == "mean":
        return Mean
    if settings.pooling == "max":
        return Largest
    return Last if ends_differ else Final
