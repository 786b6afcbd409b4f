"""Layers as ONNX operators, by the same tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import TensorProto

from app.export.activations import ACTIVATIONS
from app.export.graph import TYPES, UnportableError, whole
from app.export.recurrent import recurrent
from app.export.value import Value
from engine.arrays import Shape
from engine.layers.activation import Activation
from engine.layers.convolution import Conv2d, Pool2d, Reshape
from engine.layers.dense import Dense
from engine.layers.dropout import Dropout
from engine.layers.embedding import Embedding
from engine.layers.layer import Layer
from engine.layers.normalization import BatchNorm, LayerNorm
from engine.layers.recurrent import Recurrent
from engine.layers.residual import Residual


def through(layers: Mapping[str, Layer], x: Value) -> Value:
    """Return what layers make of a value, first to last."""
    for name, layer in layers.items():
        if type(layer) not in LAYERS:
            kind = type(layer).__name__
            raise UnportableError(f"there is no operator for {name}, of the kind {kind}")
        x = LAYERS[type(layer)](layer, x, name)
    return x


def _dense(layer: Dense, x: Value, name: str) -> Value:
    x, numbers, shape = x.shaped((layer.inputs,)), layer.parameters["weight"], layer.output_shape
    weight = x.constant(numbers[: layer.inputs], f"{name}.weight")
    if not layer.settings.bias:
        return x.then("MatMul", weight, shape=shape)
    bias = x.constant(numbers[-1], f"{name}.bias")
    if x.dtype == np.float32:
        return x.then("Gemm", weight, bias, shape=shape)
    # ONNX Runtime 1.17 fuses a Gemm with the activation after it, and has that in float32 only.
    return x.then("Gemm", weight, shape=shape).then("Add", bias)


def _activation(layer: Activation, x: Value, name: str) -> Value:
    del name
    y = ACTIVATIONS[layer.name](x.graph, x.name, x.dtype.type)
    return replace(x, name=y)


def _conv2d(layer: Conv2d, x: Value, name: str) -> Value:
    if x.dtype == np.float64:
        return _conv2d_of_patches(layer, x, name)
    settings = layer.settings
    filters = layer.parameters["weight"][:, : layer.patch]
    by_place = (settings.filters, layer.input_shape[0], settings.kernel, settings.kernel)
    operands = [x.constant(filters.reshape(by_place), f"{name}.weight")]
    if settings.bias:
        operands.append(x.constant(layer.parameters["weight"][:, -1], f"{name}.bias"))
    return x.shaped(layer.input_shape).then(
        "Conv",
        *operands,
        shape=layer.output_shape,
        kernel_shape=by_place[2:],
        strides=[settings.stride] * 2,
        pads=[settings.padding] * 4,
    )


def _conv2d_of_patches(layer: Conv2d, x: Value, name: str) -> Value:
    """Lay the patches out: ONNX Runtime convolves in float32 only."""
    settings, (channels, *image) = layer.settings, layer.input_shape
    flat = x.shaped((channels * image[0] * image[1],))
    # One zero more, for whatever lies outside of the image.
    padded = flat.then("Pad", whole(0, 0, 0, 1))
    places = _windows(layer.input_shape, settings.kernel, settings.stride, settings.padding)
    patches = places.transpose(1, 2, 0, 3, 4).reshape(-1, layer.patch)
    weight = layer.parameters["weight"]
    by_place = x.constant(weight[:, : layer.patch].T, f"{name}.weight")
    y = padded.then("Gather", patches, axis=1).then("MatMul", by_place)
    if settings.bias:
        y = y.then("Add", x.constant(weight[:, -1], f"{name}.bias"))
    turned = y.then("Transpose", perm=[0, 2, 1], shape=(settings.filters, len(patches)))
    return turned.shaped(layer.output_shape)


def _pool2d(layer: Pool2d, x: Value, name: str) -> Value:
    del name
    if x.dtype == np.float64:
        # ONNX Runtime takes means of windows in float32 only.
        flat = x.shaped((int(np.prod(layer.input_shape)),))
        windows = _windows(layer.input_shape, layer.window, layer.stride, 0)
        windows = windows.reshape(*layer.output_shape, -1)
        combine = "ReduceMean" if layer.takes_mean else "ReduceMax"
        pooled = flat.then("Gather", windows, axis=1)
        return pooled.then(combine, axes=[-1], keepdims=0, shape=layer.output_shape)
    return x.shaped(layer.input_shape).then(
        "AveragePool" if layer.takes_mean else "MaxPool",
        shape=layer.output_shape,
        kernel_shape=[layer.window] * 2,
        strides=[layer.stride] * 2,
    )


def _windows(image: Shape, window: int, stride: int, padding: int) -> NDArray[np.int64]:
    """Return which numbers of an image lie in each window, and one behind the last for none.

    Returns
    -------
    ndarray of shape (channels, height, width, window, window)
    """
    places = np.arange(np.prod(image)).reshape(image)
    around = ((0, 0), (padding, padding), (padding, padding))
    padded = np.pad(places, around, constant_values=places.size)
    return sliding_window_view(padded, (window, window), (1, 2))[:, ::stride, ::stride]


def _batch_norm(layer: BatchNorm, x: Value, name: str) -> Value:
    wide = (-1,) + (1,) * (len(layer.input_shape) - 1)
    scale, shift = (layer.parameters[kind].reshape(wide) for kind in ("scale", "shift"))
    mean, variance = (layer.statistics[kind].reshape(wide) for kind in ("mean", "variance"))
    factor = scale / np.sqrt(variance + layer.settings.epsilon)
    centered = x.shaped(layer.input_shape).then("Sub", x.constant(mean, f"{name}.mean"))
    scaled = centered.then("Mul", x.constant(factor, f"{name}.scale"))
    return scaled.then("Add", x.constant(shift, f"{name}.shift"))


def _layer_norm(layer: LayerNorm, x: Value, name: str) -> Value:
    scale, shift = layer.parameters["scale"], layer.parameters["shift"]
    flat = x.shaped((layer.units,))
    mean = partial(Value.then, operator="ReduceMean", axes=[1], keepdims=1)
    centered = flat.then("Sub", mean(flat))
    variance = mean(centered.then("Mul", centered))
    deviation = variance.then("Add", layer.epsilon).then("Sqrt")
    scaled = centered.then("Div", deviation).then("Mul", x.constant(scale, f"{name}.scale"))
    return scaled.then("Add", x.constant(shift, f"{name}.shift"))


def _embedding(layer: Embedding, x: Value, name: str) -> Value:
    if layer.sequence is None:
        return _embedded(layer, x, name, None)
    numbers, graph = layer.steps * layer.inputs, x.graph
    given = x.then("Slice", whole(0), whole(numbers), whole(1), shape=(numbers,))
    there = x.there(layer.steps)
    of_step = None if there is None else graph.add("Unsqueeze", there, whole(2))
    y = _embedded(layer, given.shaped((layer.steps, layer.inputs)), name, of_step)
    y = y.shaped((layer.steps * layer.width,))
    if there is None:
        return y
    mask = graph.add("Cast", there, to=TYPES[x.dtype])
    return y.then("Concat", mask, axis=1, shape=layer.output_shape)


def _embedded(layer: Embedding, x: Value, name: str, there: str | None) -> Value:
    """Return numbers and vectors, of rows or of the steps that are there."""
    graph, *before = x.graph, *x.shape[:-1]
    parts = [x.then("Gather", whole(*layer.others), axis=-1)] if layer.others else []
    for place in layer.levels:
        vectors = x.constant(layer.parameters[f"vectors_{place}"], f"{name}.vectors_{place}")
        code = graph.add("Gather", x.name, np.int64(place), axis=-1)
        code = graph.add("Cast", code, to=TensorProto.INT64)
        found = graph.add("Gather", vectors, code, axis=0)
        if there is not None:
            found = graph.add("Where", there, found, x.dtype.type(0))
        parts.append(replace(x, name=found, shape=(*before, layer.dimensions)))
    first, *others = parts
    return first.then("Concat", *others, axis=-1, shape=(*before, layer.width))


def _residual(layer: Residual, x: Value, name: str) -> Value:
    del name
    return through(layer.block, x).shaped(x.shape).then("Add", x)


def _same(layer: Dropout | Reshape, x: Value, name: str) -> Value:
    """Leave the numbers as they are; the next layer that minds their shape gives it to them."""
    del layer, name
    return x


LAYERS: Mapping[type[Layer], Callable[[Any, Value, str], Value]] = {
    Dense: _dense,
    Activation: _activation,
    Conv2d: _conv2d,
    Pool2d: _pool2d,
    Reshape: _same,
    Dropout: _same,
    BatchNorm: _batch_norm,
    LayerNorm: _layer_norm,
    Embedding: _embedding,
    Recurrent: recurrent,
    Residual: _residual,
}
