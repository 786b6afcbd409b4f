"""Layers in ONNX Runtime answer what ours do, in both precisions."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from app.export.activations import ACTIVATIONS
from app.export.graph import Graph
from app.export.layers import LAYERS
from engine import spec
from engine.activations import ACTIVATIONS as OURS
from engine.data.table import Column, Table
from engine.layers.equilibrium import Equilibrium
from engine.layers.layer import Layer
from engine.wires import Workspace
from tests.app.export.exporting import TOLERANCE, deviation, drawn, opened
from tests.engine.beginnings import spec as settings

ROWS = 40
EXACT = {"float32": TOLERANCE, "float64": 1e-12}
DENSE = {"type": "dense", "units": 6, "activation": "tanh"}

FLAT = {
    "none": [],
    "no bias": [{**DENSE, "bias": False}],
    "activation": [{"type": "activation", "activation": "mish"}, DENSE],
    "dropout": [DENSE, {"type": "dropout", "rate": 0.5}],
    "batch_norm": [DENSE, {"type": "batch_norm"}, DENSE],
    "layer_norm": [DENSE, {"type": "layer_norm", "epsilon": 1e-3}, DENSE],
    "residual": [
        DENSE,
        {
            "type": "residual",
            "layers": [{"type": "layer_norm"}, DENSE, {"type": "dropout", "rate": 0.1}],
        },
    ],
    "reshape": [
        {"type": "dense", "units": 18},
        {"type": "reshape", "shape": [2, 3, 3]},
        {"type": "conv2d", "filters": 2, "kernel": 2},
        DENSE,
    ],
}

IMAGES = {
    "dense": [DENSE],
    "conv2d": [{"type": "conv2d", "filters": 3, "kernel": 3}],
    "conv2d padding": [{"type": "conv2d", "filters": 3, "kernel": 4, "padding": 2, "bias": False}],
    "conv2d stride": [{"type": "conv2d", "filters": 3, "kernel": 2, "stride": 3, "padding": 1}],
    "max_pool2d": [{"type": "max_pool2d"}, DENSE],
    "max_pool2d overlapping": [{"type": "max_pool2d", "window": 3, "stride": 2}],
    "average_pool2d": [{"type": "average_pool2d"}, DENSE],
    "average_pool2d overlapping": [{"type": "average_pool2d", "window": 3, "stride": 1}],
    "norms": [
        {"type": "conv2d", "filters": 3},
        {"type": "batch_norm"},
        {"type": "layer_norm"},
        {"type": "average_pool2d", "window": 3},
        {"type": "activation", "activation": "relu"},
        {"type": "flatten"},
        DENSE,
    ],
    "residual": [
        {
            "type": "residual",
            "layers": [{"type": "conv2d", "filters": 2, "padding": 1}, {"type": "batch_norm"}],
        },
        DENSE,
    ],
    "residual around flat layers": [
        {
            "type": "residual",
            "layers": [{"type": "layer_norm"}, {"type": "reshape", "shape": [2, 7, 8]}],
        },
        {"type": "max_pool2d"},
    ],
}


def column(name, values):
    return Column(name, "tensor" if values.ndim > 1 else "integer", values)


def of_layers(layers, shape, precision):
    """A model of drawn numbers over tensors of a shape, and rows for it."""
    rng = np.random.default_rng(2)
    rows = Table(
        (
            column("x", rng.normal(size=(ROWS, *shape))),
            column("y", np.arange(ROWS, dtype=float) % 3),
        )
    )
    network = spec.NetworkSpec.model_validate({"layers": layers})
    return drawn(rows, settings(network=network, precision=precision)), rows


@pytest.mark.parametrize("precision", EXACT)
@pytest.mark.parametrize("layers", FLAT.values(), ids=FLAT)
def test_layers_of_units_agree(layers, precision):
    assert deviation(*of_layers(layers, (5,), precision)) < EXACT[precision]


@pytest.mark.parametrize("precision", EXACT)
@pytest.mark.parametrize("layers", IMAGES.values(), ids=IMAGES)
def test_layers_of_images_agree(layers, precision):
    assert deviation(*of_layers(layers, (2, 7, 8), precision)) < EXACT[precision]


@pytest.mark.parametrize("precision", EXACT)
def test_activations_agree_near_zero_and_far_from_it(precision):
    dtype = np.dtype(precision)
    z = np.concatenate([np.linspace(-5, 5, 401), [-1e4, -90, -30, 30, 90, 1e4]]).astype(dtype)
    graph = Graph("activations", ["z", *ACTIVATIONS])
    graph.input("z", dtype, (), "any numbers")
    for name, write in ACTIVATIONS.items():
        graph.output(write(graph, "z", dtype.type), name, dtype, (), "")
    found = opened(graph.model.SerializeToString()).run(None, {"z": z})
    for name, y in zip(ACTIVATIONS, found, strict=True):
        ours = np.empty_like(z)[None]
        forward, _ = OURS[name](z[None], ours, Workspace(dtype, len(z)))
        forward()
        np.testing.assert_allclose(y, ours[0], EXACT[precision], EXACT[precision], err_msg=name)


def kinds(of):
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


UNPORTABLE = {Equilibrium}
"""ONNX has no operator that goes on until a state settles, example by example."""


def test_no_layer_and_no_activation_is_forgotten():
    assert set(LAYERS) == set(kinds(Layer)) - UNPORTABLE
    assert set(ACTIVATIONS) == set(get_args(spec.Activation))
