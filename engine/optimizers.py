"""Optimizers: each turns the gradient into a step, in one pass over the flat vectors."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import DTypeLike

from engine import spec
from engine.arrays import Vector, aligned_zeros

CHUNK = 32_768
"""How many numbers are worked on at a time, so that all of their vectors stay in cache."""


class Optimizer(Protocol):
    """What the training loop asks of an optimizer.

    Attributes
    ----------
    t : int
        Steps taken.
    moments : dict of str to Vector
        What it remembers of earlier gradients, by name; for checkpoints.
    """

    t: int
    moments: dict[str, Vector]

    def step(self, parameters: Vector, gradient: Vector, learning_rate: float) -> None:
        """Update ``parameters`` in place."""


class Sgd:
    """Stochastic gradient descent with momentum, after Sutskever et al. (2013), equations 1-4.

    As PyTorch writes it: ``v = mu * v + g``, then ``p -= lr * v``, or with Nesterov
    ``p -= lr * (g + mu * v)``. Deviations from the paper: the velocity is kept
    without the learning rate, which matters only when that changes, and with
    Nesterov the parameters are those that the paper calls ``theta + mu * v``.

    Parameters
    ----------
    settings : spec.Sgd
    size : int
        How many parameters.
    dtype : dtype
    """

    def __init__(self, settings: spec.Sgd, size: int, dtype: DTypeLike) -> None:
        self.mu, self.nesterov, self.t = settings.momentum, settings.nesterov, 0
        self.moments = {"velocity": aligned_zeros(size, dtype)} if self.mu else {}
        self._chunks = _chunks(size)
        self._scratch = aligned_zeros(min(size, CHUNK), dtype)

    def step(self, parameters: Vector, gradient: Vector, learning_rate: float) -> None:
        """Update ``parameters`` in place."""
        self.t += 1
        for chunk in self._chunks:
            g = gradient[chunk]
            scratch = self._scratch[: len(g)]
            direction = self._direction(chunk, g, scratch) if self.mu else g
            np.multiply(direction, learning_rate, out=scratch)
            np.subtract(parameters[chunk], scratch, out=parameters[chunk])

    def _direction(self, chunk: slice, g: Vector, scratch: Vector) -> Vector:
        v = self.moments["velocity"][chunk]
        np.multiply(v, self.mu, out=v)
        np.add(v, g, out=v)
        if not self.nesterov:
            return v
        np.multiply(v, self.mu, out=scratch)
        return np.add(scratch, g, out=scratch)


class Adam:
    """Adam: Kingma & Ba (2015), Algorithm 1, with the corrections folded into two scalars.

    Kept are ``m = m_t / (1 - beta1)`` and ``v = v_t / (1 - beta2)``, which saves two
    products a number: with ``c = sqrt((1 - beta2) / (1 - beta2**t))`` the paper's
    ``alpha * m_hat / (sqrt(v_hat) + epsilon)`` is
    ``alpha * (1 - beta1) / (1 - beta1**t) / c * m / (sqrt(v) + epsilon / c)``.

    Parameters
    ----------
    settings : spec.Adam
    size : int
        How many parameters.
    dtype : dtype
    """

    def __init__(self, settings: spec.Adam, size: int, dtype: DTypeLike) -> None:
        self.beta1, self.beta2, self.epsilon = settings.beta1, settings.beta2, settings.epsilon
        self.t = 0
        self.moments = {name: aligned_zeros(size, dtype) for name in ("m", "v")}
        self._chunks = _chunks(size)
        self._scratch = aligned_zeros(min(size, CHUNK), dtype)

    def step(self, parameters: Vector, gradient: Vector, learning_rate: float) -> None:
        """Update ``parameters`` in place."""
        self.t += 1
        c = math.sqrt((1 - self.beta2) / (1 - self.beta2**self.t))
        alpha = learning_rate * (1 - self.beta1) / (1 - self.beta1**self.t) / c
        for chunk in self._chunks:
            self._step(parameters[chunk], gradient[chunk], chunk, alpha, self.epsilon / c)

    def _step(self, p: Vector, g: Vector, chunk: slice, alpha: float, epsilon: float) -> None:
        m, v, scratch = self.moments["m"][chunk], self.moments["v"][chunk], self._scratch[: len(p)]
        np.multiply(m, self.beta1, out=m)
        np.add(m, g, out=m)
        np.multiply(v, self.beta2, out=v)
        np.multiply(g, g, out=scratch)
        np.add(v, scratch, out=v)
        np.sqrt(v, out=scratch)
        np.add(scratch, epsilon, out=scratch)
        np.divide(m, scratch, out=scratch)
        np.multiply(scratch, alpha, out=scratch)
        np.subtract(p, scratch, out=p)


def build_optimizer(settings: spec.Optimizer, size: int, dtype: DTypeLike) -> Optimizer:
    """Return the optimizer of a spec for ``size`` parameters."""
    if isinstance(settings, spec.Sgd):
        return Sgd(settings, size, dtype)
    return Adam(settings, size, dtype)


def _chunks(size: int) -> list[slice]:
    return [slice(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK)]
