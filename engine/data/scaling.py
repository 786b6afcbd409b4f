"""Scaling: numbers to the size that a network learns well from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.arrays import Vector
from engine.spec import Scale

CLIP = 3.0
"""Inputs are squeezed smoothly into (-CLIP, CLIP), so that no outlier rules the first layer."""

LARGEST = 1e100
SMALLEST = 1e-50
"""Larger numbers count as `LARGEST` and smaller spreads as `SMALLEST`: nothing overflows."""

LARGEST_UNSCALED = 1e15
"""Numbers that are not scaled are cut off here: beyond it a layer overflows in float32."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Scaler:
    """Numbers to ``clip((x - center) * factor)``, with ``clip(x) = x / sqrt(1 + (x / CLIP)**2)``.

    The robust scaling and smooth clipping of RealMLP (Holzmüller, Grinsztajn & Steinwart 2024,
    section 3); `standard` has the mean and the deviation in place of median and quartiles.

    Parameters
    ----------
    center, factor : Vector of shape (width,)
        The factor is 0 for numbers that were all equal when it was fitted: they vanish.
    clips : bool
    """

    center: Vector
    factor: Vector
    clips: bool = True

    def scaled(self, numbers: Numbers) -> Numbers:
        """Return the scaled numbers, shape (rows, width)."""
        if not self.clips:
            return np.clip(numbers, -LARGEST_UNSCALED, LARGEST_UNSCALED)
        scaled = numbers - self.center
        scaled *= self.factor
        squeezed = scaled / CLIP
        squeezed *= squeezed
        squeezed += 1
        scaled /= np.sqrt(squeezed, squeezed)
        return scaled

    def slopes(self, numbers: Numbers) -> Numbers:
        """Return the slope of `scaled` at every number, shape (rows, width)."""
        if not self.clips:
            return (np.abs(numbers) <= LARGEST_UNSCALED).astype(np.float64)
        x = (numbers - self.center) * self.factor
        return np.asarray(self.factor * (1 + (x / CLIP) ** 2) ** -1.5)


def fit_scaler(how: Scale, numbers: Numbers) -> Scaler:
    """Fit on numbers of shape (rows, width), each column by itself; without rows all vanish."""
    width = numbers.shape[1]
    if how == "none":
        return unscaled(width)
    if not len(numbers):
        return Scaler(np.zeros(width), np.zeros(width))
    span = np.ptp(numbers, axis=0)
    if how == "standard":
        return Scaler(numbers.mean(axis=0), factor(numbers.std(axis=0), span))
    low, median, high = np.percentile(numbers, [25, 50, 75], axis=0)
    return Scaler(median, factor(_robust_spread(low, high, span), span))


def fit_flags(how: Scale, counts: NDArray[np.intp], rows: int) -> Scaler:
    """Fit on columns of zeros and ones as `fit_scaler` would, from how many ones each has.

    Parameters
    ----------
    how : Scale
    counts : ndarray of shape (width,)
    rows : int
        Of which the others are zeros.
    """
    if how == "none":
        return unscaled(len(counts))
    span = ((counts > 0) & (counts < rows)).astype(np.float64)
    if how == "standard":
        share = counts / max(rows, 1)
        return Scaler(share, factor(np.sqrt(share * (1 - share)), span))
    low, median, high = (
        np.clip((rows - 1) * share - (rows - counts - 1), 0.0, 1.0) for share in (0.25, 0.5, 0.75)
    )
    return Scaler(median, factor(_robust_spread(low, high, span), span))


def unscaled(width: int) -> Scaler:
    """Return what leaves so many numbers as they are."""
    return Scaler(np.zeros(width), np.ones(width), clips=False)


def joined(scalers: list[Scaler]) -> Scaler:
    """Return one scaler for what these scale side by side; all of them clip, or none."""
    center = np.concatenate([scaler.center for scaler in scalers])
    factors = np.concatenate([scaler.factor for scaler in scalers])
    return Scaler(center, factors, scalers[0].clips)


def _robust_spread(low: Vector, high: Vector, span: Vector) -> Vector:
    """Return the distance of the quartiles, or half the span where they coincide."""
    return np.where(high > low, high - low, span / 2)


def factor(spread: Vector | np.floating[Any], span: Vector | np.floating[Any]) -> Vector:
    """Return ``1 / spread``, or 0 where the span says that all numbers are equal."""
    return np.where(span > 0, 1 / np.maximum(spread, SMALLEST), 0.0)
