"""Metrics: how good predictions are, in figures that people know."""

from __future__ import annotations

import math

import numpy as np

from engine.arrays import Labels, Matrix


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
        smallest step of the number type.
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
    return {
        "accuracy": float(hits.sum() / rows),
        "balanced_accuracy": float((hits[occurs] / true[occurs]).mean()),
        "macro_f1": float((2 * hits[counts] / (true + claimed)[counts]).mean()),
        "log_loss": float(-np.log(np.maximum(chosen, smallest)).mean()),
    }


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
        determination, absent where a target is constant and it is undefined.
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
    return metrics
