"""A model as an ONNX file: raw columns in, labels and probabilities or values out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from app.config import VERSION
from app.export.columns import declare, encoded
from app.export.graph import Graph, UnportableError, whole
from app.export.layers import Value, through
from engine.data import quantiles
from engine.data.targets import ClassEncoder, ClassName, TargetScaler
from engine.model import Model
from engine.network import Output
from engine.scoring import number_names

LARGEST_BYTES = 2**31 - 2**26
"""Of weights: a file of Protocol Buffers ends at 2 GiB, and there are other things in it."""

LARGEST_INTEGER = 2**63 - 1


def onnx_of(model: Model, model_id: str) -> bytes:
    """Return a model as an ONNX file.

    Raises
    ------
    UnportableError
        It has something that ONNX has no operators for, or is too large.
    """
    _check(model)
    names = {column.name for column in model.inputs}
    graph, network = Graph(model_id, names | _reserved(model)), model.network
    for column in model.inputs:
        declare(graph, column)
    dtype = network.numbers.dtype
    x = encoded(graph, model.features.encodings, dtype)
    logits = through(network.layers, Value(graph, x, dtype, (model.features.width,)))
    y = _answer(logits, network.architecture.output)
    if isinstance(model.target, ClassEncoder):
        _classes(graph, y, model.target, names)
    else:
        _values(graph, y, model, model.target, names)
    file = graph.model
    file.producer_name, file.producer_version = "chainrule", VERSION
    helper.set_model_props(file, _facts(model, model_id))
    return bytes(file.SerializeToString())


def _check(model: Model) -> None:
    if model.network.architecture.inputs.shape != model.features.shape:
        raise UnportableError("it sees several rows at a time")
    if model.network.numbers.nbytes > LARGEST_BYTES:
        raise UnportableError("such a file has less than 2 GiB")


def _reserved(model: Model) -> set[str]:
    """Return names that outputs may have."""
    outputs = number_names(model) if model.classes is None else ()
    return {f"{before}{name}" for before in ("", PREDICTED) for name in (*OUTPUTS, *outputs)}


OUTPUTS = LABEL, PROBABILITIES = "label", "probabilities"
PREDICTED = "predicted_"
"""Before an output that is called like an input; in a graph every name is there once."""


def _name(wanted: str, inputs: set[str]) -> str:
    while wanted in inputs:
        wanted = f"{PREDICTED}{wanted}"
    return wanted


def _answer(logits: Value, output: Output) -> Value:
    """Return what a prediction makes of logits, as `engine.network.answer`."""
    if output == "softmax":
        return logits.then("Softmax", axis=1)
    if output == "sigmoid":
        second = logits.then("Sigmoid")
        first = second.then("Neg").then("Add", 1)
        return first.then("Concat", second, axis=1, shape=(2,))
    return logits.then("Exp") if output == "exp" else logits


def _classes(graph: Graph, y: Value, target: ClassEncoder, inputs: set[str]) -> None:
    names = _named(target.classes)
    likeliest = graph.add("ArgMax", y.name, axis=1, keepdims=0)
    label = graph.add("Gather", graph.constant(names, "classes"), likeliest)
    meaning = "the likeliest class"
    graph.output(label, _name(LABEL, inputs), names.dtype, (), meaning)
    meaning = "of each class, in the order of `classes` in the metadata"
    graph.output(y.name, _name(PROBABILITIES, inputs), y.dtype, y.shape, meaning)


def _named(classes: tuple[ClassName, ...]) -> NDArray[Any]:
    """Return classes as integers if all of them are, else as texts."""
    if all(type(name) is int and abs(name) <= LARGEST_INTEGER for name in classes):
        return np.array(classes, dtype=np.int64)
    said = [name if isinstance(name, str) else json.dumps(name) for name in classes]
    return np.array(said, dtype=object)


def _values(graph: Graph, y: Value, model: Model, target: TargetScaler, inputs: set[str]) -> None:
    """Declare every target, and the quantiles of each, as an output, in its own unit."""
    double = np.dtype(np.float64)
    scale, shift = (each.repeat(target.copies) for each in (target.deviation, target.mean))
    values = y.name if y.dtype == double else graph.add("Cast", y.name, to=TensorProto.DOUBLE)
    values = graph.add("Add", graph.add("Mul", values, scale), shift)
    if target.quantiles:
        values = _with_middle(graph, values, target.quantiles)
    for place, name in enumerate(number_names(model)):
        value = graph.add("Gather", values, np.int64(place), axis=1)
        graph.output(value, _name(name, inputs), double, (), "in its own unit")


def _with_middle(graph: Graph, answers: str, levels: tuple[float, ...]) -> str:
    """Return the value of every target, then the quantiles of each, rising."""
    count = whole(len(levels))
    answers = graph.add("Reshape", answers, whole(0, -1, len(levels)))
    answers = graph.add("TopK", answers, count, unused=1, axis=2, largest=0)
    middle = graph.add("Gather", answers, whole(*quantiles.middle(levels)), axis=2)
    values = graph.add("ReduceMean", middle, axes=[2], keepdims=0)
    return graph.add("Concat", values, graph.add("Reshape", answers, whole(0, -1)), axis=1)


def _facts(model: Model, model_id: str) -> dict[str, str]:
    facts = {"model": model_id, "task": model.settings.task, "targets": json.dumps(model.outputs)}
    return facts if model.classes is None else {**facts, "classes": json.dumps(model.classes)}
