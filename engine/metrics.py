"""Metrics: how good predictions are, in figures that people know."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.arrays import Labels, Matrix, Tensor, Vector

ClassificationMetric = Literal[
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "log_loss",
    "auc",
    "true_negatives",
    "false_positives",
    "false_negatives",
    "true_positives",
]
RegressionMetric = Literal["mae", "rmse", "r2", "mape", "pinball_loss"]
HIGHER_IS_BETTER = frozenset(
    {"accuracy", "balanced_accuracy", "macro_f1", "auc", "r2", "true_negatives", "true_positives"}
)
"""Of all others, as of losses, less is."""


def classification_metrics(probabilities: Matrix, labels: Labels) -> dict[str, float]:
    """Measure class probabilities against the true classes.

    Parameters
    ----------
    probabilities : Matrix of shape (rows, classes)
    labels : Labels of shape (rows,)
        At least one.

    Returns
    -------
    dict
        ``accuracy``; ``balanced_accuracy``, the mean recall of the classes that
        occur; ``macro_f1``, the mean F1 of the classes that occur or are
        predicted; ``log_loss`` in nats, where a probability of 0 counts as the
        smallest step of the number type; ``auc``, the area under the ROC curve,
        of the second of two classes, else the mean over the classes of each
        against the rest, absent where it is undefined; with two classes also
        ``true_positives``, ``false_positives``, ``false_negatives`` and
        ``true_negatives``, the second class being the positive one.
    """
    rows, classes = probabilities.shape
    if labels.shape != (rows,):
        raise ValueError(f"probabilities are {probabilities.shape}, labels {labels.shape}")
    predicted = probabilities.argmax(axis=1)
    true = np.bincount(labels, minlength=classes)
    claimed = np.bincount(predicted, minlength=classes)
    hits = np.bincount(labels[labels == predicted], minlength=classes)
    occurs, counts = true > 0, true + claimed > 0
    chosen = probabilities[np.arange(rows), labels].astype(np.float64)
    smallest = float(np.finfo(probabilities.dtype).eps)
    metrics = {
        "accuracy": float(hits.sum() / rows),
        "balanced_accuracy": float((hits[occurs] / true[occurs]).mean()),
        "macro_f1": float((2 * hits[counts] / (true + claimed)[counts]).mean()),
        "log_loss": float(-np.log(np.maximum(chosen, smallest)).mean()),
    }
    areas = [
        area_under_curve(probabilities[:, k], labels == k)
        for k in (range(1, 2) if classes == 2 else range(classes))
        if 0 < true[k] < rows
    ]
    if areas:
        metrics["auc"] = float(np.mean(areas))
    if classes == 2:
        table = confusion(probabilities, labels)
        names = ("true_negatives", "false_positives", "false_negatives", "true_positives")
        metrics |= dict(zip(names, map(float, table.ravel()), strict=True))
    return metrics


def confusion(probabilities: Matrix, labels: Labels) -> NDArray[np.intp]:
    """Count the rows of each true class (down) and each predicted class (across)."""
    classes = probabilities.shape[1]
    pairs = labels * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def area_under_curve(scores: Vector, positive: NDArray[np.bool_]) -> float:
    """Return the probability that a positive row scores above a negative one; ties count half.

    The rank sum of Mann & Whitney (1947), which is the area under the ROC curve
    (Hanley & McNeil 1982). Both kinds of rows must occur.
    """
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))


def regression_metrics(predictions: Matrix, targets: Matrix) -> dict[str, float]:
    """Measure predicted numbers against the true ones.

    Parameters
    ----------
    predictions, targets : Matrix of shape (rows, outputs)
        At least one row.

    Returns
    -------
    dict
        ``mae``; ``rmse``; ``r2``, the mean over the outputs of the coefficient of
        determination, absent where a target is constant and it is undefined;
        ``mape``, the mean of ``|error / target|``, absent where a target is 0.
    """
    if predictions.shape != targets.shape:
        raise ValueError(f"predictions are {predictions.shape}, targets {targets.shape}")
    t = targets.astype(np.float64)
    difference = predictions - t
    squares = (difference**2).mean(axis=0)
    metrics = {
        "mae": float(np.abs(difference).mean()),
        "rmse": math.sqrt(squares.mean()),
    }
    if (t.max(axis=0) > t.min(axis=0)).all():
        metrics["r2"] = float((1 - squares / t.var(axis=0)).mean())
    if (t != 0).all():
        metrics["mape"] = float(np.abs(difference / t).mean())
    return metrics


def quantile_metrics(
    predictions: Tensor, targets: Matrix, levels: Sequence[float]
) -> dict[str, float]:
    """Measure predicted quantiles against the true numbers.

    Parameters
    ----------
    predictions : Tensor of shape (rows, outputs, levels)
    targets : Matrix of shape (rows, outputs)
    levels : sequence of float
        Rising.

    Returns
    -------
    dict
        ``pinball_loss``, the mean over the levels q of ``q (t - y)`` or ``(1 - q) (y - t)``,
        whichever is positive (Koenker & Bassett 1978); with several levels ``coverage``, the share
        of numbers from the lowest to the highest one, which is best near the distance of the two.
    """
    t = targets.astype(np.float64)
    difference = t[:, :, None] - predictions
    q = np.asarray(levels)
    metrics = {"pinball_loss": float(np.maximum(q * difference, (q - 1) * difference).mean())}
    if len(levels) > 1:
        inside = (predictions[:, :, 0] <= t) & (t <= predictions[:, :, -1])
        metrics["coverage"] = float(inside.mean())
    return metrics
