"""Embedding: each level of a category has a vector that is learnt."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from engine import spec
from engine.arrays import Shape
from engine.layers.layer import Layer
from engine.wires import Bound, Wire, Workspace, nothing


class Embedding(Layer):
    """Replaces the codes of categories by vectors; other inputs pass, first.

    A code has no slope: its gradient stays 0.

    Parameters
    ----------
    settings : spec.EmbeddingLayer
    input_shape : Shape
    levels : mapping of int to int
        The inputs that are codes, and how many levels each has.
    """

    def __init__(
        self, settings: spec.EmbeddingLayer, input_shape: Shape, levels: Mapping[int, int]
    ) -> None:
        self.levels, self.dimensions = dict(levels), settings.dimensions
        self.others = [place for place in range(input_shape[0]) if place not in self.levels]
        width = len(self.others) + len(self.levels) * self.dimensions
        super().__init__(input_shape, (width,))
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
                range(numbers, self.units, self.dimensions), self.levels, strict=True
            )
        ]

        def forward() -> None:
            y.value[:numbers] = x.value[self.others]
            for place, rows in places:
                codes = x.value[place].astype(np.intp)
                y.value[rows] = self.parameters[f"vectors_{place}"][codes].T

        dx, dy = x.gradient, y.gradient
        if dy is None:
            return Bound(y, forward, nothing)

        def backward() -> None:
            if dx is not None:
                dx[self.others] = dy[:numbers]
            for place, rows in places:
                d_vectors = self.gradients[f"vectors_{place}"]
                d_vectors.fill(0)
                np.add.at(d_vectors, x.value[place].astype(np.intp), dy[rows].T)

        return Bound(y, forward, backward)
