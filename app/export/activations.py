"""Activations, from operators that runtimes have in float32 and in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from app.export.graph import Graph
from engine import spec
from engine.activations import LEAK, MISH_CEILING, SELU_ALPHA, SELU_SCALE

Number = Callable[[float], np.floating[Any]]
"""Makes a constant of the network's precision."""

Write = Callable[[Graph, str, Number], str]


def _operator(name: str) -> Write:
    return lambda graph, z, _number: graph.add(name, z)


def _leaky_relu(graph: Graph, z: str, number: Number) -> str:
    return graph.add("Max", z, graph.add("Mul", z, number(LEAK)))


def _exponential(graph: Graph, z: str, number: Number, *, scale: float, alpha: float) -> str:
    above = graph.add("Mul", graph.add("Relu", z), number(scale))
    power = graph.add("Exp", graph.add("Min", z, number(0)))
    below = graph.add("Mul", graph.add("Sub", power, number(1)), number(scale * alpha))
    return graph.add("Add", above, below)


def _gelu(graph: Graph, z: str, number: Number) -> str:
    cubic = graph.add("Mul", graph.add("Mul", z, z), number(0.044715))
    inner = graph.add("Mul", graph.add("Add", cubic, number(1)), z)
    t = graph.add("Tanh", graph.add("Mul", inner, number(math.sqrt(2 / math.pi))))
    return graph.add("Mul", graph.add("Mul", graph.add("Add", t, number(1)), z), number(0.5))


def _silu(graph: Graph, z: str, number: Number) -> str:
    # By way of tanh: ONNX Runtime 1.17 fuses z * sigmoid(z), and has that in float32 only.
    t = graph.add("Tanh", graph.add("Mul", z, number(0.5)))
    return graph.add("Mul", z, graph.add("Add", graph.add("Mul", t, number(0.5)), number(0.5)))


def _mish(graph: Graph, z: str, number: Number) -> str:
    e = graph.add("Exp", graph.add("Min", z, number(MISH_CEILING)))
    n = graph.add("Mul", graph.add("Add", e, number(2)), e)
    return graph.add("Mul", z, graph.add("Div", n, graph.add("Add", n, number(2))))


def _softplus(graph: Graph, z: str, number: Number) -> str:
    power = graph.add("Exp", graph.add("Neg", graph.add("Abs", z)))
    rest = graph.add("Log", graph.add("Add", power, number(1)))
    return graph.add("Add", graph.add("Relu", z), rest)


def _hard_sigmoid(graph: Graph, z: str, number: Number) -> str:
    line = graph.add("Add", graph.add("Mul", z, number(1 / 6)), number(0.5))
    return graph.add("Clip", line, number(0), number(1))


def _hard_tanh(graph: Graph, z: str, number: Number) -> str:
    return graph.add("Clip", z, number(-1), number(1))


def _hard_swish(graph: Graph, z: str, number: Number) -> str:
    return graph.add("Mul", z, _hard_sigmoid(graph, z, number))


ACTIVATIONS: Mapping[spec.Activation, Write] = {
    "identity": lambda _graph, z, _number: z,
    "sigmoid": _operator("Sigmoid"),
    "tanh": _operator("Tanh"),
    "relu": _operator("Relu"),
    "leaky_relu": _leaky_relu,
    "elu": partial(_exponential, scale=1.0, alpha=1.0),
    "selu": partial(_exponential, scale=SELU_SCALE, alpha=SELU_ALPHA),
    "gelu": _gelu,
    "silu": _silu,
    "mish": _mish,
    "softplus": _softplus,
    "hard_sigmoid": _hard_sigmoid,
    "hard_tanh": _hard_tanh,
    "hard_swish": _hard_swish,
}
