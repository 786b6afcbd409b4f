"""Recurrent layers: one operator reads sequences in float32, cells step by step in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import TensorProto

from app.export.cells import parts_of, read_by_cells
from app.export.graph import TYPES, whole
from app.export.value import Value
from engine.layers.cell import Cell
from engine.layers.gru import Gru
from engine.layers.lstm import Lstm
from engine.layers.recurrent import Recurrent
from engine.layers.rnn import ReluRnn, Rnn

OPERATORS: Mapping[type[Cell], tuple[str, list[int], list[str]]] = {
    Rnn: ("RNN", [0], ["Tanh"]),
    ReluRnn: ("RNN", [0], ["Relu"]),
    Gru: ("GRU", [1, 0, 2], ["Sigmoid", "Tanh"]),
    Lstm: ("LSTM", [2, 0, 1, 3], ["Sigmoid", "Tanh", "Tanh"]),
}
"""What runs a cell; where its gates, ``z, r, n`` or ``i, o, f, g``, are among ours; activations."""


def recurrent(layer: Recurrent, x: Value, name: str) -> Value:
    """Return what a layer answers of sequences: the state of every step, or what all come to."""
    steps, inputs = layer.input_shape
    numbers, settings = steps * inputs, layer.settings
    if x.shape not in (layer.input_shape, (numbers,)):
        # The mask comes in behind the numbers.
        x = x.then("Slice", whole(0), whole(numbers), whole(1), shape=(numbers,))
    by_step = x.shaped(layer.input_shape).then("Transpose", perm=[1, 0, 2])
    # ONNX Runtime has the operators in float32 only.
    read = _read_by_operator if x.dtype == np.float32 else read_by_cells
    last = not settings.return_sequences and settings.pooling in (None, "last")
    answer = read(layer, by_step, name, last=last)
    if settings.pooling == "mean":
        answer = _mean(answer)
    elif settings.pooling == "max":
        answer = _largest(answer)
    return answer.shaped(layer.output_shape)


def _read_by_operator(layer: Recurrent, by_step: Value, name: str, *, last: bool) -> Value:
    """Read sequences of shape (steps, examples, inputs).

    Returns
    -------
    Value of shape (units,) or (steps, units)
        The last state of each direction, or all of them.
    """
    graph, each = by_step.graph, [parts_of(layer, prefix) for prefix in layer.prefixes]
    (operator, order, activations), own = OPERATORS[layer.cell], layer.settings.units
    steps, rows, units = layer.input_shape[0], len(order) * own, own * len(each)
    operands = []
    for kind in ("weight", "recurrent"):
        weights = np.stack([parts[kind][order].reshape(rows, -1) for parts in each])
        operands.append(by_step.constant(weights, f"{name}.{kind}"))
    biases = np.zeros((len(each), 2, len(order), own))
    for of_direction, parts in zip(biases, each, strict=True):
        of_direction[0] = parts["bias"][order]
        of_direction[1, -1] = parts.get("recurrent_bias", 0)
    operands.append(by_step.constant(biases.reshape(len(each), -1), f"{name}.bias"))
    if by_step.lengths is not None:
        operands.append(graph.add("Cast", by_step.lengths, to=TensorProto.INT32))
    how: dict[str, Any] = {"linear_before_reset": 1} if layer.cell is Gru else {}
    found = by_step.then(
        operator,
        *operands,
        omitted=int(last),
        hidden_size=own,
        direction="bidirectional" if layer.settings.bidirectional else "forward",
        activations=activations * len(each),
        **how,
    )
    if last:
        ends = found.then("Transpose", perm=[1, 0, 2], shape=(len(each), own))
        return ends.shaped((units,))
    by_example = found.then("Transpose", perm=[2, 0, 1, 3], shape=(steps, len(each), own))
    return by_example.shaped((steps, units))


def _mean(states: Value) -> Value:
    """Return the mean over the steps that are there; the states of the others are 0."""
    steps, units = states.shape
    total = states.then("ReduceSum", whole(1), keepdims=0, shape=(units,))
    if states.lengths is None:
        return total.then("Div", steps)
    counts = states.graph.add("Cast", states.lengths, to=TYPES[states.dtype])
    return total.then("Div", states.graph.add("Unsqueeze", counts, whole(1)))


def _largest(states: Value) -> Value:
    """Return the largest states over the steps that are there."""
    (steps, units), graph = states.shape, states.graph
    there = states.there(steps)
    if there is not None:
        counted = graph.add("Unsqueeze", there, whole(2))
        lowest = states.dtype.type(-np.inf)
        states = replace(states, name=graph.add("Where", counted, states.name, lowest))
    return states.then("ReduceMax", axes=[1], keepdims=0, shape=(units,))
