"""Wires: what layers hand to each other, and the workspace that it is laid out in.

A batch is a matrix with one example a column. Before the first step of a size,
every layer is *bound* to that size: it takes all arrays that it will write to,
and returns a function that goes forward and one that goes back. A step then
only calls them, and allocates nothing. What a layer keeps for the way back is
in the functions' closure, so that any number of threads share one layer.

Networks of one shape can be *stacked*: bound as one, with an axis before all
others, along which they lie. The same calls then compute all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engine.arrays import Matrix, Shape, Tensor, aligned_zeros

Step = Callable[[], Any]


class Wire:
    """The outputs of some units for a batch, and the gradient of the loss at them.

    Below the outputs is one more row, of a unit that is always 1: its weights
    are the biases of the layer above.

    Parameters
    ----------
    full : Matrix of shape (…, units + 1, batch)
        The last row is 1. Stacked networks lie along an axis before these two.
    gradient : Matrix of shape (…, units, batch) or None
        None where no layer below learns.
    moves : bool
        Whether it is shown other memory for every batch, as a network's first wire is.
    """

    __slots__ = ("full", "gradient", "moves")

    def __init__(self, full: Matrix, gradient: Matrix | None, *, moves: bool = False) -> None:
        self.full, self.gradient, self.moves = full, gradient, moves

    @property
    def value(self) -> Matrix:
        """The outputs, of shape (…, units, batch)."""
        return self.full[..., :-1, :]

    def settled(self, workspace: Workspace) -> tuple[Matrix, Step]:
        """Return where the outputs always are, and the step that brings them there."""
        if not self.moves:
            return self.value, nothing
        place = workspace.array(*self.value.shape)
        return place, lambda: np.copyto(place, self.value)

    @property
    def units(self) -> int:
        """How many units."""
        return int(self.full.shape[-2]) - 1

    @property
    def batch(self) -> int:
        """How many examples."""
        return int(self.full.shape[-1])


class Workspace:
    """Hands out the arrays of one bound network.

    Parameters
    ----------
    dtype : dtype
        Of every array.
    batch : int
        How many examples.
    rng : numpy.random.Generator, or one for each of stacked networks, optional
        Where dropout draws from. Without one the network behaves as in a prediction.
    learns : bool
        Whether gradients are wanted.
    shares : bool
        Whether a layer and its activation may share their memory, so that more of a step stays
        in cache. The wire between them then does not show what it was before the activation.
    stack : Shape
        The leading axes of every wire: () for one network, (K,) for K that are stacked.

    Attributes
    ----------
    source : Wire or None
        What the network is fed through; it is where a mask of steps is found.
    """

    source: Wire | None = None

    def __init__(
        self,
        dtype: DTypeLike,
        batch: int,
        *,
        rng: np.random.Generator | Sequence[np.random.Generator] | None = None,
        learns: bool = False,
        shares: bool = False,
        stack: Shape = (),
    ) -> None:
        self.dtype, self.batch, self.rng = np.dtype(dtype), batch, rng
        self.learns, self.shares, self.stack = learns, shares, stack
        self._scratch = self.array(0)

    def array(self, *shape: int) -> Tensor:
        """Return an array of zeros."""
        return aligned_zeros(shape, self.dtype)

    def scratch(self, *shape: int) -> Tensor:
        """Return an array for what one step back leaves to nobody: such arrays share memory."""
        size = math.prod(shape)
        if self._scratch.size < size:
            self._scratch = self.array(size)
        return self._scratch[:size].reshape(shape)

    def mask(self, *shape: int) -> NDArray[np.bool_]:
        """Return an array of truth values."""
        return np.zeros(shape, dtype=np.bool_)

    def places(self, *shape: int) -> NDArray[np.intp]:
        """Return an array of whole numbers, to index others with."""
        return np.zeros(shape, dtype=np.intp)

    def scalar(self, value: float) -> Tensor:
        """Return a number as an array without dimensions: NumPy is quicker with these."""
        return np.array(value, dtype=self.dtype)

    def by_example(self) -> Tensor:
        """Return zeros of shape (…, 1, batch): one for every example."""
        return self.array(*self.stack, 1, self.batch)

    def wire(self, units: int, *, learns: bool = True, moves: bool = False) -> Wire:
        """Return a wire; with a gradient where something below it ``learns``, if any is wanted."""
        full = self.array(*self.stack, units + 1, self.batch)
        full[..., -1, :] = 1
        learns = learns and self.learns
        gradient = self.array(*self.stack, units, self.batch) if learns else None
        return Wire(full, gradient, moves=moves)


@dataclass
class Settling:
    """How the examples of the last pass settled, in a layer that relaxes.

    Parameters
    ----------
    settled : array of bool of shape (batch,)
        Which of them did: after the way back, there and back.
    forward_iterations, backward_iterations : int
        What they took, all told.
    """

    settled: NDArray[np.bool_]
    forward_iterations: int = 0
    backward_iterations: int = 0


@dataclass(frozen=True)
class Bound:
    """A layer that was bound to a batch size.

    Parameters
    ----------
    output : Wire
    forward : callable
        Fills ``output.value`` from the input.
    backward : callable
        Reads ``output.gradient``, fills the input's gradient if it has one, and
        the layer's part of the network's gradient.
    settling : Settling, optional
        Of a layer that relaxes.
    """

    output: Wire
    forward: Step
    backward: Step
    settling: Settling | None = None


def nothing() -> None:
    """Do nothing, where a layer has nothing to do."""
