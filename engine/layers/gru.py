"""Gated recurrent units: gates say how much of a state stays, and what a new one is made from."""

from __future__ import annotations

import numpy as np

from engine.arrays import Matrix, Shape, Tensor
from engine.layers.cell import Cell, Each, Given
from engine.layers.layer import Tensors
from engine.wires import Workspace


class Gru(Cell):
    """``h = z * h + (1 - z) * n`` (Cho et al. 2014), in the form of cuDNN and PyTorch.

    The gates, in this order, are ``r`` and ``z``, which are logistic, each of
    ``weight @ x + recurrent @ h + bias``; and ``n``, the tanh of
    ``weight @ x + bias + r * (recurrent @ h + recurrent_bias)``.
    Deviation: in the paper ``r`` is applied to the state before the product (equation 8), which
    then has to wait for it.
    """

    gates, sums = 3, 4

    def allocate(self, workspace: Workspace) -> None:
        """Allocate what this kind of cell needs beside."""
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
        for row, recalling, n, before, h, place, sums, recalls, gates, a, r, z, reset in zip(
            rows,
            rows[..., self.inputs :],
            self.candidates,
            self.states[:-1],
            self.states[1:],
            self.places,
            *map(self.each, (*kept, *self.values.swapaxes(0, 1))),
            resets,
            strict=False,
        ):
            np.matmul(row, folded, out=sums)
            np.tanh(gates, out=gates)
            np.multiply(gates, half, out=gates)
            np.add(gates, half, out=gates)
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
