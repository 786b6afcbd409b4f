"""Cells of recurrent layers, step by step: exact in float64, but not quick."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from app.export.graph import Graph, whole
from app.export.value import Value
from engine.layers.cell import Cell
from engine.layers.gru import Gru
from engine.layers.layer import Tensors
from engine.layers.lstm import Lstm
from engine.layers.recurrent import REVERSE, Recurrent
from engine.layers.rnn import ReluRnn, Rnn

Names = Sequence[str]


def parts_of(layer: Recurrent, prefix: str) -> Tensors:
    """Return the tensors of one direction, by the names that they have in a direction."""
    return {
        name.removeprefix(REVERSE): tensor
        for name, tensor in layer.split(layer.parameters).items()
        if name.startswith(REVERSE) == bool(prefix)
    }


def read_by_cells(layer: Recurrent, by_step: Value, name: str, *, last: bool) -> Value:
    """Read sequences of shape (steps, examples, inputs).

    Returns
    -------
    Value of shape (units,) or (steps, units)
        The last state of each direction, or all of them.
    """
    graph, (steps, _) = by_step.graph, layer.input_shape
    units = layer.settings.units * len(layer.prefixes)
    there = by_step.there(steps)
    if there is not None:
        there = graph.add("Unsqueeze", graph.add("Transpose", there, perm=[1, 0]), whole(2))
    each = [_read(layer, prefix, by_step, there, name) for prefix in layer.prefixes]
    first, *others = (states[not last] for states in each)
    found = first.then("Concat", *others, axis=-1, shape=(units,))
    return found if last else found.then("Transpose", perm=[1, 0, 2], shape=(steps, units))


def _read(
    layer: Recurrent, prefix: str, by_step: Value, there: str | None, name: str
) -> tuple[Value, Value]:
    """Read in one direction; return the last state, and all by step."""
    graph, cell, parts = by_step.graph, CELLS[layer.cell], parts_of(layer, prefix)
    named, zero = f"{name}.{prefix}", by_step.dtype.type(0)
    sums = []
    for weight, bias in zip(parts["weight"], parts["bias"], strict=True):
        product = by_step.then("MatMul", by_step.constant(weight.T, f"{named}weight"))
        sums.append(product.then("Add", by_step.constant(bias, f"{named}bias")).name)
    weights = [by_step.constant(weight.T, f"{named}recurrent") for weight in parts["recurrent"]]

    def step(before: Names, now: Names) -> tuple[Names, Names]:
        recalled = [graph.add("MatMul", before[0], weight) for weight in weights]
        if layer.cell is Gru:
            bias = by_step.constant(parts["recurrent_bias"], f"{named}recurrent_bias")
            recalled[-1] = graph.add("Add", recalled[-1], bias)
        after = cell(graph, now[: len(weights)], recalled, before)
        if there is None:
            return after, after[:1]
        kept = [graph.add("Where", now[-1], *both) for both in zip(after, before, strict=True)]
        return kept, [graph.add("Where", now[-1], after[0], zero)]

    nothing = graph.add("Expand", zero, graph.add("Shape", sums[0], start=1))
    begin = [nothing] * (2 if layer.cell is Lstm else 1)
    read = sums if there is None else [*sums, there]
    [end, *_], [states] = graph.scan(step, begin, read, backwards=bool(prefix))
    return replace(by_step, name=end), replace(by_step, name=states)


def _activated(graph: Graph, activation: str, *pair: str) -> str:
    return graph.add(activation, graph.add("Add", *pair))


def _rnn(graph: Graph, sums: Names, recalled: Names, _before: Names) -> Names:
    return [_activated(graph, "Tanh", *sums, *recalled)]


def _relu_rnn(graph: Graph, sums: Names, recalled: Names, _before: Names) -> Names:
    return [_activated(graph, "Relu", *sums, *recalled)]


def _gru(graph: Graph, sums: Names, recalled: Names, before: Names) -> Names:
    """Return ``h = n + z * (h - n)``."""
    *logistic, of_input = sums
    r, z = (
        _activated(graph, "Sigmoid", *pair) for pair in zip(logistic, recalled[:2], strict=True)
    )
    n = _activated(graph, "Tanh", of_input, graph.add("Mul", r, recalled[2]))
    part = graph.add("Mul", z, graph.add("Sub", before[0], n))
    return [graph.add("Add", n, part)]


def _lstm(graph: Graph, sums: Names, recalled: Names, before: Names) -> Names:
    """Return ``h = o * tanh(c)`` and ``c = f * c + i * g``."""
    gates = zip(sums, recalled, ("Sigmoid",) * 3 + ("Tanh",), strict=True)
    o, f, i, g = (_activated(graph, activation, *pair) for *pair, activation in gates)
    c = graph.add("Add", graph.add("Mul", f, before[1]), graph.add("Mul", i, g))
    return [graph.add("Mul", o, graph.add("Tanh", c)), c]


CELLS: Mapping[type[Cell], Callable[[Graph, Names, Names, Names], Names]] = {
    Rnn: _rnn,
    ReluRnn: _relu_rnn,
    Gru: _gru,
    Lstm: _lstm,
}
"""What becomes of the sums of each gate, from the inputs and from the state; the state is first."""
