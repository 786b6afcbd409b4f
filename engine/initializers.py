"""Initializers: random weights of a size that neither fades nor explodes from layer to layer."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from engine.arrays import Matrix
from engine.spec import Activation, Initializer


def _normal(variance: Callable[[int, int], float]) -> Callable[[Matrix, np.random.Generator], None]:
    def fill(weight: Matrix, rng: np.random.Generator) -> None:
        n_out, n_in = weight.shape
        drawn = rng.standard_normal(weight.shape, dtype=weight.dtype.type)
        weight[:] = drawn * math.sqrt(variance(n_in, n_out))

    return fill


def _uniform(
    variance: Callable[[int, int], float],
) -> Callable[[Matrix, np.random.Generator], None]:
    def fill(weight: Matrix, rng: np.random.Generator) -> None:
        n_out, n_in = weight.shape
        drawn = 2 * rng.random(weight.shape, dtype=weight.dtype.type) - 1
        weight[:] = drawn * math.sqrt(3 * variance(n_in, n_out))

    return fill


def glorot(n_in: int, n_out: int) -> float:
    """Return the variance that keeps signals and gradients; Glorot & Bengio (2010), eq. 12."""
    return 2 / (n_in + n_out)


def he(n_in: int, n_out: int) -> float:  # noqa: ARG001 - one signature for all
    """Return the variance that makes up for the half that ReLU drops; He et al. (2015), eq. 10."""
    return 2 / n_in


def lecun(n_in: int, n_out: int) -> float:  # noqa: ARG001 - one signature for all
    """Return the variance that keeps signals alike; LeCun et al. (1998), section 4.6."""
    return 1 / n_in


def orthogonal(weight: Matrix, rng: np.random.Generator) -> None:
    """Fill with orthonormal rows, or columns if there are fewer; Saxe, McClelland & Ganguli (2014).

    Q of a normal matrix, its signs such that every rotation is as likely.
    """
    tall = rng.standard_normal((max(weight.shape), min(weight.shape)))
    q, r = np.linalg.qr(tall)
    q *= np.sign(np.diag(r))
    weight[:] = q if weight.shape == q.shape else q.T


def zeros(weight: Matrix, rng: np.random.Generator) -> None:  # noqa: ARG001 - nothing to draw
    """Fill with 0: for a last layer that is to begin without an opinion."""
    weight.fill(0)


INITIALIZERS: dict[Initializer, Callable[[Matrix, np.random.Generator], None]] = {
    "glorot_uniform": _uniform(glorot),
    "glorot_normal": _normal(glorot),
    "he_uniform": _uniform(he),
    "he_normal": _normal(he),
    "lecun_uniform": _uniform(lecun),
    "lecun_normal": _normal(lecun),
    "orthogonal": orthogonal,
    "zeros": zeros,
}

HE: frozenset[Activation] = frozenset(
    {"relu", "leaky_relu", "elu", "gelu", "silu", "mish", "softplus", "hard_swish"}
)
"""Activations that drop about half of their input."""


def initialize(
    weight: Matrix, name: Initializer | None, activation: Activation, rng: np.random.Generator
) -> None:
    """Fill ``weight`` (n_out, n_in) by the initializer named, or as suits the activation."""
    if name is None:
        name = "he_normal" if activation in HE else "glorot_uniform"
        if activation == "selu":
            name = "lecun_normal"
    INITIALIZERS[name](weight, rng)
