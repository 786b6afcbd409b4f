"""A model as an ONNX file: raw columns in, labels and probabilities or values out."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from app.config import VERSION
from app.export.columns import declare, encoded
from app.export.graph import ROWS, SEQUENCES, Graph, UnportableError, whole
from app.export.layers import through
from app.export.sequences import fed_back, laid_out, last_values
from app.export.value import Value
from engine.data import quantiles
from engine.data.targets import ClassEncoder, ClassName, TargetScaler
from engine.model import Model
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
    if model.network.numbers.nbytes > LARGEST_BYTES:
        raise UnportableError("such a file has less than 2 GiB")
    inputs, sequence, lengths = {column.name for column in model.inputs}, model.sequence, None
    if sequence is not None and sequence.mask:
        lengths = _name(LENGTHS, inputs, "sequence_")
        inputs.add(lengths)
    examples = ROWS if sequence is None else SEQUENCES
    graph = Graph(model_id, inputs | _reserved(model), examples)
    x = _rows(graph, model) if sequence is None else laid_out(graph, model, sequence.steps, lengths)
    if isinstance(model.target, ClassEncoder):
        _classes(graph, _answer(model, x), model.target, inputs)
    else:
        _values(graph, _numbers(model, model.target, x), model, model.target, inputs)
    file = graph.model
    file.producer_name, file.producer_version = "chainrule", VERSION
    helper.set_model_props(file, _facts(model, model_id))
    return bytes(file.SerializeToString())


def _reserved(model: Model) -> set[str]:
    """Return names that outputs may have."""
    outputs = number_names(model) if model.classes is None else ()
    return {f"{before}{name}" for before in ("", PREDICTED) for name in (*OUTPUTS, *outputs)}


OUTPUTS = LABEL, PROBABILITIES = "label", "probabilities"
PREDICTED = "predicted_"
"""Before an output that is called like an input; in a graph every name is there once."""

LENGTHS = "lengths"
"""The input that says how many steps of each sequence are there, where they are padded."""


def _name(wanted: str, inputs: set[str], before: str = PREDICTED) -> str:
    while wanted in inputs:
        wanted = f"{before}{wanted}"
    return wanted


def _rows(graph: Graph, model: Model) -> Value:
    """Declare every column, and return what the network sees of rows."""
    columns = {column.name: declare(graph, column) for column in model.inputs}
    dtype = model.network.numbers.dtype
    x = encoded(graph, model.features.encodings, columns, dtype)
    return Value(graph, x, dtype, (model.features.width,))


def _answer(model: Model, x: Value) -> Value:
    """Return what the network answers, as `engine.network.answer`."""
    output = model.network.architecture.output
    logits = through(model.network.layers, x)
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


def _numbers(model: Model, target: TargetScaler, x: Value) -> str:
    """Return predicted numbers, or quantiles, in the targets' own units."""
    sequence, predict = model.sequence, partial(_invert, model, target)
    bases = None
    if sequence is not None and sequence.relative:
        bases = last_values(x.graph, model.outputs, sequence.steps)
    if sequence is not None and sequence.recurs:
        return fed_back(model, x, bases, predict)
    return predict(x, bases)


def _invert(model: Model, target: TargetScaler, x: Value, bases: str | None) -> str:
    """Return answers in the targets' own units, as `TargetScaler.invert`, but not in order."""
    y, graph = _answer(model, x), x.graph
    values = y.name if y.dtype == np.float64 else graph.add("Cast", y.name, to=TensorProto.DOUBLE)
    scale, shift = (each.repeat(target.copies) for each in (target.deviation, target.mean))
    values = graph.add("Add", graph.add("Mul", values, scale), shift)
    if bases is None:
        return values
    places = np.arange(len(target.targets)).repeat(target.horizon * target.copies)
    return graph.add("Add", values, graph.add("Gather", bases, places, axis=1))


def _values(
    graph: Graph, values: str, model: Model, target: TargetScaler, inputs: set[str]
) -> None:
    """Declare every target, and the quantiles of each, as an output, in its own unit."""
    if target.quantiles:
        values = _with_middle(graph, values, target.quantiles)
    for place, name in enumerate(number_names(model)):
        value = graph.add("Gather", values, np.int64(place), axis=1)
        graph.output(value, _name(name, inputs), np.dtype(np.float64), (), "in its own unit")


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
