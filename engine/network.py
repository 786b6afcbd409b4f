"""Network: layers in order, over one flat parameter vector and one flat gradient vector."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

from engine import spec
from engine.activations import softmax
from engine.arrays import Matrix, Shape, Tensor, Vector, aligned_zeros
from engine.errors import SpecError
from engine.layers.activation import Activation
from engine.layers.convolution import Conv2d, Pool2d, Reshape
from engine.layers.dense import Dense
from engine.layers.dropout import Dropout
from engine.layers.embedding import Embedding
from engine.layers.equilibrium import Equilibrium
from engine.layers.layer import Layer
from engine.layers.normalization import BatchNorm, LayerNorm
from engine.layers.recurrent import Recurrent
from engine.layers.residual import Residual
from engine.wires import Bound, Wire, Workspace

Output = Literal["softmax", "sigmoid", "exp", "identity"]
"""What becomes of the logits in a prediction."""

ROWS_AT_ONCE = 512
BLOCK_BYTES = 2**20
"""Rows of a prediction go through so many at a time, and no more than stay in cache."""


@dataclass(frozen=True)
class Inputs:
    """What a network is fed.

    Parameters
    ----------
    shape : Shape
        Of one example.
    levels : mapping of int to int
        The inputs that are codes of a category, for an embedding, and how many levels each has;
        of a sequence those of one step.
    steps : int or None
        Of a sequence: its numbers are in the shape (steps, width), flat.
    masked : bool
        Whether as many numbers again follow, 1 for a step that is there and 0 for padding.
    """

    shape: Shape
    levels: Mapping[int, int] = field(default_factory=dict)
    steps: int | None = None
    masked: bool = False

    def repeated(self, steps: int, *, masked: bool) -> Inputs:
        """Return what is fed of a sequence of so many steps, of which these are one."""
        return Inputs(((self.units + masked) * steps,), self.levels, steps, masked)

    @property
    def sequence(self) -> Shape | None:
        """The steps of an example, and the numbers of one, without the mask; None if it is none."""
        if self.steps is None:
            return None
        return self.steps, self.units // self.steps - self.masked

    @property
    def units(self) -> int:
        """How many numbers one example has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Architecture:
    """What a network is, without its numbers.

    Parameters
    ----------
    hidden : spec.NetworkSpec
    inputs : Inputs
    outputs : int
        Numbers that are answered.
    output : Output
    """

    hidden: spec.NetworkSpec
    inputs: Inputs
    outputs: int
    output: Output

    @property
    def answers(self) -> int:
        """How many numbers a prediction has: a sigmoid's one becomes those of two classes."""
        return 2 if self.output == "sigmoid" else self.outputs

    def layers(self) -> dict[str, Layer]:
        """Return new layers by name, first to last, without memory.

        Raises
        ------
        SpecError
            A layer cannot take what the one before it gives.
        """
        layers = dict(_layers(self.hidden.layers, self.inputs.shape, "layers", self.inputs))
        shape = _last_shape(layers, self.inputs.shape)
        last = spec.DenseLayer(units=self.outputs, activation="identity")
        return {**layers, f"layers.{len(self.hidden.layers)}": Dense(last, shape)}

    def parameter_count(self) -> int:
        """Count the weights and biases, without making them."""
        return _Cutter(_walk(self.layers()), "parameter_shapes").size

    def statistic_count(self) -> int:
        """Count what is remembered without a gradient."""
        return _Cutter(_walk(self.layers()), "statistic_shapes").size

    def multiply_adds(self, *, learns: bool) -> int:
        """Count what an example takes on its way through the network, and back if it learns.

        Going back costs a layer as much again for the gradient of its weights, and for that of
        its inputs, where a layer below has weights to learn.
        """
        total, below = 0, False
        for _, layer in _walk(self.layers()):
            has_weights = bool(layer.parameter_shapes)
            total += layer.multiply_adds * (1 + learns * (has_weights + below))
            below = below or has_weights
        return total

    def build(
        self, dtype: DTypeLike, numbers: Tensor | None = None, gradient: Tensor | None = None
    ) -> Network:
        """Return a network whose numbers are all 0, or those that it is given.

        Parameters
        ----------
        dtype : dtype
        numbers, gradient : Tensor of shape (…, n_numbers) and (…, n_parameters), optional
            To hold views into. With an axis before the last it is stacked networks, one a row.
        """
        layers = self.layers()
        learnt = _Cutter(_walk(layers), "parameter_shapes")
        kept = _Cutter(_walk(layers), "statistic_shapes")
        if numbers is None:
            numbers = aligned_zeros(learnt.size + kept.size, dtype)
        if gradient is None:
            gradient = aligned_zeros(learnt.size, dtype)
        values, gradients = learnt.cut(numbers[..., : learnt.size]), learnt.cut(gradient)
        statistics = kept.cut(numbers[..., learnt.size :])
        for name, layer in _walk(layers):
            layer.parameters, layer.gradients = values[name], gradients[name]
            layer.statistics = statistics[name]
        return Network(self, numbers, gradient, layers)


class _Cutter:
    """Cuts a flat vector, or each row of a matrix, into the tensors of all layers, as views."""

    def __init__(self, layers: Iterator[tuple[str, Layer]], which: str) -> None:
        self.shapes: dict[str, dict[str, Shape]] = {
            name: getattr(layer, which) for name, layer in layers
        }
        self.size = sum(math.prod(s) for shapes in self.shapes.values() for s in shapes.values())

    def cut(self, vectors: Tensor) -> dict[str, dict[str, Tensor]]:
        start = 0
        cut: dict[str, dict[str, Tensor]] = {}
        for layer, shapes in self.shapes.items():
            cut[layer] = {}
            for name, shape in shapes.items():
                stop = start + math.prod(shape)
                cut[layer][name] = vectors[..., start:stop].reshape(*vectors.shape[:-1], *shape)
                start = stop
        return cut


class _Passes(threading.local):
    """What a thread has bound a network to for predictions, by the number of rows."""

    def __init__(self) -> None:
        self.by_rows: dict[int, Pass] = {}


@dataclass(frozen=True)
class Network:
    """A feed-forward network.

    Parameters
    ----------
    architecture : Architecture
    numbers : Vector
        The parameters, and behind them the statistics that some layers keep.
    gradient : Vector of shape (n_parameters,)
        The layers hold views into both. Stacked networks have a row each, of both.
    layers : dict of str to Layer
        By name, first to last.
    """

    architecture: Architecture
    numbers: Vector
    gradient: Vector
    layers: Mapping[str, Layer]
    _passes: _Passes = field(default_factory=_Passes, repr=False)

    @property
    def parameters(self) -> Vector:
        """The weights and biases."""
        return self.numbers[..., : self.gradient.shape[-1]]

    def initialize(self, rng: np.random.Generator) -> None:
        """Draw the first weights, each layer's as suits its activation."""
        for _, layer in _walk(self.layers):
            layer.initialize(rng)

    def bind(self, workspace: Workspace, *, to_input: bool = False) -> Pass:
        """Bind all layers to a batch size.

        Parameters
        ----------
        workspace : Workspace
        to_input : bool
            Whether the gradient is wanted at the input as well.
        """
        units = self.architecture.inputs.units
        wire = source = workspace.source = workspace.wire(units, learns=to_input, moves=True)
        bound = {}
        for name, layer in self.layers.items():
            bound[name] = layer.bind(wire, workspace)
            wire = bound[name].output
        return Pass(source, wire, bound)

    def predict(self, rows: Matrix) -> Matrix:
        """Return probabilities, or values, of shape (rows, outputs); safe in many threads.

        Rows go through in blocks of powers of two, so that a thread is bound to
        few sizes, whatever it is asked for. One row goes through as two, and a
        layer that would add otherwise for few than for many fills them up: what
        is answered to a row is, to the last bit, the same alone and among any
        others. That rests on how the BLAS adds: it was measured on OpenBLAS
        0.3.31 with its kernels for AVX-512 (SkylakeX). Those for older
        processors add by a row's place in the batch, and the last bits differ.

        Parameters
        ----------
        rows : Matrix of shape (rows, inputs + 1)
            The last column is 1.
        """
        if len(rows) == 1:
            return self._predict_block(rows)
        answers = np.empty((len(rows), self.architecture.answers), dtype=self.numbers.dtype)
        start = 0
        while start < len(rows):
            count = min(self._block, 1 << (len(rows) - start).bit_length() - 1)
            answers[start : start + count] = self._predict_block(rows[start : start + count])
            start += count
        return answers

    def _predict_block(self, rows: Matrix) -> Matrix:
        bound, count = self._bound_to(len(rows)), len(rows)
        if count == bound.source.batch:
            bound.forward(rows)
        else:
            np.copyto(bound.source.full[:, :count], rows.T)
            bound.run()
        logits = bound.logits.value[:, 0] if count == 1 else bound.logits.value[:, :count]
        answered = answer(logits, self.architecture.output)
        return answered[None] if count == 1 else answered.T

    @cached_property
    def _block(self) -> int:
        """How many rows go through at a time, a power of two."""
        widest = max(layer.units for layer in self.layers.values())
        rows = BLOCK_BYTES // (widest * self.numbers.itemsize)
        return min(ROWS_AT_ONCE, 1 << max(rows, 2).bit_length() - 1)

    def _bound_to(self, count: int) -> Pass:
        """Return what this thread bound to so many rows, now or before."""
        passes = self._passes.by_rows
        if count not in passes:
            passes[count] = self.bind(Workspace(self.numbers.dtype, max(count, 2), shares=True))
        return passes[count]

    def tensors(self) -> dict[str, Tensor]:
        """Return all numbers by name, such as ``layers.0.weight``, as views."""
        return {
            f"{name}.{kind}": tensor
            for name, layer in _walk(self.layers)
            for kind, tensor in layer.tensors().items()
        }

    def decayed(self) -> Vector:
        """Return 1 for every parameter that weight decay shrinks, and 0 for biases and the like."""
        other = self.architecture.build(self.numbers.dtype)
        for _, layer in _walk(other.layers):
            for kind, tensor in layer.tensors().items():
                tensor.fill(0 if kind in layer.plain else 1)
        return other.parameters

    def with_numbers(self, numbers: Vector) -> Network:
        """Return a network of the same architecture with numbers of its own."""
        other = self.architecture.build(self.numbers.dtype)
        other.numbers[:] = numbers
        return other


class Pass:
    """A network that was bound to a batch size.

    Parameters
    ----------
    source, logits : Wire
        The first and the last.
    layers : dict of str to Bound
        By name, first to last.

    Attributes
    ----------
    settlings : list of Settling
        Of the layers that relax.
    """

    def __init__(self, source: Wire, logits: Wire, layers: Mapping[str, Bound]) -> None:
        self.source, self.logits, self.layers = source, logits, layers
        bound = layers.values()
        self.settlings = [layer.settling for layer in bound if layer.settling is not None]
        self._forward = [layer.forward for layer in layers.values()]
        self._backward = [layer.backward for layer in reversed(list(layers.values()))]

    def forward(self, rows: Matrix) -> None:
        """Fill the logits for ``rows`` of shape (…, batch, inputs + 1), the last column 1."""
        self.source.full = rows.mT
        self.run()

    def run(self) -> None:
        """Fill the logits for what the source shows."""
        for forward in self._forward:
            forward()

    def backward(self) -> None:
        """Fill the network's gradient from that at the logits.

        Backpropagation proper: each layer, last to first, is handed the
        gradient at its outputs, fills its parameters' part, and hands on the
        gradient at its inputs, which all layers below reuse. What has not
        settled is no answer to learn from: its gradient is 0 in every layer.
        """
        for settling in self.settlings:
            if self.logits.gradient is not None:
                np.copyto(self.logits.gradient, 0, where=~settling.settled)
        for backward in self._backward:
            backward()


def uses_embedding(hidden: spec.NetworkSpec) -> bool:
    """Whether categories are to stay codes."""
    return bool(hidden.layers) and isinstance(hidden.layers[0], spec.EmbeddingLayer)


def answer(logits: Matrix, output: Output) -> Matrix:
    """Return what a prediction makes of logits; shape (outputs, batch), or (outputs,), both.

    The sigmoid of one logit becomes the probabilities of two classes.
    """
    if output == "softmax":
        return softmax(logits)
    if output == "sigmoid":
        second = 0.5 * np.tanh(0.5 * logits) + 0.5
        return np.concatenate([1 - second, second])
    return np.exp(logits) if output == "exp" else logits.copy()


def _walk(layers: Mapping[str, Layer]) -> Iterator[tuple[str, Layer]]:
    """Yield every layer, also those within a block, with its name."""
    for name, layer in layers.items():
        yield name, layer
        if isinstance(layer, Residual):
            yield from _walk(layer.block)


def _last_shape(layers: Mapping[str, Layer], shape: Shape) -> Shape:
    return list(layers.values())[-1].output_shape if layers else shape


def _layers(
    settings: Sequence[spec.Layer], shape: Shape, where: str, inputs: Inputs | None = None
) -> Iterator[tuple[str, Layer]]:
    """Make layers, each for the shape that the one before it gives.

    Those of a block are not told of the network's inputs.
    """
    sequence = None if inputs is None else inputs.sequence
    for position, layer in enumerate(settings):
        name = f"{where}.{position}"
        path = f"/network/{name.replace('.', '/')}"
        if inputs is not None and isinstance(layer, spec.RecurrentLayer):
            made: Layer = _recurrent(layer, sequence, inputs, path)
        else:
            made = _layer(layer, shape, name, path, inputs if position == 0 else None)
        if min(made.output_shape) < 1:
            raise SpecError(path, f"nothing is left of an image of {_words(shape)}")
        yield name, made
        shape = made.output_shape
        if isinstance(made, Recurrent | Embedding):
            sequence = made.sequence
        elif not isinstance(made, _BY_NUMBER):
            sequence = None
        if isinstance(layer, spec.DenseLayer | spec.Conv2dLayer) and layer.activation != "identity":
            yield f"{name}.activation", Activation(layer.activation, shape, within=True)


_BY_NUMBER = (Activation, Dropout, BatchNorm, LayerNorm)
"""Layers that leave every number in its place, so that a sequence stays one."""


def _recurrent(
    layer: spec.RecurrentLayer, sequence: Shape | None, inputs: Inputs, path: str
) -> Recurrent:
    if sequence is None:
        reason, advice = "single rows come in", "say in `sequence` how they follow on each other"
        if inputs.sequence is not None:
            reason = "what the layer before it gives is none"
            advice = "put it first, behind an embedding, or behind recurrent layers with "
            advice += "`return_sequences`"
        raise SpecError(path, f"it reads sequences, but {reason}; {advice}")
    if layer.return_sequences and layer.pooling is not None:
        reason = "with `return_sequences` every step is answered; leave one of the two out"
        raise SpecError(f"{path}/pooling", reason)
    return Recurrent(layer, sequence, masked=inputs.masked)


def _layer(layer: spec.Layer, shape: Shape, name: str, path: str, inputs: Inputs | None) -> Layer:
    if isinstance(layer, spec.EmbeddingLayer):
        if inputs is None or not inputs.levels:
            reason = "an embedding is the first layer, over features of which one is a category"
            raise SpecError(path, reason)
        steps, masked = inputs.steps, inputs.masked
        return Embedding(layer, shape, inputs.levels, steps=steps, masked=masked)
    if isinstance(layer, spec.ReshapeLayer):
        if math.prod(layer.shape) != math.prod(shape):
            had = f"{math.prod(shape):,} numbers come in"
            raise SpecError(f"{path}/shape", f"{_words(layer.shape)} is not {had}")
        return Reshape(shape, tuple(layer.shape))
    if isinstance(layer, spec.ResidualLayer):
        block = dict(_layers(layer.layers, shape, f"{name}.layers"))
        if _last_shape(block, shape) != shape:
            gives = f"{_words(_last_shape(block, shape))}, but takes {_words(shape)}"
            raise SpecError(path, f"the block gives {gives}; both must be the same")
        return Residual(block)
    if isinstance(layer, _IMAGE_LAYERS):
        if len(shape) != 3:
            advice = "put a `reshape` layer before it, or train on a tensor column"
            raise SpecError(path, f"it needs an image, but {_words(shape)} comes in; {advice}")
        return Conv2d(layer, shape) if isinstance(layer, spec.Conv2dLayer) else Pool2d(layer, shape)
    return _flat_layer(layer, shape)


_IMAGE_LAYERS = (spec.Conv2dLayer, spec.MaxPool2dLayer, spec.AveragePool2dLayer)


def _flat_layer(layer: spec.Layer, shape: Shape) -> Layer:
    if isinstance(layer, spec.DenseLayer):
        return Dense(layer, shape)
    if isinstance(layer, spec.EquilibriumLayer):
        return Equilibrium(layer, shape)
    if isinstance(layer, spec.ActivationLayer):
        return Activation(layer.activation, shape)
    if isinstance(layer, spec.DropoutLayer):
        return Dropout(layer, shape)
    if isinstance(layer, spec.BatchNormLayer):
        return BatchNorm(layer, shape)
    if isinstance(layer, spec.LayerNormLayer):
        return LayerNorm(layer, shape)
    return Reshape(shape, (math.prod(shape),))


def _words(shape: Shape | list[int]) -> str:
    return "×".join(map(str, shape))
