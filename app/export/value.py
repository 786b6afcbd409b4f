"""Value: what a layer takes and gives, with its precision and its shape."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.export.graph import Graph, whole
from engine.arrays import Shape


@dataclass(frozen=True)
class Value:
    """A value of the graph.

    Parameters
    ----------
    graph : Graph
    name : str
    dtype : dtype
        The network's precision.
    shape : Shape
        Of an example.
    lengths : str, optional
        Of sequences that are padded: how many steps of each are there, shape (examples,).
    """

    graph: Graph
    name: str
    dtype: np.dtype[Any]
    shape: Shape
    lengths: str | None = None

    def shaped(self, shape: Shape) -> Value:
        """Return the same numbers in another shape."""
        if shape == self.shape:
            return self
        return self.then("Reshape", whole(0, *shape), shape=shape)

    def then(
        self, operator: str, *others: Any, shape: Shape | None = None, **attributes: Any
    ) -> Value:
        """Return what an operator makes of it; numbers among the others get its precision."""
        operands = [self._operand(other) for other in others]
        name = self.graph.add(operator, self.name, *operands, **attributes)
        return replace(self, name=name, shape=self.shape if shape is None else shape)

    def _operand(self, other: Any) -> Any:
        if isinstance(other, Value):
            return other.name
        return self.dtype.type(other) if isinstance(other, float | int) else other

    def constant(self, numbers: NDArray[Any], name: str) -> str:
        """Add a constant of its precision."""
        return self.graph.constant(numbers.astype(self.dtype, copy=False), name)

    def there(self, steps: int) -> str | None:
        """Return which steps are there, shape (examples, steps); None if all are."""
        if self.lengths is None:
            return None
        ends = self.graph.add("Unsqueeze", self.lengths, whole(1))
        return self.graph.add("Less", np.arange(steps)[None], ends)
