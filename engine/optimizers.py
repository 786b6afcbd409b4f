"""Optimizers: each turns the gradient into a step, over flat vectors.

A step works through the vectors in chunks that stay in cache. What all of them
can do to a gradient before that is in `prepare_gradient`. The two that most
networks are trained by hand NumPy the place of a result as its last argument,
which takes less time than by its name, ``out``.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from engine import spec
from engine.arrays import Tensor, Vector, aligned_zeros

CHUNK = 32_768
"""How many numbers are worked on at a time, so that all of their vectors stay in cache."""

Evaluate = Callable[[], float]
"""Works out the loss, and the gradient, at what the parameters are now."""


class Optimizer:
    """What the training loop asks of an optimizer.

    Parameters
    ----------
    settings : spec.Optimizer
    parameters, gradient : Vector
        Of one shape; `step` changes the first by the second.
    decayed : Vector
        1 where weight decay applies, else 0.

    Attributes
    ----------
    t : int
        Steps taken.
    moments : dict of str to Vector
        What it remembers, by name; for checkpoints.
    """

    remembers: Sequence[str] = ()

    def __init__(
        self, settings: Any, parameters: Vector, gradient: Vector, decayed: Vector
    ) -> None:
        self.settings, self.t, self.decayed = settings, 0, decayed
        size, dtype = parameters.size, parameters.dtype
        moments = {name: aligned_zeros(size, dtype) for name in self.remembers}
        self.work_on(parameters, gradient, moments)

    def work_on(self, parameters: Vector, gradient: Vector, moments: dict[str, Vector]) -> None:
        """Take these vectors, with what is in them, for its own from now on."""
        self.parameters, self.gradient, self.moments = parameters, gradient, moments
        size = parameters.size
        scratch = aligned_zeros(min(size, CHUNK), parameters.dtype)
        self.chunks = [
            (parameters[c], gradient[c], scratch[: c.stop - c.start], c)
            for c in (slice(i, min(i + CHUNK, size)) for i in range(0, size, CHUNK))
        ]

    def scalar(self, value: float) -> Tensor:
        """Return a number as an array without dimensions."""
        return np.array(value, dtype=self.parameters.dtype)

    def step(self, learning_rate: float, loss: float, evaluate: Evaluate) -> None:  # noqa: ARG002 - some look
        """Update the parameters in place.

        Parameters
        ----------
        learning_rate : float
        loss : float
            What it is now; the gradient has been filled.
        evaluate : callable
        """
        self.t += 1
        self.update(learning_rate)

    def update(self, learning_rate: float) -> None:
        """Update the parameters in place, by the gradient alone."""


def prepare_gradient(settings: spec.OptimizerSpec, optimizer: Optimizer) -> None:
    """Clip the gradient, then add what regularization asks for, in place."""
    p, g = optimizer.parameters, optimizer.gradient
    if settings.clip_value is not None:
        np.clip(g, -settings.clip_value, settings.clip_value, out=g)
    if settings.clip_norm is not None:
        length = math.sqrt(float(np.vdot(g, g)))
        if length > settings.clip_norm:
            np.multiply(g, settings.clip_norm / length, out=g)
    if settings.l1 > 0:
        np.add(g, settings.l1 * np.sign(p) * optimizer.decayed, out=g)
    if settings.weight_decay > 0 and not isinstance(settings, spec.AdamW | spec.Lion):
        np.add(g, settings.weight_decay * p * optimizer.decayed, out=g)


def needs_preparation(settings: spec.OptimizerSpec) -> bool:
    """Whether `prepare_gradient` has anything to do."""
    asked = (settings.clip_value, settings.clip_norm, settings.l1, settings.weight_decay)
    return any(number is not None and number > 0 for number in asked)


def shrinks(settings: spec.OptimizerSpec) -> bool:
    """Whether some parameters are to be made smaller in every step, and others are not."""
    return settings.weight_decay > 0 or settings.l1 > 0


class Sgd(Optimizer):
    """Stochastic gradient descent with momentum, after Sutskever et al. (2013), equations 1-4.

    As PyTorch writes it: ``v = mu * v + g``, then ``p -= lr * v``, or with Nesterov
    ``p -= lr * (g + mu * v)``. Deviations from the paper: the velocity is kept
    without the learning rate, which matters only when that changes, and with
    Nesterov the parameters are those that the paper calls ``theta + mu * v``.
    """

    def __init__(self, settings: spec.Sgd, *vectors: Vector) -> None:
        self.remembers = ("velocity",) if settings.momentum > 0 else ()
        super().__init__(settings, *vectors)
        self.mu, self.rate = self.scalar(settings.momentum), self.scalar(0)

    def update(self, learning_rate: float) -> None:
        """Update the parameters in place."""
        self.rate[()] = learning_rate
        for p, g, scratch, chunk in self.chunks:
            direction = self._direction(g, scratch, chunk) if self.remembers else g
            np.multiply(direction, self.rate, scratch)
            np.subtract(p, scratch, p)

    def _direction(self, g: Vector, scratch: Vector, chunk: slice) -> Vector:
        v = self.moments["velocity"][chunk]
        np.multiply(v, self.mu, v)
        np.add(v, g, v)
        if not self.settings.nesterov:
            return v
        np.multiply(v, self.mu, out=scratch)
        return np.add(scratch, g, out=scratch)


class Adagrad(Optimizer):
    """``p -= lr * g / (sqrt(s) + epsilon)``, s the sum of g**2; Duchi, Hazan & Singer (2011)."""

    remembers = ("sum",)

    def update(self, learning_rate: float) -> None:
        """Update the parameters in place."""
        for p, g, scratch, chunk in self.chunks:
            s = self.moments["sum"][chunk]
            np.multiply(g, g, out=scratch)
            np.add(s, scratch, out=s)
            np.sqrt(s, out=scratch)
            np.add(scratch, self.settings.epsilon, out=scratch)
            np.divide(g, scratch, out=scratch)
            np.multiply(scratch, learning_rate, out=scratch)
            np.subtract(p, scratch, out=p)


class RmsProp(Optimizer):
    """``p -= lr * g / (sqrt(v) + epsilon)``, v the late mean of g**2; Tieleman & Hinton (2012)."""

    remembers = ("v",)

    def update(self, learning_rate: float) -> None:
        """Update the parameters in place."""
        rho = self.settings.decay
        for p, g, scratch, chunk in self.chunks:
            v = self.moments["v"][chunk]
            np.multiply(v, rho, out=v)
            np.multiply(g, g, out=scratch)
            np.multiply(scratch, 1 - rho, out=scratch)
            np.add(v, scratch, out=v)
            np.sqrt(v, out=scratch)
            np.add(scratch, self.settings.epsilon, out=scratch)
            np.divide(g, scratch, out=scratch)
            np.multiply(scratch, learning_rate, out=scratch)
            np.subtract(p, scratch, out=p)


class Adam(Optimizer):
    """Adam: Kingma & Ba (2015), Algorithm 1, with the corrections folded into two scalars.

    Kept are ``m = m_t / (1 - beta1)`` and ``v = v_t / (1 - beta2)``, which saves two
    products a number: with ``c = sqrt((1 - beta2) / (1 - beta2**t))`` the paper's
    ``alpha * m_hat / (sqrt(v_hat) + epsilon)`` is
    ``alpha * (1 - beta1) / (1 - beta1**t) / c * m / (sqrt(v) + epsilon / c)``.
    """

    remembers = ("m", "v")

    def __init__(self, settings: spec.Adam | spec.AdamW, *vectors: Vector) -> None:
        super().__init__(settings, *vectors)
        self.beta1, self.beta2 = self.scalar(settings.beta1), self.scalar(settings.beta2)
        self.alpha, self.epsilon = self.scalar(0), self.scalar(0)

    def work_on(self, parameters: Vector, gradient: Vector, moments: dict[str, Vector]) -> None:
        """Take these vectors for its own."""
        super().work_on(parameters, gradient, moments)
        m, v = moments["m"], moments["v"]
        self.all_chunks = [(p, g, m[c], v[c], scratch) for p, g, scratch, c in self.chunks]

    def update(self, learning_rate: float) -> None:
        """Update the parameters in place."""
        s, beta1, beta2, alpha, epsilon = (
            self.settings,
            self.beta1,
            self.beta2,
            self.alpha,
            self.epsilon,
        )
        c = math.sqrt((1 - s.beta2) / (1 - s.beta2**self.t))
        alpha[()] = learning_rate * (1 - s.beta1) / (1 - s.beta1**self.t) / c
        epsilon[()] = s.epsilon / c
        for p, g, m, v, scratch in self.all_chunks:
            np.multiply(m, beta1, m)
            np.add(m, g, m)
            np.multiply(v, beta2, v)
            np.multiply(g, g, scratch)
            np.add(v, scratch, v)
            np.sqrt(v, scratch)
            np.add(scratch, epsilon, scratch)
            np.divide(m, scratch, scratch)
            np.multiply(scratch, alpha, scratch)
            np.subtract(p, scratch, p)


class AdamW(Adam):
    """Adam after ``p -= lr * weight_decay * p``; Loshchilov & Hutter (2019), Algorithm 2."""

    def update(self, learning_rate: float) -> None:
        """Update the parameters in place."""
        _shrink(self, learning_rate)
        super().update(learning_rate)


def _shrink(optimizer: Optimizer, learning_rate: float) -> None:
    """Take its share of every decayed parameter away."""
    share = learning_rate * optimizer.settings.weight_decay
    if share > 0:
        for p, _, scratch, chunk in optimizer.chunks:
            np.multiply(optimizer.decayed[chunk], p, out=scratch)
            np.multiply(scratch, share, out=scratch)
            np.subtract(p, scratch, out=p)


class Nadam(Optimizer):
    """Adam with Nesterov momentum; Dozat (2016), Algorithm 2.

    The momentum warms up as the paper suggests:

    ``mu_t = beta1 (1 - 0.96**(t momentum_decay) / 2)``; the step is
    ``lr (mu_{t+1} m / (1 - prod mu_{..t+1}) + (1 - mu_t) g / (1 - prod mu_{..t}))`` over the root.
    """

    remembers = ("m", "v")

    def __init__(self, settings: spec.Nadam, *vectors: Vector) -> None:
        super().__init__(settings, *vectors)
        self.moments["momentum_product"] = np.ones(1)

    def update(self, learning_rate: float) -> None:
        """Update the parameters in place."""
        s, product = self.settings, self.moments["momentum_product"]
        now, later = (
            s.beta1 * (1 - 0.5 * 0.96 ** (t * s.momentum_decay)) for t in (self.t, self.t + 1)
        )
        product *= now
        of_gradient = learning_rate * (1 - now) / (1 - float(product[0]))
        of_momentum = learning_rate * later / (1 - float(product[0]) * later)
        correction = 1 - s.beta2**self.t
        for p, g, scratch, chunk in self.chunks:
            m, v = self.moments["m"][chunk], self.moments["v"][chunk]
            m += (1 - s.beta1) * (g - m)
            np.multiply(v, s.beta2, out=v)
            np.multiply(g, g, out=scratch)
            np.multiply(scratch, 1 - s.beta2, out=scratch)
            np.add(v, scratch, out=v)
            np.divide(v, correction, out=scratch)
            np.sqrt(scratch, out=scratch)
            np.add(scratch, s.epsilon, out=scratch)
            np.divide(of_gradient * g + of_momentum * m, scratch, out=scratch)
            np.subtract(p, scratch, out=p)


class Lion(Optimizer):
    """``p -= lr (sign(beta1 m + (1 - beta1) g) + weight_decay p)``; Chen et al. (2023), Alg. 2."""

    remembers = ("m",)

    def update(self, learning_rate: float) -> None:
        """Update the parameters in place."""
        _shrink(self, learning_rate)
        for p, g, scratch, chunk in self.chunks:
            m = self.moments["m"][chunk]
            np.multiply(g, 1 - self.settings.beta1, out=scratch)
            scratch += self.settings.beta1 * m
            np.sign(scratch, out=scratch)
            np.multiply(scratch, learning_rate, out=scratch)
            np.subtract(p, scratch, out=p)
            np.multiply(m, self.settings.beta2, out=m)
            np.multiply(g, 1 - self.settings.beta2, out=scratch)
            np.add(m, scratch, out=m)


class Rprop(Optimizer):
    """iRprop- and iRprop+; Igel & Hüsken (2000), Tables 1 and 2, after Riedmiller & Braun (1993).

    Each weight has a step size, which grows while its gradient keeps its sign
    and shrinks when that changes; after a change the gradient counts as 0. With
    ``plus`` the step before is taken back there, if the loss rose. The
    schedule scales the steps that are made.
    """

    remembers = ("size", "last_gradient", "last_step")

    def __init__(self, settings: spec.Rprop, *vectors: Vector) -> None:
        super().__init__(settings, *vectors)
        self.moments["size"].fill(settings.learning_rate)
        self.moments["last_loss"] = np.full(1, np.inf)
        self.rose = False

    def step(self, learning_rate: float, loss: float, evaluate: Evaluate) -> None:  # noqa: ARG002 - one signature for all
        """Update the parameters in place."""
        self.rose = loss > self.moments["last_loss"][0]
        super().step(learning_rate, loss, evaluate)
        self.moments["last_loss"][0] = loss

    def update(self, learning_rate: float) -> None:
        """Update the parameters in place."""
        s, scale = self.settings, learning_rate / self.settings.learning_rate
        for p, g, _, chunk in self.chunks:
            size, last_g, last = (
                self.moments[name][chunk] for name in ("size", "last_gradient", "last_step")
            )
            product = g * last_g
            grows, shrinks = product > 0, product < 0
            size *= np.where(grows, s.grow, np.where(shrinks, s.shrink, 1))
            np.clip(size, s.smallest, s.largest, out=size)
            if s.plus and self.rose:
                p -= np.where(shrinks, last, 0)
            last_g[:] = np.where(shrinks, 0, g)
            last[:] = -scale * np.sign(last_g) * size
            p += last


class Lbfgs(Optimizer):
    """Limited-memory BFGS; Nocedal & Wright (2006), Algorithms 7.4 and 7.5.

    The step length is found by bisection for the weak Wolfe conditions
    (Lewis & Overton 2013, Algorithm 2.6). Its evaluations are not counted as
    updates, and what it remembers of the curvature begins anew after a
    checkpoint's history.
    """

    SUFFICIENT, CURVATURE, TRIES = 1e-4, 0.9, 25

    def __init__(self, settings: spec.Lbfgs, *vectors: Vector) -> None:
        super().__init__(settings, *vectors)
        size, dtype, n = self.parameters.size, self.parameters.dtype, settings.history
        self.moments = {name: np.zeros((n, size), dtype) for name in ("steps", "changes")}
        self.moments["kept"] = np.zeros(1)

    def step(self, learning_rate: float, loss: float, evaluate: Evaluate) -> None:
        """Update the parameters in place."""
        self.t += 1
        start, g = self.parameters.copy(), self.gradient.copy()
        d = self._direction(g)
        if not np.vdot(d, g) < 0:
            d, self.moments["kept"][0] = -g, 0
        self._search(start, loss, float(np.vdot(d, g)), d, learning_rate, evaluate)
        self._remember(self.parameters - start, self.gradient - g)

    def _history(self) -> list[tuple[Vector, Vector]]:
        """Return steps and changes of the gradient, oldest first."""
        kept = int(self.moments["kept"][0])
        pairs = list(zip(self.moments["steps"], self.moments["changes"], strict=True))
        return pairs[len(pairs) - kept :]

    def _direction(self, g: Vector) -> Vector:
        q, history, alphas = g.copy(), self._history(), deque[float]()
        for s, y in reversed(history):
            alphas.appendleft(float(np.vdot(s, q) / np.vdot(s, y)))
            q -= alphas[0] * y
        if history:
            s, y = history[-1]
            q *= np.vdot(s, y) / np.vdot(y, y)
        else:
            q *= 1 / max(1.0, float(np.abs(g).sum()))
        for (s, y), alpha in zip(history, alphas, strict=True):
            q += (alpha - float(np.vdot(y, q) / np.vdot(s, y))) * s
        return -q

    def _search(
        self,
        start: Vector,
        loss: float,
        slope: float,
        d: Vector,
        length: float,
        evaluate: Evaluate,
    ) -> None:
        """Leave the parameters where the step ends, and the gradient as it is there."""
        low, high = 0.0, math.inf
        for _ in range(self.TRIES):
            self.parameters[:] = start + length * d
            now = evaluate()
            if not now <= loss + self.SUFFICIENT * length * slope:
                high = length
            elif float(np.vdot(self.gradient, d)) < self.CURVATURE * slope:
                low = length
            else:
                return
            length = (low + high) / 2 if math.isfinite(high) else 2 * low
        self.parameters[:] = start + low * d
        evaluate()

    def _remember(self, s: Vector, y: Vector) -> None:
        """Keep the pair, unless it says that the loss curves down."""
        if not np.vdot(s, y) > 1e-10 * np.vdot(y, y):
            return
        for name, newest in (("steps", s), ("changes", y)):
            rows = self.moments[name]
            for row, newer in pairwise(rows):
                row[:] = newer
            rows[-1] = newest
        kept = self.moments["kept"]
        kept[0] = min(kept[0] + 1, len(self.moments["steps"]))


_OPTIMIZERS: dict[type[spec.OptimizerSpec], type[Optimizer]] = {
    spec.Sgd: Sgd,
    spec.Adagrad: Adagrad,
    spec.RmsProp: RmsProp,
    spec.Adam: Adam,
    spec.AdamW: AdamW,
    spec.Nadam: Nadam,
    spec.Lion: Lion,
    spec.Rprop: Rprop,
    spec.Lbfgs: Lbfgs,
}


def build_optimizer(
    settings: spec.Optimizer, parameters: Vector, gradient: Vector, decayed: Vector
) -> Optimizer:
    """Return the optimizer of a spec for these vectors."""
    return _OPTIMIZERS[type(settings)](settings, parameters, gradient, decayed)


def remembered(settings: spec.Optimizer) -> int:
    """Return how many vectors as long as the parameters the optimizer keeps."""
    if isinstance(settings, spec.Lbfgs):
        return 2 * settings.history
    if isinstance(settings, spec.Sgd):
        return int(settings.momentum > 0)
    return len(_OPTIMIZERS[type(settings)].remembers)
