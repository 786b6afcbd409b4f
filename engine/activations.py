"""Activations: functions of one number, each with its slope."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import spec
from engine.arrays import Matrix, bits
from engine.wires import Step, Workspace

Slope = Callable[[], NDArray[Any]]
"""Returns the slope at every value, after the step forward."""

Activation = Callable[[Matrix, Matrix, Workspace], tuple[Step, Slope]]
"""From inputs ``z``, an array ``y`` for the outputs, and a workspace to the two ways."""


def identity(z: Matrix, y: Matrix, workspace: Workspace) -> tuple[Step, Slope]:
    """``z``."""
    one = workspace.scalar(1)
    return lambda: np.copyto(y, z), lambda: one


def sigmoid(z: Matrix, y: Matrix, workspace: Workspace) -> tuple[Step, Slope]:
    """``1 / (1 + exp(-z))``, computed as ``tanh(z / 2) / 2 + 1/2``, which cannot overflow."""
    half, one, slope = workspace.scalar(0.5), workspace.scalar(1), workspace.array(*y.shape)

    def forward() -> None:
        logistic(z, half, y)

    def backward() -> Matrix:
        np.subtract(one, y, out=slope)
        return np.multiply(slope, y, out=slope)

    return forward, backward


def logistic(z: Matrix, half: Matrix, out: Matrix) -> Matrix:
    """Fill ``out`` with the logistic function of ``z``; ``half`` is 1/2."""
    np.multiply(z, half, out=out)
    np.tanh(out, out=out)
    np.multiply(out, half, out=out)
    return np.add(out, half, out=out)


def tanh(z: Matrix, y: Matrix, workspace: Workspace) -> tuple[Step, Slope]:
    """``tanh(z)``."""
    one, slope = workspace.scalar(1), workspace.array(*y.shape)

    def backward() -> Matrix:
        np.multiply(y, y, out=slope)
        return np.subtract(one, slope, out=slope)

    return lambda: np.tanh(z, out=y), backward


def relu(z: Matrix, y: Matrix, workspace: Workspace) -> tuple[Step, Slope]:
    """``max(z, 0)``; the slope at 0 is taken as 0 (Nair & Hinton 2010).

    The slope is the sign of the output's bits, as an integer: those of 0 are 0, and those
    of a larger number are a larger integer. NumPy compares with an array of zeros quicker
    than with one zero, and takes the signs of integers quicker than those of floats. The
    zeros are never written, so that many of them take no memory of their own.
    """
    zeros, slope, y_bits = workspace.array(*y.shape), bits(workspace.scratch(*y.shape)), bits(y)

    def forward() -> None:
        np.maximum(z, zeros, out=y)

    return forward, lambda: np.sign(y_bits, out=slope)


LEAK = 0.01


def leaky_relu(z: Matrix, y: Matrix, workspace: Workspace) -> tuple[Step, Slope]:
    """``max(z, 0.01 z)`` (Maas, Hannun & Ng 2013)."""
    leak, rest, zero = (workspace.scalar(number) for number in (LEAK, 1 - LEAK, 0))
    slope = workspace.array(*y.shape)

    def forward() -> None:
        np.multiply(z, leak, out=y)
        np.maximum(y, z, out=y)

    def backward() -> Matrix:
        np.greater(y, zero, out=slope)
        np.multiply(slope, rest, out=slope)
        return np.add(slope, leak, out=slope)

    return forward, backward


def _exponential(scale: float, alpha: float) -> Activation:
    def bind(z: Matrix, y: Matrix, workspace: Workspace) -> tuple[Step, Slope]:
        below, slope, zero = (
            workspace.array(*y.shape),
            workspace.array(*y.shape),
            workspace.scalar(0),
        )
        times, bottom = workspace.scalar(scale), workspace.scalar(scale * alpha)
        jump = workspace.scalar(scale - scale * alpha)

        def forward() -> None:
            np.minimum(z, zero, out=below)
            np.expm1(below, out=below)
            np.multiply(below, bottom, out=below)
            np.maximum(z, zero, out=y)
            np.multiply(y, times, out=y)
            np.add(y, below, out=y)

        def backward() -> Matrix:
            # Below 0 the slope is scale * alpha * exp(z) = y + scale * alpha; above it is scale.
            np.greater(y, zero, out=slope)
            np.multiply(slope, jump, out=slope)
            np.add(slope, below, out=slope)
            return np.add(slope, bottom, out=slope)

        return forward, backward

    return bind


elu = _exponential(1.0, 1.0)
"""``z`` above 0, ``exp(z) - 1`` below (Clevert, Unterthiner & Hochreiter 2016)."""

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

selu = _exponential(SELU_SCALE, SELU_ALPHA)
"""ELU scaled to keep mean 0 and variance 1 (Klambauer et al. 2017, equation 2 and appendix)."""


def gelu(z: Matrix, y: Matrix, workspace: Workspace) -> tuple[Step, Slope]:
    """``z`` times the normal distribution function; Hendrycks & Gimpel (2016), tanh form."""
    c, cubic = workspace.scalar(math.sqrt(2 / math.pi)), workspace.scalar(0.044715)
    half, one, three = (workspace.scalar(number) for number in (0.5, 1, 3))
    t, inner, slope = (workspace.array(*y.shape) for _ in range(3))

    def forward() -> None:
        np.multiply(z, z, out=t)
        np.multiply(t, cubic, out=t)
        np.add(t, one, out=t)
        np.multiply(t, z, out=t)
        np.multiply(t, c, out=t)
        np.tanh(t, out=t)
        np.add(t, one, out=y)
        np.multiply(y, z, out=y)
        np.multiply(y, half, out=y)

    def backward() -> Matrix:
        # slope = ((1 + t) + z (1 - t^2) u') / 2, where u = c (z + cubic z^3), t = tanh(u).
        np.multiply(z, z, out=inner)
        np.multiply(inner, cubic, out=inner)
        np.multiply(inner, three, out=inner)
        np.add(inner, one, out=inner)
        np.multiply(inner, c, out=inner)
        np.multiply(inner, z, out=inner)
        np.multiply(t, t, out=slope)
        np.subtract(one, slope, out=slope)
        np.multiply(slope, inner, out=slope)
        np.add(slope, t, out=slope)
        np.add(slope, one, out=slope)
        return np.multiply(slope, half, out=slope)

    return forward, backward


def silu(z: Matrix, y: Matrix, workspace: Workspace) -> tuple[Step, Slope]:
    """``z`` times the logistic function of ``z`` (Elfwing, Uchibe & Doya 2018)."""
    half, one = workspace.scalar(0.5), workspace.scalar(1)
    s, slope = workspace.array(*y.shape), workspace.array(*y.shape)

    def forward() -> None:
        logistic(z, half, s)
        np.multiply(z, s, out=y)

    def backward() -> Matrix:
        np.subtract(one, s, out=slope)
        np.multiply(slope, y, out=slope)
        return np.add(slope, s, out=slope)

    return forward, backward


MISH_CEILING = 20.0
"""Above it ``tanh(softplus(z))`` is 1 in float64 too, and ``exp(z)**2`` would overflow soon."""


def mish(z: Matrix, y: Matrix, workspace: Workspace) -> tuple[Step, Slope]:
    """``z tanh(log(1 + exp(z)))``, as ``z n / (n + 2)``, n = e (e + 2), e = exp(z) (Misra 2019)."""
    ceiling, one, two = (workspace.scalar(number) for number in (MISH_CEILING, 1, 2))
    e, n, t, slope = (workspace.array(*y.shape) for _ in range(4))

    def forward() -> None:
        np.minimum(z, ceiling, out=e)
        np.exp(e, out=e)
        np.add(e, two, out=n)
        np.multiply(n, e, out=n)
        np.add(n, two, out=t)
        np.divide(n, t, out=t)
        np.multiply(z, t, out=y)

    def backward() -> Matrix:
        # slope = t + z t', t' = 4 e (e + 1) / (n + 2)^2
        np.add(n, two, out=n)
        np.add(e, one, out=slope)
        np.multiply(slope, e, out=slope)
        np.divide(slope, n, out=slope)
        np.divide(slope, n, out=slope)
        np.multiply(slope, z, out=slope)
        np.multiply(slope, two, out=slope)
        np.multiply(slope, two, out=slope)
        return np.add(slope, t, out=slope)

    return forward, backward


def softplus(z: Matrix, y: Matrix, workspace: Workspace) -> tuple[Step, Slope]:
    """``log(1 + exp(z))``, computed as ``max(z, 0) + log(1 + exp(-|z|))`` (Dugas et al. 2001)."""
    zero, slope = workspace.scalar(0), workspace.array(*y.shape)

    def forward() -> None:
        np.abs(z, out=slope)
        np.negative(slope, out=slope)
        np.exp(slope, out=slope)
        np.log1p(slope, out=slope)
        np.maximum(z, zero, out=y)
        np.add(y, slope, out=y)

    def backward() -> Matrix:
        np.negative(y, out=slope)
        np.expm1(slope, out=slope)
        return np.negative(slope, out=slope)

    return forward, backward


def hard_sigmoid(z: Matrix, y: Matrix, workspace: Workspace) -> tuple[Step, Slope]:
    """``z / 6 + 1/2``, cut off at 0 and 1 (Howard et al. 2019)."""
    sixth, half, zero, one = (workspace.scalar(number) for number in (1 / 6, 0.5, 0, 1))
    slope, below = workspace.array(*y.shape), workspace.array(*y.shape)

    def forward() -> None:
        np.multiply(z, sixth, out=y)
        np.add(y, half, out=y)
        np.clip(y, zero, one, out=y)

    def backward() -> Matrix:
        np.greater(y, zero, out=slope)
        np.less(y, one, out=below)
        np.multiply(slope, below, out=slope)
        return np.multiply(slope, sixth, out=slope)

    return forward, backward


def hard_tanh(z: Matrix, y: Matrix, workspace: Workspace) -> tuple[Step, Slope]:
    """``z``, cut off at -1 and 1 (Collobert 2004)."""
    one, minus_one = workspace.scalar(1), workspace.scalar(-1)
    size, inside = workspace.array(*y.shape), workspace.mask(*y.shape)

    def backward() -> NDArray[np.bool_]:
        np.abs(y, out=size)
        return np.less(size, one, out=inside)

    return lambda: np.clip(z, minus_one, one, out=y), backward


def hard_swish(z: Matrix, y: Matrix, workspace: Workspace) -> tuple[Step, Slope]:
    """``z`` times `hard_sigmoid` of ``z`` (Howard et al. 2019)."""
    h = workspace.array(*y.shape)
    inner_forward, inner_backward = hard_sigmoid(z, h, workspace)

    def forward() -> None:
        inner_forward()
        np.multiply(z, h, out=y)

    def backward() -> Matrix:
        slope: Matrix = inner_backward()
        np.multiply(slope, z, out=slope)
        return np.add(slope, h, out=slope)

    return forward, backward


ACTIVATIONS: dict[spec.Activation, Activation] = {
    "identity": identity,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "selu": selu,
    "gelu": gelu,
    "silu": silu,
    "mish": mish,
    "softplus": softplus,
    "hard_sigmoid": hard_sigmoid,
    "hard_tanh": hard_tanh,
    "hard_swish": hard_swish,
}

IN_PLACE: frozenset[spec.Activation] = frozenset(
    {"sigmoid", "tanh", "relu", "elu", "selu", "softplus", "hard_sigmoid", "hard_tanh"}
)
"""Those that can write their outputs over their inputs: their slope does not ask for these."""


SWITCHES: frozenset[spec.Activation] = frozenset({"relu"})
"""Those whose slope is 0 or 1 and comes as integers: a gradient's bits times it are off or on."""


def softmax(logits: Matrix) -> Matrix:
    """Return ``exp(z) / sum(exp(z))`` of each column, shifted so that the largest exponent is 0."""
    p: Matrix = logits - np.maximum.reduce(logits, axis=0)
    np.exp(p, p)
    # Along a vector `reduce` would add in another order than it does down the columns.
    total = np.add.accumulate(p)[-1] if p.ndim == 1 else np.add.reduce(p, axis=0)
    np.divide(p, total, p)
    return p
