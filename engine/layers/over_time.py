"""Over time: what a recurrent layer answers of its states, and what of a gradient each gets back.

States lie as (steps, batch, units), in the order in which they are read; a
wire has one example a column. The state of a step that is padding is 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import repeat

import numpy as np

from engine.arrays import Matrix, Tensor
from engine.layers.cell import Given
from engine.wires import Workspace


class Answer(ABC):
    """What is answered of the states of one reading.

    Parameters
    ----------
    states : Tensor of shape (steps + 1, batch, units)
        The first is the one before the first step.
    there : Tensor of shape (steps, batch, 1) or None
        1 for a step that is there and 0 for one that is padding; None where all are.
    workspace : Workspace
    """

    def __init__(self, states: Tensor, there: Tensor | None, workspace: Workspace) -> None:
        self.states, self.after, self.there = states, states[1:], there
        self.allocate(workspace)

    @abstractmethod
    def allocate(self, workspace: Workspace) -> None:
        """Allocate what is needed for both ways."""

    @abstractmethod
    def forward(self, out: Tensor) -> None:
        """Fill the reading's part of the outputs: (units, batch), with steps before if all are."""

    @abstractmethod
    def backward(self, d_out: Tensor) -> Given:
        """Return what arrives at each state, last to first, of the gradient at the outputs.

        It is 0 at padding, and may be None where it is 0 for all.
        """

    def counts(self) -> Matrix:
        """Return how many steps of each example are there, shape (batch, 1) or (1, 1)."""
        if self.there is None:
            return np.full((1, 1), len(self.after), self.states.dtype)
        counts: Matrix = np.add.reduce(self.there, axis=0)
        return counts


class Pooled(Answer):
    """One vector of each example."""

    def allocate(self, workspace: Workspace) -> None:
        """Allocate what is needed for both ways."""
        _, batch, units = self.states.shape
        self.found = workspace.array(batch, units)
        if workspace.learns:
            self.arrived, self.arrival = (workspace.array(batch, units) for _ in range(2))

    def forward(self, out: Tensor) -> None:
        """Fill the reading's part of the outputs."""
        np.copyto(out, self.pooled()[: out.shape[-1]].T)

    def backward(self, d_out: Tensor) -> Given:
        """Return what arrives at each state."""
        np.copyto(self.arrived, d_out.T)
        return self.arriving()

    @abstractmethod
    def pooled(self) -> Matrix:
        """Return what the states of each example come to."""

    @abstractmethod
    def arriving(self) -> Given:
        """Yield what arrives at each state, last to first."""


class Last(Pooled):
    """The state after the last step that is there, where this is not the last of all."""

    def pooled(self) -> Matrix:
        """Return that state; that before the first step where none is there."""
        ends = self.counts()[:, 0].astype(np.intp)
        found: Matrix = self.states[ends, np.arange(len(self.found))]
        return found

    def arriving(self) -> Given:
        """Yield it where a sequence ends."""
        ends = self.counts()
        for step in range(len(self.after), 0, -1):
            yield np.multiply(self.arrived, ends == step, out=self.arrival)


class Final(Pooled):
    """The state after the last step of all."""

    def pooled(self) -> Matrix:
        """Return that state."""
        final: Matrix = self.states[-1]
        return final

    def arriving(self) -> Given:
        """Yield it once."""
        if self.there is not None:
            np.multiply(self.arrived, self.there[-1], out=self.arrived)
        yield self.arrived
        yield from repeat(None)


class Mean(Pooled):
    """The mean of the states."""

    def pooled(self) -> Matrix:
        """Return the mean; 0 where no step is there."""
        np.add.reduce(self.after, axis=0, out=self.found)
        return np.divide(self.found, np.maximum(self.counts(), 1), out=self.found)

    def arriving(self) -> Given:
        """Yield a share at every step that is there."""
        np.divide(self.arrived, np.maximum(self.counts(), 1), out=self.arrived)
        if self.there is None:
            yield from repeat(self.arrived)
        else:
            for there in self.there[::-1]:
                yield np.multiply(self.arrived, there, out=self.arrival)


class Largest(Pooled):
    """The largest value that each unit has had; its gradient goes to the last step that had it."""

    def allocate(self, workspace: Workspace) -> None:
        """Allocate what is needed for both ways."""
        super().allocate(workspace)
        steps, batch, units = self.after.shape
        self.hit = workspace.mask(batch, units)
        self.counted = None if self.there is None else workspace.mask(steps, batch, 1)

    def pooled(self) -> Matrix:
        """Return the largest; 0 where no step is there."""
        if self.there is None or self.counted is None:
            return np.maximum.reduce(self.after, axis=0, out=self.found)
        np.greater(self.there, 0, out=self.counted)
        np.maximum.reduce(self.after, axis=0, out=self.found, where=self.counted, initial=-np.inf)
        np.copyto(self.found, 0, where=self.counts() == 0)
        return self.found

    def arriving(self) -> Given:
        """Yield it at the last step that had it."""
        counted = repeat(None) if self.counted is None else iter(self.counted[::-1])
        for state, there in zip(self.after[::-1], counted, strict=False):
            np.equal(state, self.found, out=self.hit)
            if there is not None:
                np.logical_and(self.hit, there, out=self.hit)
            np.multiply(self.arrived, self.hit, out=self.arrival)
            np.subtract(self.arrived, self.arrival, out=self.arrived)
            yield self.arrival


class Whole(Answer):
    """All states: a sequence again."""

    def allocate(self, workspace: Workspace) -> None:
        """Allocate what is needed for both ways."""
        if workspace.learns:
            self.arrived = workspace.array(*self.after.shape)

    def forward(self, out: Tensor) -> None:
        """Fill the reading's part of the outputs."""
        np.copyto(out, self.after[:, : out.shape[-1]].swapaxes(1, 2))

    def backward(self, d_out: Tensor) -> Given:
        """Return what arrives at each state."""
        np.copyto(self.arrived, d_out.swapaxes(1, 2))
        if self.there is not None:
            np.multiply(self.arrived, self.there, out=self.arrived)
        return iter(self.arrived[::-1])
