"""Trainings that are compared with PyTorch: 20 steps each, in float64."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np

from engine import spec
from engine.network import Inputs

STEPS, BATCH = 20, 12
FLAT, IMAGE = (6,), (2, 6, 6)

HIDDEN: list[dict[str, Any]] = [
    {"type": "dense", "units": 5, "activation": "tanh"},
    {"type": "dense", "units": 4, "activation": "sigmoid", "bias": False},
]


@dataclass(frozen=True)
class Case:
    """A network, its loss and its optimizer, as specs.

    Parameters
    ----------
    name : str
    layers : list of dict
    loss, optimizer : dict
    shape : tuple of int
        Of one example, or of one step of a sequence.
    length : int, optional
        How many steps a sequence has.
    padded : bool
        Whether some have fewer.
    """

    name: str
    layers: list[dict[str, Any]] = field(default_factory=lambda: HIDDEN)
    loss: dict[str, Any] = field(default_factory=lambda: {"type": "cross_entropy"})
    optimizer: dict[str, Any] = field(default_factory=lambda: {"type": "sgd", "learning_rate": 0.1})
    shape: tuple[int, ...] = FLAT
    length: int | None = None
    padded: bool = False

    @property
    def inputs(self) -> Inputs:
        """What the network is fed."""
        inputs = Inputs(self.shape)
        return inputs if self.length is None else inputs.repeated(self.length, masked=self.padded)

    @property
    def task(self) -> spec.Task:
        """Whether classes or numbers are learnt."""
        classes = ("cross_entropy", "binary_cross_entropy", "hinge")
        return "classification" if self.loss["type"] in classes else "regression"

    @property
    def outputs(self) -> int:
        """How many numbers the network answers."""
        if self.loss["type"] == "binary_cross_entropy":
            return 1
        return 3 if self.task == "classification" else 2


def _activation(name: str) -> Case:
    layers = [{"type": "dense", "units": 5, "activation": name}, HIDDEN[1]]
    return Case(f"activation {name}", layers=layers)


def _optimizer(name: str, **settings: Any) -> Case:
    label = " ".join([name, *(key for key in settings if key != "learning_rate")])
    return Case(f"optimizer {label}", optimizer={"type": name, **settings})


def _loss(name: str, **settings: Any) -> Case:
    return Case(f"loss {' '.join([name, *settings])}", loss={"type": name, **settings})


def _layers(name: str, *layers: dict[str, Any], shape: tuple[int, ...] = FLAT) -> Case:
    return Case(f"layer {name}", layers=list(layers), shape=shape)


def _sequences(name: str, *layers: dict[str, Any], padded: bool = False) -> Case:
    adam = {"type": "adam", "learning_rate": 0.01}
    layers_spec = list(layers)
    return Case(f"layer {name}", layers_spec, optimizer=adam, shape=(3,), length=7, padded=padded)


DENSE = {"type": "dense", "units": 6, "activation": "tanh"}
RNN, GRU, LSTM = ({"type": name, "units": 5} for name in ("rnn", "gru", "lstm"))
MEAN, BOTH, EACH = {"pooling": "mean"}, {"bidirectional": True}, {"return_sequences": True}
CONV = {"type": "conv2d", "filters": 3, "kernel": 3, "activation": "tanh"}

CASES = [
    *(_activation(name) for name in get_args(spec.Activation)),
    _optimizer("sgd", learning_rate=0.1),
    _optimizer("sgd", learning_rate=0.1, momentum=0.0),
    _optimizer("sgd", learning_rate=0.1, nesterov=True),
    _optimizer("sgd", learning_rate=0.1, weight_decay=0.05),
    _optimizer("sgd", learning_rate=0.1, clip_norm=0.05),
    _optimizer("sgd", learning_rate=0.1, clip_value=0.02),
    _optimizer("adagrad", learning_rate=0.1),
    _optimizer("rmsprop", learning_rate=0.01),
    _optimizer("adam", learning_rate=0.01),
    _optimizer("adamw", learning_rate=0.01, weight_decay=0.1),
    _optimizer("nadam", learning_rate=0.01),
    _optimizer("rprop", learning_rate=0.01),
    _loss("cross_entropy"),
    _loss("cross_entropy", label_smoothing=0.1),
    _loss("binary_cross_entropy"),
    _loss("squared_error"),
    _loss("absolute_error"),
    _loss("huber", delta=0.7),
    _loss("poisson"),
    _layers("batch_norm", DENSE, {"type": "batch_norm"}, DENSE),
    _layers("layer_norm", DENSE, {"type": "layer_norm"}, DENSE),
    _layers("residual", DENSE, {"type": "residual", "layers": [DENSE, DENSE]}),
    _layers("conv2d", CONV, shape=IMAGE),
    _layers("conv2d stride padding", {**CONV, "stride": 2, "padding": 1}, shape=IMAGE),
    _layers("conv2d batch_norm", CONV, {"type": "batch_norm"}, {"type": "flatten"}, shape=IMAGE),
    _layers("max_pool2d", CONV, {"type": "max_pool2d"}, shape=IMAGE),
    _layers("average_pool2d", CONV, {"type": "average_pool2d"}, shape=IMAGE),
    _sequences("rnn", RNN),
    _sequences("rnn relu mean", {**RNN, "activation": "relu", **MEAN}),
    _sequences("rnn padded", {**RNN, **MEAN}, padded=True),
    _sequences("gru", GRU),
    _sequences("gru padded max", {**GRU, "pooling": "max"}, padded=True),
    _sequences("gru stacked", {**GRU, **BOTH, **EACH}, {**GRU, **BOTH}),
    _sequences("lstm", LSTM),
    _sequences("lstm padded mean", {**LSTM, **MEAN}, padded=True),
    _sequences("lstm padded stacked", {**LSTM, **BOTH, **EACH}, {**LSTM, **BOTH}, padded=True),
]


def data(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of shape (BATCH, inputs), and labels or targets."""
    rng = np.random.default_rng(1986)
    x = rng.standard_normal((BATCH, case.inputs.units))
    if case.length is not None and case.padded:
        lengths = 1 + np.arange(BATCH) % case.length
        x[:, -case.length :] = np.arange(case.length) < lengths[:, None]
    if case.task == "classification":
        return x, rng.integers(0, max(case.outputs, 2), BATCH)
    counts = rng.poisson(2.0, (BATCH, case.outputs)).astype(np.float64)
    return x, counts if case.loss["type"] == "poisson" else rng.standard_normal(counts.shape)
