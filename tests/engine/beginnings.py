"""Tables, specs and examples to begin a test with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine import checkpoint, training
from engine.data.batches import Examples
from engine.data.table import Column, Table
from engine.network import Architecture, Inputs
from engine.spec import DenseLayer, NetworkSpec, ResolvedSpec, ValidationPart, loss_of
from engine.training import TrainingData, architecture_of

DATA = Path(__file__).parents[2] / "examples" / "data"


def column(name, values):
    """A column of the type that the values suggest: text makes a category, nesting a tensor."""
    if isinstance(values, np.ndarray) and values.ndim > 1:
        return Column(name, "tensor", values)
    if any(isinstance(value, str) for value in values):
        levels = sorted({value for value in values if value is not None})
        codes = [-1 if value is None else levels.index(value) for value in values]
        return Column(name, "category", np.array(codes, dtype=np.int32), tuple(levels))
    first = next((value for value in values if value is not None), None)
    kind = {bool: "boolean", int: "integer"}.get(type(first), "number")
    numbers = [np.nan if value is None else value for value in values]
    return Column(name, kind, np.array(numbers, dtype=np.float64))


def table(**columns):
    """A table of columns by name."""
    return Table(tuple(column(name, values) for name, values in columns.items()))


def spec(**changes):
    """A resolved spec: three classes of ``y`` from ``x`` by a network of four tanh units."""
    decided = {
        "target": "y",
        "features": ["x"],
        "task": "classification",
        "network": NetworkSpec(layers=[DenseLayer(units=4, activation="tanh")]),
        "loss": "cross_entropy",
        "validation": ValidationPart(fraction=0.0),
    }
    decided |= changes
    if isinstance(decided["loss"], str):
        decided["loss"] = loss_of(decided["loss"])
    return ResolvedSpec(**decided)


def network(layers, inputs, outputs, *, output="identity", dtype=np.float64, seed=0):
    """A network with drawn weights; its biases are drawn as well."""
    hidden = NetworkSpec(layers=layers)
    built = Architecture(hidden, Inputs((inputs,)), outputs, output).build(dtype)
    rng = np.random.default_rng(seed)
    built.initialize(rng)
    for name, tensor in built.tensors().items():
        if name.endswith("bias"):
            tensor[:] = rng.standard_normal(tensor.shape) / 2
    return built


def start(how, *, inputs, outputs):
    """The state before the first update."""
    return training.start(how, architecture_of(how, Inputs((inputs,)), outputs))


def dump_state(state):
    """One state as bytes."""
    return checkpoint.dump_states([state], {})


def load_state(written, how, *, inputs, outputs):
    """The state that was written."""
    state = training.blank_state(how, architecture_of(how, Inputs((inputs,)), outputs))
    checkpoint.load_states(written, [state])
    return state


def with_ones(x):
    """Rows as a network takes them."""
    return np.concatenate([x, np.ones((len(x), 1), dtype=x.dtype)], axis=1)


def fed(x, y, outputs=None):
    """Examples of inputs and what should come out of them."""
    if outputs is None:
        outputs = y.shape[1] if y.ndim > 1 else 3
    return Examples(with_ones(x), y, outputs)


def examples(rows, *, inputs=2, classes=3, seed=0, dtype=np.float32):
    """Rows around one center a class, so close that there is something left to learn."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, rows)
    centers = np.random.default_rng(1).standard_normal((classes, inputs))
    return fed((centers[y] + rng.standard_normal((rows, inputs))).astype(dtype), y, classes)


def data(rows, validation=None, measure=lambda _predictions, _y: {}):
    """Training data that is not measured unless asked."""
    return TrainingData(rows, validation, measure)
