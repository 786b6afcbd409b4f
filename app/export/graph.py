"""An ONNX graph, put together node by node."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from engine.arrays import Shape

IR_VERSION = 8
OPSETS = {"": 17, "ai.onnx.ml": 3}
"""Of 2022, when every operator that is needed was there: ONNX Runtime 1.13 and later run them."""

ROWS = "rows"
"""The first dimension of everything that goes in or comes out."""

SHARED_NUMBERS = 16
"""Constants of so few numbers are stored once, however often they are used."""

TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float64): TensorProto.DOUBLE,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(object): TensorProto.STRING,
}

Operand = str | NDArray[Any] | np.generic
"""The name of a value of the graph, or a constant."""


class UnportableError(Exception):
    """The model cannot be written as ONNX.

    Parameters
    ----------
    reason : str
        To be read after "because".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"this model cannot be written as ONNX because {reason}")


class Graph:
    """A graph that grows.

    Parameters
    ----------
    name : str
    taken : collection of str
        Names that inputs and outputs have.
    """

    def __init__(self, name: str, taken: Collection[str]) -> None:
        self.model = ModelProto(ir_version=IR_VERSION)
        self.model.graph.name = name
        for domain, version in OPSETS.items():
            self.model.opset_import.append(helper.make_opsetid(domain, version))
        self._graph = self.model.graph
        self._taken = set(taken)
        self._counts: dict[str, int] = {}
        self._shared: dict[tuple[str, Shape, bytes], str] = {}

    def add(
        self,
        operator: str,
        *operands: Operand,
        domain: str = "",
        unused: int = 0,
        **attributes: Any,
    ) -> str:
        """Add a node; return the name of its first output, after which others may be unused."""
        names = [x if isinstance(x, str) else self.constant(x) for x in operands]
        output = self._fresh(operator)
        outputs = [output, *(self._fresh(f"{operator}_unused") for _ in range(unused))]
        node = helper.make_node(operator, names, outputs, output, domain=domain, **attributes)
        self._graph.node.append(node)
        return output

    def constant(self, value: NDArray[Any] | np.generic, name: str = "constant") -> str:
        """Add a constant; return its name."""
        array = np.asarray(value)
        if array.size > SHARED_NUMBERS or array.dtype == object:
            return self._store(array, name)
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._shared:
            self._shared[key] = self._store(array, name)
        return self._shared[key]

    def _store(self, array: NDArray[Any], stem: str) -> str:
        name = self._fresh(stem)
        self._graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def cast(self, x: str, dtype: np.dtype[Any]) -> str:
        """Convert float64 to ``dtype``."""
        return x if dtype == np.float64 else self.add("Cast", x, to=TYPES[dtype])

    def input(self, name: str, dtype: np.dtype[Any], shape: Shape, meaning: str) -> None:
        """Declare an input; ``shape`` is that of a row."""
        self._graph.input.append(_info(name, dtype, shape, meaning))

    def output(self, x: str, name: str, dtype: np.dtype[Any], shape: Shape, meaning: str) -> None:
        """Declare a value as an output; ``shape`` is that of a row."""
        self._graph.node.append(helper.make_node("Identity", [x], [name], name))
        self._graph.output.append(_info(name, dtype, shape, meaning))

    def _fresh(self, stem: str) -> str:
        """Return a name that nothing has yet."""
        name = stem
        while name in self._taken:
            self._counts[stem] = self._counts.get(stem, 1) + 1
            name = f"{stem}_{self._counts[stem]}"
        self._taken.add(name)
        return name


def _info(name: str, dtype: np.dtype[Any], shape: Shape, meaning: str) -> Any:
    return helper.make_tensor_value_info(name, TYPES[dtype], [ROWS, *shape], meaning)


def whole(*numbers: int) -> NDArray[np.int64]:
    """Return whole numbers as a constant of one dimension."""
    return np.array(numbers, dtype=np.int64)
