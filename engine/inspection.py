"""Looking inside a trained network: what it does with an example, and what it has learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.arrays import Labels, Matrix, Tensor
from engine.data import quantiles
from engine.data.batches import Examples
from engine.data.table import Table
from engine.data.targets import ClassEncoder
from engine.errors import DataError
from engine.layers.convolution import Conv2d
from engine.layers.dense import Dense
from engine.layers.equilibrium import Equilibrium
from engine.losses import bind_loss
from engine.model import Model
from engine.network import Network, Pass, answer
from engine.wires import Workspace


@dataclass(frozen=True)
class LayerTrace:
    """What one layer did with one example.

    Parameters
    ----------
    name, kind : str
        Such as ``layers.0`` and ``dense``.
    output : Tensor
        In the shape of the layer's output.
    delta : Tensor or None
        The gradient of the loss at the output.
    gradients : dict of str to Tensor
        Of the loss at the layer's weights and biases.
    """

    name: str
    kind: str
    output: Tensor
    delta: Tensor | None
    gradients: dict[str, Tensor]


@dataclass(frozen=True)
class Trace:
    """One example's way through the network and back.

    Parameters
    ----------
    loss : float
    layers : list of LayerTrace
        In backward order: the last layer first, as backpropagation visits them.
    """

    loss: float
    layers: list[LayerTrace]


def trace(model: Model, table: Table, target: Any) -> Trace:
    """Send the one row of a table forward, and the error at its target back.

    Parameters
    ----------
    model : Model
    table : Table
        The inputs.
    target : class, number, or list of numbers
        What the network should have answered.

    Raises
    ------
    SchemaError
        The target is no class of the model, or no number.
    DataError
        The example does not settle.
    """
    network = model.network.with_numbers(model.network.numbers)
    rows = model.features.transform(table, network.numbers.dtype)
    bound, workspace = _bind(network, len(rows))
    loss = bind_loss(model.settings.loss, model.settings.task, bound.logits, workspace)
    bound.forward(rows)
    value = loss(_targets(model, rows, target), None)
    bound.backward()
    _check_settled(bound)
    return Trace(value, _layers(network, bound)[::-1])


def _bind(network: Network, batch: int) -> tuple[Pass, Workspace]:
    workspace = Workspace(network.numbers.dtype, batch, learns=True)
    return network.bind(workspace, to_input=True), workspace


def _check_settled(bound: Pass) -> None:
    """Refuse what has no slope: the last state of a relaxation that did not end."""
    for settling in bound.settlings:
        if not settling.settled.all():
            row = int(settling.settled.argmin())
            reason = f"row {row} does not settle in an equilibrium layer, so it has no gradient"
            raise DataError(f"{reason}; more `max_iterations` may do")


def _targets(model: Model, rows: Matrix, target: Any) -> Matrix:
    outputs, encoder = model.network.architecture.outputs, model.target
    y: Matrix | Labels
    if isinstance(encoder, ClassEncoder):
        y = np.array([encoder.label(target)], dtype=np.intp)
    else:
        y = encoder.scale(target).astype(rows.dtype)
    return Examples(rows, y, outputs).targets(y)


def _layers(network: Network, bound: Pass) -> list[LayerTrace]:
    traces = []
    for name, layer in network.layers.items():
        wire = bound.layers[name].output
        delta = None if wire.gradient is None else wire.gradient[:, 0].reshape(layer.output_shape)
        traces.append(
            LayerTrace(
                name,
                type(layer).__name__.lower(),
                wire.value[:, 0].reshape(layer.output_shape),
                delta,
                dict(layer.split(layer.gradients)),
            )
        )
    return traces


@dataclass(frozen=True)
class Saliency:
    """How much each input moves what is predicted.

    Parameters
    ----------
    outputs : sequence of int
        Which output was looked at, by row.
    gradients : dict of str to Tensor
        By input column, of shape (rows,) or (rows, …): the slope of that
        output's probability or value, per unit of the column.
    """

    outputs: Sequence[int]
    gradients: dict[str, Tensor]


def saliency(model: Model, table: Table, output: int | None = None) -> Saliency:
    """Return the slope of an output at the inputs of every row; Simonyan et al. (2014).

    Parameters
    ----------
    model : Model
    table : Table
        The inputs.
    output : int, optional
        Which class or target; the predicted class unless given, or the first target.

    Raises
    ------
    DataError
        A row does not settle.
    """
    network = model.network
    rows = model.features.transform(table, network.numbers.dtype)
    bound, _ = _bind(network.with_numbers(network.numbers), len(rows))
    bound.forward(rows)
    y = answer(bound.logits.value, network.architecture.output)
    chosen = y.argmax(axis=0) if model.classes else np.zeros(len(rows), dtype=np.intp)
    if output is not None:
        chosen = np.full(len(rows), output)
    d_logits = bound.logits.gradient
    if d_logits is None or bound.source.gradient is None:
        raise TypeError("the network was bound without gradients")
    d_logits[:] = _slopes(y, chosen, network.architecture.output, model.quantiles)
    bound.backward()
    _check_settled(bound)
    gradients = model.features.pull_back(table, bound.source.gradient.T)
    if not isinstance(model.target, ClassEncoder):
        unit = model.target.deviation[chosen]
        gradients = {
            name: gradient * unit.reshape(-1, *(1,) * (gradient.ndim - 1))
            for name, gradient in gradients.items()
        }
    return Saliency(chosen.tolist(), gradients)


def _slopes(y: Matrix, chosen: Labels, output: str, levels: Sequence[float]) -> Matrix:
    """Return the slope of the chosen answer of each column at every logit."""
    examples = np.arange(y.shape[1])
    if levels:
        slopes, middle = np.zeros_like(y), quantiles.middle(levels)
        for place in middle:
            slopes[chosen * len(levels) + place, examples] = 1 / len(middle)
        return slopes
    one_hot = np.zeros_like(y)
    one_hot[chosen, examples] = 1
    if output == "softmax":
        return y[chosen, examples] * (one_hot - y)
    if output == "sigmoid":
        sign = 2 * chosen - 1
        return np.asarray(sign * y[0] * y[1])[None]
    return one_hot * y if output == "exp" else one_hot


def first_features(model: Model) -> tuple[str, Tensor] | None:
    """Return the first layer that has weights, and what each of its units looks for.

    Returns
    -------
    name : str
    weights : Tensor of shape (units, inputs) or (units, channels, height, width)
        As images where the layer sees images. None where no layer comes first that sees the inputs.
    """
    for name, layer in model.network.layers.items():
        if isinstance(layer, Conv2d):
            channels, kernel = layer.input_shape[0], layer.settings.kernel
            weights = layer.tensors()["weight"]
            return name, weights.reshape(-1, channels, kernel, kernel)
        if isinstance(layer, Dense | Equilibrium):
            return name, layer.tensors()["weight"].reshape(-1, *layer.input_shape)
        if layer.parameters:
            return None
    return None
