"""Embedding: each level of a category has a vector that is learnt."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from engine import spec
from engine.arrays import Matrix, Shape, Tensor
from engine.layers.layer import Layer
from engine.wires import Bound, Wire, Workspace, nothing


class Embedding(Layer):
    """Replaces the codes of categories by vectors; other inputs pass, first.

    Of a sequence it does so step by step: a level has the same vector at every step. What is
    padding stays 0, and teaches no level. A code has no slope: its gradient stays 0.

    Parameters
    ----------
    settings : spec.EmbeddingLayer
    input_shape : Shape
    levels : mapping of int to int
        The inputs that are codes, of a step where there are some, and how many levels each has.
    steps : int, optional
        Of a sequence: its numbers come in as (steps, width), flat.
    masked : bool
        Whether as many numbers again come in behind them, 0 for a step that is padding.

    Attributes
    ----------
    sequence : Shape or None
        The steps that go out, and the numbers of one.
    """

    def __init__(
        self,
        settings: spec.EmbeddingLayer,
        input_shape: Shape,
        levels: Mapping[int, int],
        *,
        steps: int | None = None,
        masked: bool = False,
    ) -> None:
        self.levels, self.dimensions, self.masked = dict(levels), settings.dimensions, masked
        self.steps = steps or 1
        self.inputs = input_shape[0] // self.steps - masked
        self.others = [place for place in range(self.inputs) if place not in self.levels]
        self.width = len(self.others) + len(self.levels) * self.dimensions
        self.sequence = None if steps is None else (steps, self.width)
        super().__init__(input_shape, (self.steps * (self.width + masked),))
        self.parameter_shapes = {
            f"vectors_{place}": (count, self.dimensions) for place, count in self.levels.items()
        }

    def initialize(self, rng: np.random.Generator) -> None:
        """Draw the vectors from N(0, 1), as Holzmüller et al. (2024) do.

        Deviation: that of code 0, which is for levels that are not known,
        begins in the middle. It may be that no row is there to teach it.
        """
        for vectors in self.parameters.values():
            rng.standard_normal(out=vectors, dtype=vectors.dtype.type)
            vectors[0] = 0

    def bind(self, x: Wire, workspace: Workspace) -> Bound:
        """Bind to a batch."""
        y = workspace.wire(self.units)
        numbers = len(self.others)
        places = [
            (place, slice(start, start + self.dimensions))
            for start, place in zip(
                range(numbers, self.width, self.dimensions), self.levels, strict=True
            )
        ]

        codes = workspace.places(self.steps, workspace.batch)
        found = workspace.array(self.steps, workspace.batch, self.dimensions)

        def read(place: int) -> None:
            """Take the codes of every step."""
            np.copyto(codes, self._by_step(x.value, self.inputs)[:, place], casting="unsafe")

        def forward() -> None:
            given = self._by_step(x.value, self.inputs)
            answered = self._by_step(y.value, self.width)
            answered[:, :numbers] = given[:, self.others]
            self._mask(y.value)[:] = self._mask(x.value)
            for place, part in places:
                read(place)
                # Only where it does not check the codes does it write where it is told to.
                np.take(self.parameters[f"vectors_{place}"], codes, 0, found, mode="clip")
                answered[:, part] = self._there(found.swapaxes(1, 2), x)

        dx, dy = x.gradient, y.gradient
        if dy is None:
            return Bound(y, forward, nothing)
        arrived = self._by_step(dy, self.width)

        def backward() -> None:
            if dx is not None:
                self._by_step(dx, self.inputs)[:, self.others] = arrived[:, :numbers]
                self._mask(dx)[:] = self._mask(dy)
            for place, part in places:
                read(place)
                d_vectors = self.gradients[f"vectors_{place}"]
                d = self._there(arrived[:, part], x).swapaxes(0, 1)
                for of_dimension, d_found in zip(d_vectors.T, d, strict=True):
                    total = np.bincount(codes.ravel(), d_found.ravel(), len(d_vectors))
                    of_dimension[:] = total

        return Bound(y, forward, backward)

    def _there(self, values: Tensor, x: Wire) -> Tensor:
        """Return numbers of shape (steps, numbers, batch), with 0 where a step is padding."""
        return values * self._mask(x.value)[:, None] if self.masked else values

    def _by_step(self, values: Matrix, width: int) -> Tensor:
        """Return numbers without the mask, as a view of shape (steps, width, batch)."""
        return values[: self.steps * width].reshape(self.steps, width, -1)

    def _mask(self, values: Matrix) -> Matrix:
        """Return the mask, as a view of shape (steps, batch), or of no rows."""
        return values[len(values) - self.steps * self.masked :]
