"""Sequences: several rows of every column, laid out as `engine.data.windows` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from app.export.columns import INTEGER, declare, encoded
from app.export.graph import TYPES, Graph, whole
from app.export.value import Value
from engine.model import Model


def laid_out(graph: Graph, model: Model, steps: int, lengths: str | None) -> Value:
    """Declare every column, and return what the network sees of sequences.

    Parameters
    ----------
    graph : Graph
    model : Model
    steps : int
    lengths : str, optional
        The name of one more input, where sequences are padded: how many steps of each are there.
    """
    columns = {column.name: declare(graph, column, steps) for column in model.inputs}
    dtype, width = model.network.numbers.dtype, model.features.width
    rows = encoded(graph, model.features.encodings, columns, dtype)
    by_step = graph.add("Reshape", rows, whole(-1, steps, width))
    x = Value(graph, by_step, dtype, (steps, width), lengths)
    if lengths is not None:
        graph.input(lengths, INTEGER, (), f"how many of the {steps} steps are there; 1 or more")
    there = x.there(steps)
    if there is None:
        return x.shaped((steps * width,))
    of_step = graph.add("Unsqueeze", there, whole(2))
    x = replace(x, name=graph.add("Where", of_step, x.name, dtype.type(0)))
    mask = graph.add("Cast", there, to=TYPES[dtype])
    return x.shaped((steps * width,)).then("Concat", mask, axis=1, shape=(steps * (width + 1),))


def last_values(graph: Graph, names: Sequence[str], steps: int) -> str:
    """Return the last value in a window that each column has, shape (sequences, columns)."""
    each = []
    for name in names:
        missing = graph.add("IsNaN", name)
        known = graph.add("Where", missing, np.int64(-1), np.arange(steps)[None])
        last = graph.add("ReduceMax", known, axes=[1], keepdims=1)
        each.append(graph.add("GatherElements", name, last, axis=1))
    return each[0] if len(each) == 1 else graph.add("Concat", *each, axis=1)


def fed_back(
    model: Model, x: Value, bases: str | None, forecast: Callable[[Value, str | None], str]
) -> str:
    """Return forecasts of all steps, each seen as the newest row of the window by the next.

    Parameters
    ----------
    model : Model
    x : Value
        The windows.
    bases : str, optional
        What the first forecast is told as a difference from; shape (sequences, targets).
    forecast : callable
        Takes windows and bases, gives the values of one step, shape (sequences, targets).

    Returns
    -------
    str
        Of shape (sequences, targets * horizon).
    """
    graph, width, horizon = x.graph, model.features.width, model.settings.horizon

    def step(before: Sequence[str], _now: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
        seen, *known = before
        values = forecast(replace(x, name=seen), known[0] if known else None)
        columns = {
            name: graph.add("Gather", values, whole(place), axis=1)
            for place, name in enumerate(model.outputs)
        }
        newest = encoded(graph, model.features.encodings, columns, x.dtype)
        others = graph.add("Slice", seen, whole(width), whole(*x.shape), whole(1))
        moved = graph.add("Concat", others, newest, axis=1)
        return [moved, values][: len(before)], [values]

    windows = [x.name] if bases is None else [x.name, bases]
    _, [values] = graph.scan(step, windows, [graph.constant(np.arange(horizon))])
    by_target = graph.add("Transpose", values, perm=[1, 2, 0])
    return graph.add("Reshape", by_target, whole(-1, len(model.outputs) * horizon))
