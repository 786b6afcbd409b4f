"""Write `values.npz`: what PyTorch makes of the cases. Run it where PyTorch is installed.

``python -m tests.engine.references.make``, after ``pip install torch==2.13.0``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as f

from tests.engine.references.cases import CASES, STEPS, Case, data

VALUES = Path(__file__).with_name("values.npz")


class HardSigmoid(nn.Module):
    """PyTorch's own takes 1/6 in float32 also where it works in float64."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.clamp(x / 6 + 0.5, 0, 1)


ACTIVATIONS: dict[str, nn.Module] = {
    "identity": nn.Identity(),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "relu": nn.ReLU(),
    "leaky_relu": nn.LeakyReLU(0.01),
    "elu": nn.ELU(),
    "selu": nn.SELU(),
    "gelu": nn.GELU(approximate="tanh"),
    "silu": nn.SiLU(),
    "mish": nn.Mish(),
    "softplus": nn.Softplus(threshold=1e9),
    "hard_sigmoid": HardSigmoid(),
    "hard_tanh": nn.Hardtanh(),
    "hard_swish": nn.Hardswish(),
}
OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "rprop": torch.optim.Rprop,
}


class Residual(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.layers = block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


class Layer(nn.Module):
    """A layer with its activation; its parameters bear our names."""

    def __init__(self, inner: nn.Module, activation: str) -> None:
        super().__init__()
        self.inner, self.activation = inner, ACTIVATIONS[activation]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.inner(x))


class Recurrent(nn.Module):
    """PyTorch's own layer by our tensors: its gates are in another order, and have two biases."""

    KINDS = {"rnn": (nn.RNN, [0]), "gru": (nn.GRU, [0, 1, 2]), "lstm": (nn.LSTM, [2, 1, 3, 0])}
    """And which of our gates comes first with it, second, and so on."""

    def __init__(self, settings: dict[str, Any], inputs: int) -> None:
        super().__init__()
        kind, self.order = self.KINDS[settings["type"]]
        units, both = settings["units"], settings.get("bidirectional", False)
        extra = {"nonlinearity": settings["activation"]} if "activation" in settings else {}
        self.inner = [kind(inputs, units, batch_first=True, bidirectional=both, **extra)]
        self.settings, gates = settings, len(self.order)
        for prefix in ("", "reverse_") if both else ("",):
            shapes = {"weight": (gates, units, inputs), "recurrent": (gates, units, units)}
            shapes |= {"bias": (gates, units)}
            shapes |= {"recurrent_bias": (units,)} if kind is nn.GRU else {}
            for name, shape in shapes.items():
                self.register_parameter(prefix + name, nn.Parameter(0.4 * torch.randn(shape)))

    def tensors(self, prefix: str, suffix: str) -> dict[str, torch.Tensor]:
        own = {name.removeprefix(prefix): p for name, p in self.named_parameters()}
        theirs = {"weight": "weight_ih", "recurrent": "weight_hh", "bias": "bias_ih"}
        found = {v: own[k][self.order].flatten(0, 1) for k, v in theirs.items()}
        found["bias_hh"] = torch.zeros_like(found["bias_ih"])
        if "recurrent_bias" in own:
            found["bias_hh"] = torch.cat(
                [found["bias_hh"][: -len(own["recurrent_bias"])], own["recurrent_bias"]]
            )
        return {f"{name}_l0{suffix}": tensor for name, tensor in found.items()}

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        tensors = self.tensors("", "")
        if self.settings.get("bidirectional"):
            tensors |= self.tensors("reverse_", "_reverse")
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        states, last = torch.func.functional_call(self.inner[0], tensors, (packed,))
        states, _ = nn.utils.rnn.pad_packed_sequence(
            states, batch_first=True, total_length=x.shape[1]
        )
        if self.settings.get("return_sequences"):
            return states
        there = (torch.arange(x.shape[1]) < lengths[:, None])[..., None]
        if self.settings.get("pooling") == "mean":
            return states.sum(1) / lengths[:, None]
        if self.settings.get("pooling") == "max":
            return states.masked_fill(~there, -torch.inf).amax(1)
        last = last[0] if isinstance(last, tuple) else last
        return torch.cat(list(last), dim=1)


class Sequences(nn.Module):
    """Recurrent layers on steps that lie as our networks are fed them, and a linear one."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case, width = case, case.shape[0]
        self.layers = nn.ModuleList()
        for settings in case.layers:
            self.layers.append(Recurrent(settings, width))
            width = settings["units"] * (1 + settings.get("bidirectional", False))
        self.last = nn.Linear(width, case.outputs)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        steps, (width,) = self.case.length, self.case.shape
        x = rows[:, : steps * width].reshape(-1, steps, width)
        lengths = torch.full((len(x),), steps)
        if self.case.padded:
            lengths = rows[:, -steps:].sum(1).to(torch.int64)
        for layer in self.layers:
            x = layer(x, lengths)
        return self.last(x)


def build(layers: list[dict[str, Any]], shape: tuple[int, ...]) -> nn.Sequential:
    made, x = nn.Sequential(), torch.zeros(2, *shape)
    for settings in layers:
        made.append(layer(settings, tuple(x.shape[1:])))
        x = made.eval()(torch.zeros(2, *shape))
    return made.train()


def layer(settings: dict[str, Any], shape: tuple[int, ...]) -> nn.Module:
    kind, bias = settings["type"], settings.get("bias", True)
    if kind == "dense":
        inner = nn.Linear(int(np.prod(shape)), settings["units"], bias=bias)
        dense = nn.Sequential(nn.Flatten(), inner) if len(shape) > 1 else inner
        return Layer(dense, settings.get("activation", "relu"))
    if kind == "conv2d":
        sizes = settings["kernel"], settings.get("stride", 1), settings.get("padding", 0)
        return Layer(nn.Conv2d(shape[0], settings["filters"], *sizes), settings["activation"])
    if kind == "batch_norm":
        return nn.BatchNorm1d(shape[0]) if len(shape) == 1 else nn.BatchNorm2d(shape[0])
    if kind == "layer_norm":
        return nn.LayerNorm(shape)
    if kind == "residual":
        return Residual(build(settings["layers"], shape))
    pools = {"max_pool2d": nn.MaxPool2d(2), "average_pool2d": nn.AvgPool2d(2)}
    return pools.get(kind, nn.Flatten())


def loss_of(settings: dict[str, Any], z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    kind = settings["type"]
    if kind == "cross_entropy":
        return f.cross_entropy(z, y, label_smoothing=settings.get("label_smoothing", 0.0))
    if kind == "binary_cross_entropy":
        return f.binary_cross_entropy_with_logits(z[:, 0], y.to(z.dtype))
    if kind == "huber":
        return f.huber_loss(z, y, delta=settings["delta"])
    losses = {"squared_error": f.mse_loss, "absolute_error": f.l1_loss}
    return losses[kind](z, y) if kind in losses else f.poisson_nll_loss(z, y, log_input=True)


def optimizer_of(settings: dict[str, Any], network: nn.Module) -> torch.optim.Optimizer:
    chosen = {k: v for k, v in settings.items() if k not in ("type", "clip_norm", "clip_value")}
    chosen["lr"] = chosen.pop("learning_rate")
    if settings["type"] == "sgd":
        chosen.setdefault("momentum", 0.9)
    decay = chosen.pop("weight_decay", 0.0)
    weights = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim == 1]
    groups = [{"params": weights}, {"params": others}]
    if settings["type"] != "rprop":
        for group, share in zip(groups, (decay, 0.0), strict=True):
            group["weight_decay"] = share
    return OPTIMIZERS[settings["type"]](groups, **chosen)


def clip_norm(network: nn.Module, norm: float) -> None:
    """Scale the gradient down to a length; PyTorch's own adds 1e-6 to what it divides by."""
    gradients = [p.grad for p in network.parameters()]
    length = nn.utils.get_total_norm(gradients)
    for gradient in gradients:
        gradient *= min(1.0, norm / length)


def train(case: Case) -> dict[str, np.ndarray]:
    torch.manual_seed(sum(map(ord, case.name)))
    last = {"type": "dense", "units": case.outputs, "activation": "identity"}
    x, y = map(torch.from_numpy, data(case))
    if case.length is None:
        network: nn.Module = build([*case.layers, last], case.shape)
        x = x.reshape(-1, *case.shape)
    else:
        network = Sequences(case)
    optimizer = optimizer_of(case.optimizer, network)
    values = {f"start/{i}": p.detach().numpy().copy() for i, p in enumerate(network.parameters())}
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(case.loss, network(x), y)
        loss.backward()
        if (value := case.optimizer.get("clip_value")) is not None:
            nn.utils.clip_grad_value_(network.parameters(), value)
        if (norm := case.optimizer.get("clip_norm")) is not None:
            clip_norm(network, norm)
        optimizer.step()
        losses.append(loss.item())
    values["losses"] = np.array(losses)
    values |= {f"end/{i}": p.detach().numpy() for i, p in enumerate(network.parameters())}
    network.eval()
    values["outputs"] = network(x).detach().numpy()
    return values


def main() -> None:
    torch.set_default_dtype(torch.float64)
    found = {f"{case.name}/{name}": value for case in CASES for name, value in train(case).items()}
    np.savez_compressed(VALUES, **found)


if __name__ == "__main__":
    main()
