"""Cells: what a recurrent layer makes of a step, and of the state that the steps before it left.

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
        self.take(workspace)

    def take(self, workspace: Workspace) -> None:  # noqa: B027 - some take no more
        """Take what this kind of cell needs beside."""

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


class Rnn(Cell):
    """``h = tanh(weight @ x + recurrent @ h + bias)`` (Elman 1990)."""

    def take(self, workspace: Workspace) -> None:
        """Take what this kind of cell needs beside."""
        # `dot` is quicker, but does not go part by part.
        self.product = np.ndarray.dot if workspace.learns else np.matmul
        self.zero = workspace.scalar(0)

    def forward(self, resets: Each) -> None:
        """Fill the states."""
        weight, z, activate, product = self.weight[0], self.spare, self.activate, self.product
        rows, out = (self.rows, z) if self.kept == self.steps else map(self.alikes, (self.rows, z))
        for row, h, place, reset in zip(rows, self.states[1:], self.places, resets, strict=False):
            product(row, weight, out)
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

    gates = sums = 4

    def take(self, workspace: Workspace) -> None:
        """Take what this kind of cell needs beside."""
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
        half, part, values, folded = self.half, self.spare, self.values, self.folded[:, None]
        np.multiply(self.weight, self.folds, out=self.folded)
        values[0, 4].fill(0)
        z_alike = self.alikes(values)[:, :4]
        kept = values, z_alike, values[:, :4], values[:, :3], values[-self.kept :, 4], self.squashed
        for row, h, place, value, sums, z, gates, c, t, reset in zip(
            self.alikes(self.rows),
            self.states[1:],
            self.places,
            *map(self.each, kept),
            resets,
            strict=False,
        ):
            np.matmul(row, folded, out=sums)
            np.tanh(z, out=z)
            np.multiply(gates, half, out=gates)
            np.add(gates, half, out=gates)
            o, f, i, g, before = value
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
    """``h = z * h + (1 - z) * n`` (Cho et al. 2014), in the form of cuDNN and PyTorch.

    The gates, in this order, are ``r`` and ``z``, which are logistic, each of
    ``weight @ x + recurrent @ h + bias``; and ``n``, the tanh of
    ``weight @ x + bias + r * (recurrent @ h + recurrent_bias)``.
    Deviation: in the paper ``r`` is applied to the state before the product (equation 8), which
    then has to wait for it.
    """

    gates, sums = 3, 4

    def take(self, workspace: Workspace) -> None:
        """Take what this kind of cell needs beside."""
        _, height, units = self.weight.shape
        self.folded = workspace.array(2, height, units)
        self.lateral = workspace.array(1 + units, units)
        self.values = workspace.array(self.kept, 2, self.batch, units)
        self.recalled = workspace.array(self.kept, self.batch, units)
        self.candidates = workspace.array(self.steps, self.batch, units)

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
        half, part, folded, lateral = self.half, self.spare, self.folded[:, None], self.lateral
        own = self.inputs + 1
        np.multiply(self.weight[:2], half, out=self.folded)
        np.copyto(lateral[0], self.parameters["recurrent_bias"])
        np.copyto(lateral[1:], self.weight[2, own:])
        rows = self.alikes(self.rows)
        np.matmul(rows[..., :own], self.weight[2, :own], out=self.alikes(self.candidates))
        kept = self.alikes(self.values), self.alikes(self.recalled), self.values, self.recalled
        for row, recalling, n, before, h, place, sums, recalls, gates, a, reset in zip(
            rows,
            rows[..., self.inputs :],
            self.candidates,
            self.states[:-1],
            self.states[1:],
            self.places,
            *map(self.each, kept),
            resets,
            strict=False,
        ):
            np.matmul(row, folded, out=sums)
            np.tanh(gates, out=gates)
            np.multiply(gates, half, out=gates)
            np.add(gates, half, out=gates)
            r, z = gates
            np.matmul(recalling, lateral, out=recalls)
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
        """Fill the gradient at the sums of some steps.

        They are that of ``n``, ``r`` and ``z``, and what ``r`` is applied to.
        """
        values, candidates = self.values[steps], self.candidates[steps]
        by_step = d_sums.swapaxes(0, 1)
        np.multiply(values, values, out=by_step[:, 1:3])
        np.subtract(values, by_step[:, 1:3], out=by_step[:, 1:3])
        np.multiply(candidates, candidates, out=by_step[:, 0])
        np.subtract(self.one, by_step[:, 0], out=by_step[:, 0])
        dh, part, d_states = self.d_state, self.spare, self.d_states
        kept = values, self.recalled[steps], candidates, self.states[steps]
        for dz, d_lateral, (r, z), a, n, before, arrival, factor in zip(
            *(of[::-1] for of in (by_step, by_step[:, 1:], *kept)),
            arriving,
            factors,
            strict=False,
        ):
            if factor is not None:
                np.multiply(dh, factor, out=dh)
            if arrival is not None:
                np.add(dh, arrival, out=dh)
            d_n, d_r, d_z, d_a = dz
            np.subtract(before, n, out=part)
            np.multiply(part, dh, out=part)
            np.multiply(d_z, part, out=d_z)
            np.multiply(dh, z, out=part)
            np.subtract(dh, part, out=dh)
            np.multiply(d_n, dh, out=d_n)
            np.multiply(d_n, r, out=d_a)
            np.multiply(d_n, a, out=dh)
            np.multiply(d_r, dh, out=d_r)
            np.matmul(d_lateral, self.to_state, out=d_states)
            np.add.reduce(d_states, axis=0, out=dh)
            np.add(dh, part, out=dh)

    def begin_back(self) -> None:
        """Lay the weights out for the way back; those from inputs as the sums are: ``n`` first."""
        super().begin_back()
        if self.hands_on:
            from_inputs = self.weight[:, : self.inputs].mT
            np.copyto(self.to_inputs[0], from_inputs[2])
            np.copyto(self.to_inputs[1:], from_inputs[:2])

    def learn(self, rows: Matrix, d_sums: Tensor) -> None:
        """Add what some steps say to the gradient of the weights."""
        inputs, own, d_weight = self.inputs, self.inputs + 1, self.gradients["weight"]
        d_own, d_lateral = self.d_part[:, :own], self.d_part[:, inputs:]
        np.matmul(rows[:, :own].T, d_sums[:3], out=d_own)
        np.add(d_weight[2, :own], d_own[0], out=d_weight[2, :own])
        np.add(d_weight[:2, :own], d_own[1:], out=d_weight[:2, :own])
        np.matmul(rows[:, inputs:].T, d_sums[1:], out=d_lateral)
        np.add(d_weight[:, own:], d_lateral[:, 1:], out=d_weight[:, own:])
        d_bias = self.gradients["recurrent_bias"]
        np.add(d_bias, d_lateral[2, 0], out=d_bias)
