"""The work that a storm disturbs: two small datasets, and jobs that differ in all that is saved."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from typing import Any

from tests.e2e.services import DIGITS, IRIS

DIGITS_ROWS = 400


def datasets() -> dict[str, bytes]:
    """Return the datasets as CSV, by name."""
    lines = gzip.decompress(DIGITS.read_bytes()).splitlines(keepends=True)
    return {"iris": IRIS.read_bytes(), "digits": b"".join(lines[: DIGITS_ROWS + 1])}


@dataclass(frozen=True)
class Work:
    """A job to submit any number of times: each comes to the same bits.

    Parameters
    ----------
    dataset, target : str
    spec : dict
        The rest of the spec.
    """

    dataset: str
    target: str
    spec: dict[str, Any]


def _dense(units: int, activation: str = "relu") -> dict[str, Any]:
    return {"type": "dense", "units": units, "activation": activation}


WORK = {
    "plain": Work("iris", "species", {"seed": 1, "training": {"epochs": 250}}),
    "momentum": Work(
        "iris",
        "species",
        {
            "seed": 2,
            "network": {"layers": [_dense(16, "tanh")]},
            "optimizer": {"type": "sgd", "learning_rate": 0.05, "momentum": 0.9},
            "schedule": {"type": "step", "epochs": 60},
            "training": {"epochs": 300, "batch_size": 16},
        },
    ),
    "full batch": Work(
        "iris",
        "species",
        {
            "seed": 3,
            "optimizer": {"type": "lbfgs"},
            "training": {"epochs": 150, "batch_size": "full"},
        },
    ),
    "folds": Work(
        "iris",
        "species",
        {"seed": 4, "validation": {"folds": 3}, "training": {"epochs": 60}},
    ),
    "regression": Work(
        "iris",
        "petal_width",
        {
            "seed": 5,
            "precision": "float64",
            "optimizer": {"type": "nadam"},
            "schedule": {"type": "plateau", "patience": 5},
            "training": {"epochs": 250, "stop": {"patience": 100}},
        },
    ),
    "dropout": Work(
        "digits",
        "digit",
        {
            "seed": 6,
            "task": "classification",
            "network": {"layers": [_dense(64), {"type": "dropout", "rate": 0.2}, _dense(32)]},
            "optimizer": {"type": "adamw"},
            "schedule": {"type": "cosine"},
            "training": {"epochs": 100, "batch_size": 16},
        },
    ),
    "average": Work(
        "digits",
        "digit",
        {
            "seed": 7,
            "task": "classification",
            "network": {"layers": [_dense(64), {"type": "batch_norm"}]},
            "optimizer": {"type": "rmsprop"},
            "schedule": {"type": "one_cycle"},
            "training": {"epochs": 100, "average_decay": 0.98},
        },
    ),
    "signs": Work(
        "digits",
        "digit",
        {
            "seed": 8,
            "task": "classification",
            "network": {"layers": [_dense(48, "gelu")]},
            "optimizer": {"type": "lion"},
            "training": {"epochs": 150, "batch_size": 64},
            "validation": {"fraction": 0.3},
        },
    ),
}
"""Optimizers with different memories, mini-batches and the full batch, dropout, folds, schedules,
an average of the weights, two precisions: half a second to some seconds each."""
