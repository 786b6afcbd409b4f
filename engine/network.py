"""Network: layers in order, over one flat parameter vector and one flat gradient vector."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import DTypeLike

from engine import spec
from engine.activations import ACTIVATIONS, softmax
from engine.arrays import Backward, Matrix, Vector, Workspace, aligned_zeros
from engine.initializers import initialize
from engine.layers.activation import Activation
from engine.layers.dense import Dense
from engine.layers.dropout import Dropout
from engine.losses import Output

ROWS_AT_ONCE = 8
"""How many rows of a prediction are in a pass."""

Shape = tuple[int, ...]
Tensors = Mapping[str, Matrix | Vector]


class Layer(Protocol):
    """What a network asks of a layer."""

    def forward(self, x: Matrix, workspace: Workspace) -> tuple[Matrix, Backward]:
        """Return the output for a batch, and the way back."""


@dataclass(frozen=True)
class Network:
    """A feed-forward network.

    Parameters
    ----------
    hidden : spec.NetworkSpec
    inputs, outputs : int
        Numbers in a row, and numbers that are answered.
    output : Output
        What becomes of the logits in a prediction.
    parameters, gradient : Vector of shape (n_parameters,)
        The layers hold views into both.
    layers : tuple of Layer
    """

    hidden: spec.NetworkSpec
    inputs: int
    outputs: int
    output: Output
    parameters: Vector
    gradient: Vector
    layers: tuple[Layer, ...]

    def forward(self, x: Matrix, workspace: Workspace) -> tuple[Matrix, Callable[[Matrix], None]]:
        """Return the logits of a batch, and the function that fills the gradient.

        Backpropagation proper: the gradient at the logits is handed from the
        last layer to the first, each of which reuses what the layer above it
        worked out and leaves its own parameters' part in `gradient`.

        Parameters
        ----------
        x : Matrix of shape (batch, inputs)
        workspace : Workspace
            Rewound; it holds the pass until it is rewound again.
        """
        ways_back: list[Backward] = []
        for layer in self.layers:
            x, backward = layer.forward(x, workspace)
            ways_back.append(backward)

        def fill_gradient(dy: Matrix | None) -> None:
            for backward in reversed(ways_back):
                if dy is None:
                    return
                dy = backward(dy)

        return x, fill_gradient

    def predict(self, x: Matrix) -> Matrix:
        """Return probabilities, or values, of shape (batch, outputs); safe in many threads.

        Every pass has `ROWS_AT_ONCE` rows, the last one filled up with what is
        left over: BLAS chooses a kernel by the shape, and each sums in an order
        of its own, so that a row's last bits would depend on the rows beside it.
        More rows at once would be faster, but then kernels treat the rows of
        one pass differently.
        """
        dtype = self.parameters.dtype
        workspace, rows = Workspace(dtype), np.zeros((ROWS_AT_ONCE, self.inputs), dtype)
        y = np.empty((len(x), self.outputs), dtype)
        for start in range(0, len(x), ROWS_AT_ONCE):
            part = x[start : start + ROWS_AT_ONCE]
            rows[: len(part)] = part
            workspace.rewind()
            logits, _ = self.forward(rows, workspace)
            answers = softmax(logits, workspace) if self.output == "softmax" else logits
            y[start : start + len(part)] = answers[: len(part)]
        return y

    def tensors(self) -> Tensors:
        """Return the parameters by name, such as ``layers.0.weight``, as views."""
        return _views(self.parameters, parameter_shapes(self.hidden, self.inputs, self.outputs))

    def with_parameters(self, parameters: Vector) -> Network:
        """Return a network of the same shape with parameters of its own."""
        other = build_network(
            self.hidden, self.inputs, self.outputs, self.output, self.parameters.dtype
        )
        other.parameters[:] = parameters
        return other

    def frozen(self) -> Network:
        """Return the network without a gradient, and with parameters that cannot be written."""
        self.parameters.flags.writeable = False
        return replace(self, gradient=self.gradient[:0])


def parameter_shapes(network: spec.NetworkSpec, inputs: int, outputs: int) -> dict[str, Shape]:
    """Return the shape of every weight and bias by name, first layer to last."""
    shapes: dict[str, Shape] = {}
    width = inputs
    for position, layer in enumerate(_all_layers(network, outputs)):
        if isinstance(layer, spec.DenseLayer):
            shapes[f"layers.{position}.weight"] = (width, layer.units)
            if layer.bias:
                shapes[f"layers.{position}.bias"] = (layer.units,)
            width = layer.units
    return shapes


def parameter_count(network: spec.NetworkSpec, *, inputs: int, outputs: int) -> int:
    """Count the weights and biases, without making them."""
    return sum(map(math.prod, parameter_shapes(network, inputs, outputs).values()))


def build_network(
    network: spec.NetworkSpec, inputs: int, outputs: int, output: Output, dtype: DTypeLike
) -> Network:
    """Return a network whose parameters are all zero."""
    shapes = parameter_shapes(network, inputs, outputs)
    size = sum(map(math.prod, shapes.values()))
    parameters, gradient = aligned_zeros(size, dtype), aligned_zeros(size, dtype)
    values, gradients = _views(parameters, shapes), _views(gradient, shapes)
    layers: list[Layer] = []
    learns_below = False
    for position, layer in enumerate(_all_layers(network, outputs)):
        if isinstance(layer, spec.DenseLayer):
            weight, bias = f"layers.{position}.weight", f"layers.{position}.bias"
            layers.append(
                Dense(
                    values[weight],
                    gradients[weight],
                    values.get(bias),
                    gradients.get(bias),
                    learns_below,
                )
            )
            learns_below = True
        if isinstance(layer, spec.DropoutLayer):
            layers.append(Dropout(layer.rate))
        elif layer.activation != "identity":
            layers.append(Activation(ACTIVATIONS[layer.activation]))
    return Network(network, inputs, outputs, output, parameters, gradient, tuple(layers))


def initialize_network(network: Network, rng: np.random.Generator) -> None:
    """Draw the weights, each layer's as suits its activation; biases are zero."""
    tensors = network.tensors()
    for position, layer in enumerate(_all_layers(network.hidden, network.outputs)):
        if isinstance(layer, spec.DenseLayer):
            initialize(tensors[f"layers.{position}.weight"], layer.activation, rng)


def _all_layers(network: spec.NetworkSpec, outputs: int) -> list[spec.Layer]:
    """Return the hidden layers and the output layer, whose logits the loss takes as they are."""
    return [*network.layers, spec.DenseLayer(units=outputs, activation="identity")]


def _views(vector: Vector, shapes: Mapping[str, Shape]) -> Tensors:
    """Cut a flat vector into tensors, without copying."""
    views, start = {}, 0
    for name, shape in shapes.items():
        stop = start + math.prod(shape)
        views[name] = vector[start:stop].reshape(shape)
        start = stop
    return views
