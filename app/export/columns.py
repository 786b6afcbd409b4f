"""Columns to the numbers that a network sees, as `engine.data` has them.

All is worked out in float64 and rounded to the network's precision at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from app.export.calendar import parts_of
from app.export.graph import Graph, UnportableError, whole
from engine.data.categories import Category, EmbeddedCategory
from engine.data.encoding import TEXTS, Encoding
from engine.data.numbers import Number
from engine.data.scaling import CLIP, LARGEST, LARGEST_UNSCALED, Scaler, joined
from engine.data.table import InputColumn
from engine.data.tensors import TensorElements
from engine.data.timestamps import Timestamp

MISSING_TIME = np.int64(np.iinfo(np.int64).min)
"""How NumPy stores NaT."""

Run = Sequence[tuple[Any, str]]
"""Encodings of neighbours of a kind, each with the name of its values."""

FLOAT, INTEGER, STRING = np.dtype(np.float64), np.dtype(np.int64), np.dtype(object)


def declare(graph: Graph, column: InputColumn, steps: int | None = None) -> str:
    """Declare a column as an input, of so many steps if examples are sequences.

    Returns
    -------
    str
        The name of its values, of shape (rows, 1), or that of a tensor behind the rows.
    """
    dtype, meaning = _kind(column)
    shape = column.shape or (1,)
    if steps is None:
        graph.input(column.name, dtype, shape, meaning)
        return column.name
    graph.input(column.name, dtype, (steps, *column.shape), meaning)
    return graph.add("Reshape", column.name, whole(-1, *shape))


def _kind(column: InputColumn) -> tuple[np.dtype[Any], str]:
    """Return what a column's values are, and what they mean."""
    if column.type in TEXTS:
        return STRING, "a category by its name; an empty one is missing"
    if column.type == "timestamp":
        return INTEGER, f"microseconds since 1970 in UTC; {MISSING_TIME} is missing"
    if column.type == "tensor":
        return FLOAT, "numbers"
    return FLOAT, f"{'0 or 1' if column.type == 'boolean' else 'a number'}; NaN is missing"


def encoded(
    graph: Graph, encodings: Sequence[Encoding], values: Mapping[str, str], dtype: np.dtype[Any]
) -> str:
    """Return the name of what the network sees of rows, of shape (rows, width).

    Parameters
    ----------
    graph : Graph
    encodings : sequence of Encoding
    values : mapping of str to str
        The name of the values of each column, as of `declare`.
    dtype : dtype
        The network's precision.
    """
    parts: list[str] = []
    for kind, neighbours in groupby(encodings, type):
        if kind not in ENCODINGS:
            raise UnportableError(f"there is no operator for columns of the kind {kind.__name__}")
        run = [(encoding, values[encoding.input.name]) for encoding in neighbours]
        parts += ENCODINGS[kind](graph, run, dtype)
    return _beside(graph, parts)


def _beside(graph: Graph, parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1)


def _scaled(graph: Graph, x: str, scaler: Scaler) -> str:
    if not scaler.clips:
        bounds = np.float64(-LARGEST_UNSCALED), np.float64(LARGEST_UNSCALED)
        return graph.add("Clip", x, *bounds)
    x = graph.add("Sub", x, _once(scaler.center))
    x = graph.add("Mul", x, _once(scaler.factor))
    share = graph.add("Div", x, np.float64(CLIP))
    square = graph.add("Mul", share, share)
    return graph.add("Div", x, graph.add("Sqrt", graph.add("Add", square, np.float64(1))))


def _once(vector: NDArray[Any]) -> NDArray[Any]:
    """Return one number for a vector of equal ones."""
    return vector[:1] if (vector == vector[0]).all() else vector


def _bounded(graph: Graph, x: str) -> str:
    return graph.add("Clip", x, np.float64(-LARGEST), np.float64(LARGEST))


def _numbers(graph: Graph, run: Run, dtype: np.dtype[Any]) -> list[str]:
    """Work on neighbours together: a table may have thousands of columns of numbers."""
    return [
        _number_block(graph, list(block), dtype)
        for _, block in groupby(run, lambda neighbour: neighbour[0].scaler.clips)
    ]


def _number_block(graph: Graph, run: Run, dtype: np.dtype[Any]) -> str:
    x, block = _beside(graph, [x for _, x in run]), [encoding for encoding, _ in run]
    missing = graph.add("IsNaN", x)
    fills = np.array([encoding.fill for encoding in block])
    numbers = graph.add("Where", missing, _once(fills), _bounded(graph, x))
    if any(encoding.flags for encoding in block):
        flags = graph.add("Cast", missing, to=TensorProto.DOUBLE)
        numbers = graph.add("Concat", numbers, flags, axis=1)
        places: list[int] = []
        for place, encoding in enumerate(block):
            places += [place, len(block) + place] if encoding.flags else [place]
        numbers = graph.add("Gather", numbers, whole(*places), axis=1)
    scaler = joined([encoding.scaler for encoding in block])
    return graph.cast(_scaled(graph, numbers, scaler), dtype)


def _category(graph: Graph, encoding: Category, x: str, dtype: np.dtype[Any]) -> str:
    """Look a row's code up in a table of what the encoding makes of every code there is."""
    codes = np.arange(-1, encoding.levels.count)
    table = graph.constant(encoding.encode(codes).astype(dtype), f"{encoding.input.name} codes")
    is_text = encoding.input.type in TEXTS
    row = (_row_of_text if is_text else _row_of_number)(graph, encoding, x)
    found = graph.add("Gather", table, row, axis=0)
    return graph.add("Reshape", found, whole(0, encoding.width))


def _rows(encoding: Category) -> tuple[int, int, list[int]]:
    """Return the rows of the table for an unknown level, a missing one, and for each of them."""
    levels = encoding.levels
    missing, *known = levels.codes(levels.names, np.arange(-1, len(levels.names))) + 1
    return levels.unknown + 1, int(missing), [int(row) for row in known]


def _row_of_text(graph: Graph, encoding: Category, x: str) -> str:
    unknown, missing, known = _rows(encoding)
    rows = {"": missing} | dict(zip(encoding.levels.names, known, strict=True))
    return graph.add(
        "LabelEncoder",
        x,
        domain="ai.onnx.ml",
        keys_strings=list(rows),
        values_int64s=list(rows.values()),
        default_int64=unknown,
    )


def _row_of_number(graph: Graph, encoding: Category, x: str) -> str:
    """Compare with every level: no operator looks numbers of float64 up."""
    unknown, missing, known = _rows(encoding)
    levels = np.array([float(name) for name in encoding.levels.names] or [np.nan])
    steps = np.array([row - unknown for row in known] or [0], dtype=np.float64)
    equal = graph.add("Cast", graph.add("Equal", x, levels), to=TensorProto.DOUBLE)
    found = graph.add("Add", graph.add("MatMul", equal, steps[:, None]), np.float64(unknown))
    row = graph.add("Where", graph.add("IsNaN", x), np.float64(missing), found)
    return graph.add("Cast", row, to=TensorProto.INT64)


def _timestamp(graph: Graph, encoding: Timestamp, x: str, dtype: np.dtype[Any]) -> str:
    missing = graph.add("Equal", x, MISSING_TIME)
    filled = graph.add("Where", missing, np.int64(encoding.fill), x)
    parts = parts_of(graph, filled, encoding.parts)
    if encoding.flags:
        parts.append(graph.add("Cast", missing, to=TensorProto.DOUBLE))
    return graph.cast(_scaled(graph, _beside(graph, parts), encoding.scaler), dtype)


def _tensor(graph: Graph, encoding: TensorElements, x: str, dtype: np.dtype[Any]) -> str:
    flat = graph.add("Reshape", x, whole(0, encoding.width))
    return graph.cast(_scaled(graph, _bounded(graph, flat), encoding.scaler), dtype)


Write = Callable[[Graph, Run, np.dtype[Any]], list[str]]


def _one_by_one(write: Callable[[Graph, Any, str, np.dtype[Any]], str]) -> Write:
    return lambda graph, run, dtype: [write(graph, encoding, x, dtype) for encoding, x in run]


ENCODINGS: Mapping[type[Encoding], Write] = {
    Number: _numbers,
    Category: _one_by_one(_category),
    EmbeddedCategory: _one_by_one(_category),
    Timestamp: _one_by_one(_timestamp),
    TensorElements: _one_by_one(_tensor),
}
"""What writes neighbours of a kind, as numbers of the network's precision."""
