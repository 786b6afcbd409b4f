"""Tables, specs and examples to begin a test with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.data.table import Column, Table
from engine.network import build_network, initialize_network
from engine.spec import DenseLayer, NetworkSpec, ResolvedSpec, Validation
from engine.training import Examples, TrainingData

DATA = Path(__file__).parents[2] / "examples" / "data"


def column(name, values):
    """A column of the type that the values suggest: text makes a category, nesting a tensor."""
    if isinstance(values, np.ndarray) and values.ndim > 1:
        return Column(name, "tensor", values)
    if any(isinstance(value, str) for value in values):
        levels = sorted({value for value in values if value is not None})
        codes = [-1 if value is None else levels.index(value) for value in values]
        return Column(name, "category", np.array(codes, dtype=np.int32), tuple(levels))
    present = [value for value in values if value is not None]
    kind = {bool: "boolean", int: "integer"}.get(type(present[0]), "number")
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
        "validation": Validation(fraction=0.0),
    }
    return ResolvedSpec(**{**decided, **changes})


def network(layers, inputs, outputs, *, output="identity", dtype=np.float64, seed=0):
    """A network with drawn weights; its biases are drawn as well."""
    built = build_network(NetworkSpec(layers=layers), inputs, outputs, output, dtype)
    rng = np.random.default_rng(seed)
    initialize_network(built, rng)
    for name, tensor in built.tensors().items():
        if name.endswith("bias"):
            tensor[:] = rng.standard_normal(tensor.shape) / 2
    return built


def targets_of(loss_key, rows, outputs, rng):
    """Something to learn that suits a key of ``LOSSES``: labels after a softmax, else numbers."""
    _, output = loss_key
    if output == "softmax":
        return rng.integers(0, outputs, rows)
    return rng.standard_normal((rows, outputs))


def examples(rows, *, inputs=2, classes=3, seed=0, dtype=np.float32):
    """Rows around one center a class, so close that there is something left to learn."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, rows)
    centers = np.random.default_rng(1).standard_normal((classes, inputs))
    return Examples((centers[y] + rng.standard_normal((rows, inputs))).astype(dtype), y)


def data(training, validation=None, measure=lambda _predictions, _y: {}):
    """Training data that is not measured unless asked."""
    return TrainingData(training, validation, measure)
