"""Long short-term memory: gates say what a cell forgets, takes in and shows."""

from __future__ import annotations

import numpy as np

from engine.arrays import Tensor
from engine.layers.cell import Cell, Each, Given
from engine.layers.layer import Tensors
from engine.wires import Workspace


class Lstm(Cell):
    """``c = f * c + i * g``, ``h = o * tanh(c)`` (Hochreiter & Schmidhuber 1997, Gers et al. 2000).

    The gates, in this order, are ``o``, ``f`` and ``i``, which are logistic, and ``g``, a tanh;
    each of ``weight @ x + recurrent @ h + bias``. The bias of ``f`` begins at 1 (Jozefowicz,
    Zaremba & Sutskever 2015). The logistic function is ``tanh(z / 2) / 2 + 1/2``, its first half
    in a copy of the weights, so that one call goes over all gates.
    """

    gates = sums = 4

    def allocate(self, workspace: Workspace) -> None:
        """Allocate what this kind of cell needs beside."""
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
        sums = self.alikes(values)[:, :4]
        kept = sums, values[:, :4], values[:, :3], *values.swapaxes(0, 1), values[-self.kept :, 4]
        for row, h, place, z, gates, logistic, o, f, i, g, before, c, t, reset in zip(
            self.alikes(self.rows),
            self.states[1:],
            self.places,
            *map(self.each, (*kept, self.squashed)),
            resets,
            strict=False,
        ):
            np.matmul(row, folded, out=z)
            np.tanh(gates, out=gates)
            np.multiply(logistic, half, out=logistic)
            np.add(logistic, half, out=logistic)
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
