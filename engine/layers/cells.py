"""Cells: what a recurrent layer makes of a step, and of the state that the steps before it left.

A batch of sequences lies as (steps, batch, numbers): a step is one contiguous
matrix with one example a row. That row has the step's inputs, a 1 and the state
before it, so that inputs, biases and state meet the weights of a gate in one
product. On the way back the products for the gradient of the weights take
several steps at once, while the gradients of these are still in cache.
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
        Of every step, and one that is not used. The cell fills in all but the inputs.
    workspace : Workspace
    """

    gates: ClassVar[int] = 1
    blocks: ClassVar[int] = 1
    """How many sums of a unit have a gradient."""
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
        self.weight = parameters["weight"]
        gates, height, units = self.weight.shape
        steps, batch = rows.shape[0] - 1, rows.shape[1]
        self.units, self.steps, self.batch, self.inputs = units, steps, batch, height - 1 - units
        rows[..., self.inputs] = 1
        self.rows, self.places = rows[:-1], rows[1:, :, self.inputs + 1 :]
        self.states = workspace.array(steps + 1, batch, units)
        self.hands_on = hands_on
        self.kept = steps if workspace.learns else 1
        self.one, self.half = workspace.scalar(1), workspace.scalar(0.5)
        self.spare = workspace.array(batch, units)
        if not workspace.learns:
            return
        self.at_once = min(steps, max(1, SMALL_PRODUCT // (batch * height * units)))
        self.d_weight = gradients["weight"]
        self.d_part = workspace.array(gates, height, units)
        self.d_sums = workspace.array(self.blocks, self.at_once, batch, units)
        self.d_state, self.d_states = workspace.array(batch, units), workspace.array(gates, batch, units)
        self.to_state = workspace.array(gates, units, units)
        if hands_on:
            self.to_inputs = workspace.array(gates, units, self.inputs)
            self.d_parts = workspace.array(gates, self.at_once * batch, self.inputs)
            self.d_inputs = workspace.array(self.at_once * batch, self.inputs)

    @classmethod
    def shapes(cls, inputs: int, units: int) -> dict[str, Shape]:
        """Return the shapes of the parameters."""
        return {"weight": (cls.gates, inputs + 1 + units, units)}

    @classmethod
    def split(cls, tensors: Tensors) -> dict[str, Tensor]:
        """Return the weights from inputs and from states, and the biases, gate by gate, as views."""
        weight = tensors["weight"]
        inputs = weight.shape[1] - 1 - weight.shape[2]
        return {
            "weight": weight[:, :inputs].mT,
            "recurrent": weight[:, inputs + 1 :].mT,
            "bias": weight[:, inputs],
        }

    @classmethod
    def initialize(cls, parameters: Tensors, rng: np.random.Generator) -> None:
        """Draw the weights from inputs as suits the activation, orthogonal ones from states."""
        weight = parameters["weight"]
        inputs = weight.shape[1] - 1 - weight.shape[2]
        for gate in weight:
            initialize(gate[:inputs].T, None, cls.activation, rng)
            INITIALIZERS["orthogonal"](gate[inputs + 1 :].T, rng)

    def each(self, kept: Tensor) -> Iterable[Tensor]:
        """Return what is kept, step by step."""
        return kept if self.kept == self.steps else repeat(kept[0])

    @abstractmethod
    def forward(self, resets: Each) -> None:
        """Fill the states, each multiplied by its reset of shape (batch, 1)."""

    def backward(
        self, arriving: Given, factors: Given, first: int, hand_on: HandOn | None
    ) -> None:
        """Fill the gradient, going through the steps from the last to ``first``.

        Parameters
        ----------
        arriving : iterator of Matrix or None
            The gradient at each state from outside, of shape (batch, units).
        factors : iterator of Matrix or None
            What the gradient at each state from the step after it is multiplied by.
        first : int
        hand_on : HandOn, optional
            If the inputs want a gradient.
        """
        self.begin_back()
        for stop in range(self.steps, first, -self.at_once):
            steps = slice(max(stop - self.at_once, first), stop)
            d_sums = self.d_sums[:, : stop - steps.start]
            self.back(steps, d_sums, arriving, factors)
            flat = d_sums.reshape(self.blocks, -1, self.units)
            rows = self.rows[steps].reshape(flat.shape[1], -1)
            self.learn(rows, flat)
            if hand_on is not None:
                parts, d_inputs = self.d_parts[:, : len(rows)], self.d_inputs[: len(rows)]
                np.matmul(flat[: self.gates], self.to_inputs, out=parts)
                hand_on(steps, np.add.reduce(parts, axis=0, out=d_inputs))

    def begin_back(self) -> None:
        """Lay the weights out for the way back, and begin without a gradient."""
        if self.hands_on:
            self.turn_to_inputs(self.weight[:, : self.inputs].mT)
        np.copyto(self.to_state, self.weight[:, self.inputs + 1 :].mT)
        self.d_weight.fill(0)
        self.d_state.fill(0)

    def turn_to_inputs(self, weight: Tensor) -> None:
        np.copyto(self.to_inputs, weight)

    @abstractmethod
    def back(
        self, steps: slice, d_sums: Tensor, arriving: Given, factors: Given
    ) -> None:
        """Fill the gradient at the sums of some steps, the last of them first."""

    def learn(self, rows: Matrix, d_sums: Tensor) -> None:
        """Add what some steps say to the gradient of the weights."""
        np.matmul(rows.T, d_sums, out=self.d_part)
        np.add(self.d_weight, self.d_part, out=self.d_weight)


class Rnn(Cell):
    """``h = tanh(weight @ x + recurrent @ h + bias)`` (Elman 1990)."""

    def __init__(
        self,
        parameters: Tensors,
        gradients: Tensors,
        rows: Tensor,
        workspace: Workspace,
        *,
        hands_on: bool,
    ) -> None:
        super().__init__(parameters, gradients, rows, workspace, hands_on=hands_on)
        self.zero = workspace.scalar(0)

    def forward(self, resets: Each) -> None:
        """Fill the states."""
        weight, z, activate = self.weight[0], self.spare, self.activate
        for row, h, place, reset in zip(
            self.rows, self.states[1:], self.places, resets, strict=False
        ):
            np.dot(row, weight, out=z)
            activate(z, h)
            if reset is not None:
                np.multiply(h, reset, out=h)
            np.copyto(place, h)

    def back(self, steps: slice, d_sums: Tensor, arriving: Given, factors: Given) -> None:
        """Fill the gradient at the sums of some steps."""
        [d_z], [to_state], dh = d_sums, self.to_state, self.d_state
        self.slopes(self.states[1:][steps], d_z)
        for dz, arrival, factor in zip(d_z[::-1], arriving, factors, strict=False):
            if factor is not None:
                np.multiply(dh, factor, out=dh)
            if arrival is not None:
                np.add(dh, arrival, out=dh)
            np.multiply(dz, dh, out=dz)
            np.dot(dz, to_state, out=dh)

    def activate(self, z: Matrix, h: Matrix) -> None:
        """Fill a state."""
        np.tanh(z, out=h)

    def slopes(self, h: Tensor, out: Tensor) -> None:
        """Fill the slopes at states."""
        np.multiply(h, h, out=out)
        np.subtract(self.one, out, out=out)


class ReluRnn(Rnn):
    """``h = max(weight @ x + recurrent @ h + bias, 0)``."""

    activation = "relu"

    def activate(self, z: Matrix, h: Matrix) -> None:
        """Fill a state."""
        np.maximum(z, self.zero, out=h)

    def slopes(self, h: Tensor, out: Tensor) -> None:
        """Fill the slopes at states."""
        np.greater(h, self.zero, out=out)


class Lstm(Cell):
    """``c = f * c + i * g``, ``h = o * tanh(c)`` (Hochreiter & Schmidhuber 1997, Gers et al. 2000).

    The gates, in this order, are ``o``, ``f`` and ``i``, which are logistic, and ``g``, a tanh;
    each of ``weight @ x + recurrent @ h + bias``. The bias of ``f`` begins at 1 (Jozefowicz,
    Zaremba & Sutskever 2015). The logistic function is ``tanh(z / 2) / 2 + 1/2``, its first half
    in a copy of the weights, so that one call goes over all gates.
    """

    gates = blocks = 4

    def __init__(
        self,
        parameters: Tensors,
        gradients: Tensors,
        rows: Tensor,
        workspace: Workspace,
        *,
        hands_on: bool,
    ) -> None:
        super().__init__(parameters, gradients, rows, workspace, hands_on=hands_on)
        self.folded, self.folds = workspace.array(*self.weight.shape), workspace.array(4, 1, 1)
        self.folds[:3], self.folds[3] = 0.5, 1
        # Of every step its gates, and the cell before it: next to `g`, as `f` is to `i`.
        self.values = workspace.array(self.kept + workspace.learns, 5, self.batch, self.units)
        self.squashed = workspace.array(self.kept, self.batch, self.units)
        if workspace.learns:
            self.d_cell = workspace.array(self.batch, self.units)

    @classmethod
    def initialize(cls, parameters: Tensors, rng: np.random.Generator) -> None:
        """Draw the weights; what a cell holds is kept at first."""
        super().initialize(parameters, rng)
        cls.split(parameters)["bias"][1] = 1

    def forward(self, resets: Each) -> None:
        """Fill the states."""
        folded, half, part, values = self.folded, self.half, self.spare, self.values
        np.multiply(self.weight, self.folds, out=folded)
        values[0, 4].fill(0)
        kept = values, values[:, :4], values[:, :3], values[-self.kept :, 4], self.squashed
        for row, h, place, of_step, z, gates, c, t, reset in zip(
            self.rows, self.states[1:], self.places, *map(self.each, kept), resets, strict=False
        ):
            np.matmul(row, folded, out=z)
            np.tanh(z, out=z)
            np.multiply(gates, half, out=gates)
            np.add(gates, half, out=gates)
            o, f, i, g, before = of_step
            np.multiply(i, g, out=part)
            np.multiply(f, before, out=c)
            np.add(c, part, out=c)
            np.tanh(c, out=t)
            np.multiply(o, t, out=h)
            if reset is not None:
                np.multiply(h, reset, out=h)
                np.multiply(c, reset, out=c)
            np.copyto(place, h)

    def back(self, steps: slice, d_sums: Tensor, arriving: Given, factors: Given) -> None:
        """Fill the gradient at the sums of some steps."""
        values, by_step = self.values[steps], d_sums.swapaxes(0, 1)
        np.multiply(values[:, :4], values[:, :4], out=by_step)
        np.subtract(values[:, :3], by_step[:, :3], out=by_step[:, :3])
        np.subtract(self.one, by_step[:, 3], out=by_step[:, 3])
        dh, dc, part, d_states = self.d_state, self.d_cell, self.spare, self.d_states
        by_gate = by_step, by_step[:, 0], by_step[:, 1:]
        kept = values[:, 0], values[:, 1], values[:, 4:1:-1], self.squashed[steps]
        for dz, d_o, d_f_i_g, o, f, c_g_i, t, arrival, factor in zip(
            *(of[::-1] for of in (*by_gate, *kept)), arriving, factors, strict=False
        ):
            if factor is not None:
                np.multiply(dh, factor, out=dh)
                np.multiply(dc, factor, out=dc)
            if arrival is not None:
                np.add(dh, arrival, out=dh)
            np.multiply(dh, t, out=part)
            np.multiply(d_o, part, out=d_o)
            np.multiply(part, t, out=part)
            np.subtract(dh, part, out=part)
            np.multiply(part, o, out=part)
            np.add(dc, part, out=dc)
            np.multiply(d_f_i_g, c_g_i, out=d_f_i_g)
            np.multiply(d_f_i_g, dc, out=d_f_i_g)
            np.multiply(dc, f, out=dc)
            np.matmul(dz, self.to_state, out=d_states)
            np.add.reduce(d_states, axis=0, out=dh)

    def begin_back(self) -> None:
        """Begin without a gradient."""
        super().begin_back()
        self.d_cell.fill(0)


class Gru(Cell):
    """``h = z * h + (1 - z) * n`` (Cho et al. 2014), as PyTorch and cuDNN have it.

    The gates, in this order, are ``r`` and ``z``, which are logistic, each of
    ``weight @ x + recurrent @ h + bias``, and ``n``, the tanh of
    ``weight @ x + bias + r * (recurrent @ h + recurrent_bias)``.
    Deviation: in the paper the state is multiplied by ``r`` before the product (equation 8), so
    that this has to wait for ``r``.
    """

    gates, blocks = 3, 4

    def __init__(
        self,
        parameters: Tensors,
        gradients: Tensors,
        rows: Tensor,
        workspace: Workspace,
        *,
        hands_on: bool,
    ) -> None:
        super().__init__(parameters, gradients, rows, workspace, hands_on=hands_on)
        _, height, units = self.weight.shape
        self.recurrent_bias = parameters["recurrent_bias"]
        self.folded, self.lateral = workspace.array(2, height, units), workspace.array(1 + units, units)
        self.values = workspace.array(self.kept, 2, self.batch, units)
        self.recalled = workspace.array(self.kept, self.batch, units)
        self.candidates = workspace.array(self.steps, self.batch, units)
        if workspace.learns:
            self.d_recurrent_bias = gradients["recurrent_bias"]

    @classmethod
    def shapes(cls, inputs: int, units: int) -> dict[str, Shape]:
        """Return the shapes of the parameters."""
        return {**super().shapes(inputs, units), "recurrent_bias": (units,)}

    @classmethod
    def split(cls, tensors: Tensors) -> dict[str, Tensor]:
        """Return weights and biases gate by gate, and the bias that only ``n`` has."""
        return {**super().split(tensors), "recurrent_bias": tensors["recurrent_bias"]}

    def forward(self, resets: Each) -> None:
        """Fill the states."""
        folded, lateral, half, part = self.folded, self.lateral, self.half, self.spare
        own = self.inputs + 1
        np.multiply(self.weight[:2], half, out=folded)
        np.copyto(lateral[0], self.recurrent_bias)
        np.copyto(lateral[1:], self.weight[2, own:])
        fed, n = self.rows.reshape(-1, self.rows.shape[2])[:, :own], self.candidates
        np.matmul(fed, self.weight[2, :own], out=n.reshape(-1, self.units))
        kept = self.each(self.values), self.each(self.recalled), n
        rows = self.rows, self.rows[..., self.inputs :], self.states[:-1], self.states[1:]
        for row, recalling, before, h, place, gates, a, n, reset in zip(
            *rows, self.places, *kept, resets, strict=False
        ):
            np.matmul(row, folded, out=gates)
            np.tanh(gates, out=gates)
            np.multiply(gates, half, out=gates)
            np.add(gates, half, out=gates)
            r, z = gates
            np.matmul(recalling, lateral, out=a)
            np.multiply(r, a, out=part)
            np.add(n, part, out=n)
            np.tanh(n, out=n)
            np.subtract(before, n, out=part)
            np.multiply(part, z, out=part)
            np.add(part, n, out=h)
            if reset is not None:
                np.multiply(h, reset, out=h)
            np.copyto(place, h)

    def back(self, steps: slice, d_sums: Tensor, arriving: Given, factors: Given) -> None:
        """Fill the gradient at the sums of some steps: of ``n``'s inputs, ``r``, ``z``, ``n``'s state."""
        values, candidates, by_step = self.values[steps], self.candidates[steps], d_sums.swapaxes(0, 1)
        slopes, slope = by_step[:, 1:3], by_step[:, 0]
        np.multiply(values, values, out=slopes)
        np.subtract(values, slopes, out=slopes)
        np.multiply(candidates, candidates, out=slope)
        np.subtract(self.one, slope, out=slope)
        dh, part, d_states = self.d_state, self.spare, self.d_states
        kept = by_step, values, self.recalled[steps], candidates, self.states[steps]
        for dz, gates, a, n, before, arrival, factor in zip(
            *(of[::-1] for of in kept), arriving, factors, strict=False
        ):
            if factor is not None:
                np.multiply(dh, factor, out=dh)
            if arrival is not None:
                np.add(dh, arrival, out=dh)
            (r, z), (d_n, d_r, d_z, d_a) = gates, dz
            np.subtract(before, n, out=part)
            np.multiply(part, dh, out=part)
            np.multiply(d_z, part, out=d_z)
            np.multiply(dh, z, out=part)
            np.subtract(dh, part, out=dh)
            np.multiply(d_n, dh, out=d_n)
            np.multiply(d_n, r, out=d_a)
            np.multiply(d_r, d_n, out=d_r)
            np.multiply(d_r, a, out=d_r)
            np.matmul(dz[1:], self.to_state, out=d_states)
            np.add.reduce(d_states, axis=0, out=dh)
            np.add(dh, part, out=dh)

    def begin_back(self) -> None:
        """Begin without a gradient."""
        super().begin_back()
        self.d_recurrent_bias.fill(0)

    def turn_to_inputs(self, weight: Tensor) -> None:
        np.copyto(self.to_inputs[0], weight[2])
        np.copyto(self.to_inputs[1:], weight[:2])

    def learn(self, rows: Matrix, d_sums: Tensor) -> None:
        """Add what some steps say to the gradient of the weights."""
        inputs, d_weight = self.inputs, self.d_weight
        own = inputs + 1
        d_own, d_lateral = self.d_part[:, :own], self.d_part[:, inputs:]
        np.matmul(rows[:, :own].T, d_sums[:3], out=d_own)
        np.add(d_weight[:2, :own], d_own[1:], out=d_weight[:2, :own])
        np.add(d_weight[2, :own], d_own[0], out=d_weight[2, :own])
        np.matmul(rows[:, inputs:].T, d_sums[1:], out=d_lateral)
        np.add(d_weight[:, own:], d_lateral[:, 1:], out=d_weight[:, own:])
        np.add(self.d_recurrent_bias, d_lateral[2, 0], out=self.d_recurrent_bias)
