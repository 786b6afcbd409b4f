"""Initializers: random weights of a size that neither fades nor explodes from layer to layer."""

from __future__ import annotations

import math

import numpy as np

from engine.arrays import Matrix
from engine.spec import Activation


def he_normal(weight: Matrix, rng: np.random.Generator) -> None:
    """Fill ``weight`` (n_in, n_out) from N(0, 2 / n_in); He et al. (2015), equation 10."""
    n_in, _ = weight.shape
    rng.standard_normal(out=weight, dtype=weight.dtype.type)
    weight *= math.sqrt(2 / n_in)


def glorot_uniform(weight: Matrix, rng: np.random.Generator) -> None:
    """Fill ``weight`` (n_in, n_out) from U(-r, r); Glorot & Bengio (2010), equation 16."""
    n_in, n_out = weight.shape
    rng.random(out=weight, dtype=weight.dtype.type)
    weight -= 0.5
    weight *= 2 * math.sqrt(6 / (n_in + n_out))


def initialize(weight: Matrix, activation: Activation, rng: np.random.Generator) -> None:
    """Fill ``weight`` as suits the activation that follows: He before ReLU, else Glorot."""
    (he_normal if activation == "relu" else glorot_uniform)(weight, rng)
