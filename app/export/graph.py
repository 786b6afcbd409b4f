"""An ONNX graph, put together node by node."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from engine.arrays import Shape

IR_VERSION = 8
OPSETS = {"": 17, "ai.onnx.ml": 3}
"""Of 2022, when every operator that is needed was there: ONNX Runtime 1.13 and later run them."""

ROWS, SEQUENCES = "rows", "sequences"
"""The first dimension of everything that goes in or comes out: what an example is."""

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

Step = Callable[[Sequence[str], Sequence[str]], tuple[Sequence[str], Sequence[str]]]
"""Adds what is done in a step: takes states and what is read, gives new states and answers."""


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
    examples : str
        What its first dimension counts.
    """

    def __init__(self, name: str, taken: Collection[str], examples: str = ROWS) -> None:
        self.model = ModelProto(ir_version=IR_VERSION)
        self.model.graph.name = name
        for domain, version in OPSETS.items():
            self.model.opset_import.append(helper.make_opsetid(domain, version))
        self._inner, self.examples = self.model.graph, examples
        self._taken = set(taken)
        self._counts: dict[str, int] = {}
        self._shared: dict[tuple[str, Shape, bytes], str] = {}

    def add(
        self,
        operator: str,
        *operands: Operand,
        domain: str = "",
        omitted: int = 0,
        unused: int = 0,
        **attributes: Any,
    ) -> str:
        """Add a node; return the name of an output.

        Outputs before it may be omitted, if the operator has them as options; others after it be
        unused.
        """
        names = [x if isinstance(x, str) else self.constant(x) for x in operands]
        output = self._fresh(operator)
        others = (self._fresh(f"{operator}_unused") for _ in range(unused))
        outputs = [*[""] * omitted, output, *others]
        node = helper.make_node(operator, names, outputs, output, domain=domain, **attributes)
        self._inner.node.append(node)
        return output

    def scan(
        self, step: Step, states: Sequence[str], read: Sequence[str], *, backwards: bool = False
    ) -> tuple[list[str], list[str]]:
        """Add a node that takes one step after another.

        Parameters
        ----------
        step : Step
        states : sequence of str
            Before the first step.
        read : sequence of str
            Whose first dimension is that of the steps.
        backwards : bool
            Whether the last step is the first to be taken.

        Returns
        -------
        states : list of str
            After the last step.
        answers : list of str
            Of every step, in the order in which they were read.
        """
        outer, self._inner = self._inner, GraphProto(name=self._fresh("step"))
        before, now = ([self._fresh("Scan_of") for _ in names] for names in (states, read))
        after = [list(names) for names in step(before, now)]
        body, self._inner = self._inner, outer
        body.input.extend(map(helper.make_empty_tensor_value_info, [*before, *now]))
        # An output is to be a value of the body's own, and no two are to be the same.
        for names in after:
            for place, name in enumerate(names):
                names[place] = self._fresh("Scan_to")
                body.node.append(helper.make_node("Identity", [name], [names[place]]))
        body.output.extend(map(helper.make_empty_tensor_value_info, sum(after, [])))
        found = [[self._fresh("Scan") for _ in names] for names in after]
        node = helper.make_node(
            "Scan",
            [*states, *read],
            sum(found, []),
            found[0][0],
            body=body,
            num_scan_inputs=len(read),
            scan_input_directions=[int(backwards)] * len(read),
            scan_output_directions=[int(backwards)] * len(after[1]),
        )
        self._inner.node.append(node)
        return found[0], found[1]

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
        self.model.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def cast(self, x: str, dtype: np.dtype[Any]) -> str:
        """Convert float64 to ``dtype``."""
        return x if dtype == np.float64 else self.add("Cast", x, to=TYPES[dtype])

    def input(self, name: str, dtype: np.dtype[Any], shape: Shape, meaning: str) -> None:
        """Declare an input; ``shape`` is that of an example."""
        self.model.graph.input.append(self._info(name, dtype, shape, meaning))

    def output(self, x: str, name: str, dtype: np.dtype[Any], shape: Shape, meaning: str) -> None:
        """Declare a value as an output; ``shape`` is that of an example."""
        self.model.graph.node.append(helper.make_node("Identity", [x], [name], name))
        self.model.graph.output.append(self._info(name, dtype, shape, meaning))

    def _info(self, name: str, dtype: np.dtype[Any], shape: Shape, meaning: str) -> Any:
        dimensions: list[str | int | None] = [self.examples, *shape]
        return helper.make_tensor_value_info(name, TYPES[dtype], dimensions, meaning)

    def _fresh(self, stem: str) -> str:
        """Return a name that nothing has yet."""
        name = stem
        while name in self._taken:
            self._counts[stem] = self._counts.get(stem, 1) + 1
            name = f"{stem}_{self._counts[stem]}"
        self._taken.add(name)
        return name


def whole(*numbers: int) -> NDArray[np.int64]:
    """Return whole numbers as a constant of one dimension."""
    return np.array(numbers, dtype=np.int64)
