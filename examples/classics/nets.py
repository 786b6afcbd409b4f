"""Nets: what is trained; many copies of it side by side in one network of the engine.

The copies see the same inputs and nothing of each other: a weight between units
of two copies is 0 and stays 0. Each computes what it would alone. Nets this
small spend their time between the products rather than in them, so that a step
of fifty costs little more than a step of one.

In the same way a net can lack a link, or keep one as it is: its weight belongs to nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from engine.arrays import Labels, Vector
from engine.layers.activation import Activation
from engine.layers.layer import Layer
from engine.network import Architecture, Inputs, Network
from engine.spec import Conv2dLayer, DenseLayer, NetworkSpec, ReshapeLayer, ResidualLayer
from engine.spec import Layer as LayerSpec
from examples.classics.tasks import PLANE

NOBODY, EVERYONE = -1, -2
"""Instead of a copy: whose a weight is that does not learn, and who sees an input."""

FIELD = 3
"""Height and width of what a unit sees of the plane with T and C."""


@dataclass(frozen=True)
class Net:
    """Copies of a net.

    Parameters
    ----------
    network : Network
        Of all copies.
    owners : mapping of str to Labels
        The copy that each weight and bias belongs to, or NOBODY, in the shape of
        the network's tensors.
    copies : int
    """

    network: Network
    owners: Mapping[str, Labels]
    copies: int

    def draw(self, copy: int, start: float, rng: np.random.Generator) -> None:
        """Draw the weights and biases of a copy uniformly from minus ``start`` to ``start``."""
        for name, tensor in self.network.tensors().items():
            own = self.owners[name] == copy
            tensor[own] = rng.uniform(-start, start, np.count_nonzero(own))

    def weights(self, copy: int) -> Mapping[str, Vector]:
        """Return the weights and biases of a copy, without those that are nobody's."""
        tensors = self.network.tensors()
        return {name: tensors[name][owners == copy] for name, owners in self.owners.items()}

    def put(self, copy: int, weights: Mapping[str, Vector]) -> None:
        """Set the weights and biases of a copy."""
        for name, tensor in self.network.tensors().items():
            tensor[self.owners[name] == copy] = weights[name]

    def learns(self) -> Vector:
        """Return 1 for every parameter that is somebody's, else 0."""
        other = self.network.architecture.build(self.network.numbers.dtype)
        for name, tensor in other.tensors().items():
            tensor[:] = self.owners[name] != NOBODY
        return other.parameters


class LogisticOutputs(Architecture):
    """A network whose outputs are logistic units like all others."""

    def layers(self) -> dict[str, Layer]:
        """Return the layers, and behind them the logistic function."""
        return {**super().layers(), "output": Activation("sigmoid", (self.outputs,))}


def network_of(inputs: int, hidden: list[LayerSpec], outputs: int) -> Network:
    """Return a network of zeros."""
    shape = Inputs((inputs,))
    return LogisticOutputs(NetworkSpec(layers=hidden), shape, outputs, "identity").build("float64")


def logistic(units: int) -> DenseLayer:
    """Return a layer of logistic units."""
    return DenseLayer(units=units, activation="sigmoid")


def sums(units: int) -> DenseLayer:
    """Return a layer of weighted sums, and no more."""
    return DenseLayer(units=units, activation="identity", bias=False)


def links(layer: str, above: Labels, below: Labels) -> dict[str, Labels]:
    """Return whose the weights and biases are between units that belong to these copies."""
    linked = (below == above[:, None]) | (below == EVERYONE)
    return {f"{layer}.weight": np.where(linked, above[:, None], NOBODY), f"{layer}.bias": above}


def layered(sizes: tuple[int, ...], copies: int) -> Net:
    """Return nets of which each layer sees all of the one below."""
    inputs, *units = sizes
    *hidden, outputs = (copies * n for n in units)
    levels = [np.full(inputs, EVERYONE), *(np.repeat(np.arange(copies), n) for n in units)]
    owners: dict[str, Labels] = {}
    for layer, (below, above) in enumerate(pairwise(levels)):
        owners |= links(f"layers.{layer}", above, below)
    return Net(network_of(inputs, [logistic(n) for n in hidden], outputs), owners, copies)


def direct(copies: int) -> Net:
    """Return 2-1-1 nets of which the output sees both inputs as well as the hidden unit.

    A residual block adds something to its input. Here the input has a 0 for
    every hidden unit, and what is added there is the unit's output.
    """
    inputs, hidden = np.full(2, EVERYONE), np.arange(copies)
    block = ResidualLayer(layers=[logistic(copies), sums(2 + copies)])
    network = network_of(2 + copies, [block], copies)
    to_place = network.tensors()["layers.0.layers.1.weight"]
    to_place[2:] = np.eye(copies)
    owners = {
        **links("layers.0.layers.0", hidden, np.append(inputs, np.full(copies, NOBODY))),
        "layers.0.layers.1.weight": np.full(to_place.shape, NOBODY),
        **links("layers.1", hidden, np.append(inputs, hidden)),
    }
    return Net(network, owners, copies)


def shared_field(copies: int) -> Net:
    """Return nets with a unit at every place of the plane, all of the same weights.

    The output has one weight for all of them too: it sees their sum.
    """
    places, each = (PLANE - FIELD + 1) ** 2, np.arange(copies)
    hidden: list[LayerSpec] = [
        ReshapeLayer(shape=[1, PLANE, PLANE]),
        Conv2dLayer(filters=copies, kernel=FIELD, activation="sigmoid"),
        sums(copies),
    ]
    network = network_of(PLANE**2, hidden, copies)
    to_sum = network.tensors()["layers.2.weight"]
    to_sum[:] = np.kron(np.eye(copies), np.ones(places))
    owners = {
        **links("layers.1", each, np.full(FIELD**2, EVERYONE)),
        "layers.2.weight": np.full(to_sum.shape, NOBODY),
        **links("layers.3", each, each),
    }
    return Net(network, owners, copies)


def two_codes(copies: int) -> Net:
    """Return the nets of the family trees: six units see the person, six others the relation."""
    net = layered((36, 12, 12, 6, 24), copies)
    sees_person = np.tile(np.arange(12) < 6, copies)
    is_person = np.arange(36) < 24
    net.owners["layers.0.weight"][sees_person[:, None] != is_person] = NOBODY
    return net
