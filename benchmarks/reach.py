"""Ask whether units that see each other learn what a static network of as many parameters does not.

A ring of 16 cells, of which each is open with a probability of 0.85; one open cell has a source.
Which cells does it reach, through open ones alone? A network sees which cells are open and where
the source is, and answers for each cell. That is connectedness, at which perceptrons of bounded
order fail (Minsky & Papert 1969), and the least fixed point of "open, and the source or next to
a cell that is reached". A static network of four times as many parameters is asked as well.

Both kinds are trained from specs as the service trains them, on 1,000 boards, of which a fifth
validates, and asked about 2,000 others. Candidates are compared by the validation loss, over
boards that are not used again; a static one has at least as many parameters as the equilibrium
layer, and may train for four times as many epochs. A figure is the median over the seeds, each
with boards and first weights of its own.
``python -m benchmarks.reach [SEEDS]``
"""

from __future__ import annotations

import itertools
import math
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table as Printed
from threadpoolctl import threadpool_limits

from engine.data.profiling import profile
from engine.data.table import Column, Table
from engine.errors import UnsettledError
from engine.fitting import fit
from engine.resolution import resolve
from engine.spec import PARAMETER_BUDGET, TrainingSpec

CELLS, OPEN = 16, 0.85
TRAINED_ON, ASKED = 1000, 2000
TARGETS = [f"reached_{cell}" for cell in range(CELLS)]
TUNING_SEEDS = (1000, 1001)

RATES, EPOCHS = (0.003, 0.01, 0.03, 0.1), 100


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to train.

    Parameters
    ----------
    layers : list of dict
        As in a spec.
    learning_rate : float
    epochs : int
    """

    layers: list[dict[str, Any]]
    learning_rate: float
    epochs: int

    def __str__(self) -> str:
        shape = "-".join(str(layer["units"]) for layer in self.layers)
        first = self.layers[0]
        return f"{first['type']} {shape}, {first['activation']}, {self.learning_rate:g}"


@dataclass(frozen=True)
class Outcome:
    """What came of one training.

    Parameters
    ----------
    loss : float
        Of validation.
    cells, boards : float
        The share of the cells, and of the whole boards, that were answered right.
    parameters : int
    seconds : float
        Of the process, for the training.
    """

    loss: float
    cells: float
    boards: float
    parameters: int
    seconds: float


def boards(seed: int, rows: int) -> Table:
    """Draw boards, and follow the source around each."""
    rng = np.random.default_rng(seed)
    is_open = rng.random((rows, CELLS)) < OPEN
    source = np.arange(CELLS) == rng.integers(CELLS, size=(rows, 1))
    is_open |= source
    reached = source
    for _ in range(CELLS // 2):
        reached = is_open & (reached | np.roll(reached, 1, 1) | np.roll(reached, -1, 1))
    board = Column("board", "tensor", np.hstack([is_open, source]).astype(np.float32))
    answers = zip(TARGETS, reached.T.astype(float), strict=True)
    return Table((board, *(Column(name, "number", values) for name, values in answers)))


def train(candidate: Candidate, seed: int) -> Outcome | None:
    """Train on some boards, and ask about others; None if too little settled."""
    table, others = boards(2 * seed, TRAINED_ON), boards(2 * seed + 1, ASKED)
    asked = TrainingSpec.model_validate(
        {
            "target": TARGETS,
            "network": {"layers": candidate.layers},
            "optimizer": {"type": "adam", "learning_rate": candidate.learning_rate},
            "schedule": {"type": "cosine"},
            "training": {"epochs": candidate.epochs, "batch_size": 32},
            "validation": {"fraction": 0.2},
            "seed": seed,
        }
    )
    settings = resolve(asked, profile(table), table.rows, PARAMETER_BUDGET)
    begun, fitting = time.process_time(), fit(table, settings)
    try:
        points = [report.point for report in fitting.run() if report.point is not None]
    except UnsettledError:
        return None
    seconds, model = time.process_time() - begun, fitting.model()
    right = (model.predict(others) > 0.5) == _answers(others)
    return Outcome(
        loss=min(point.validation_loss or 0.0 for point in points),
        cells=float(right.mean()),
        boards=float(right.all(axis=1).mean()),
        parameters=len(model.network.parameters),
        seconds=seconds,
    )


def _answers(table: Table) -> NDArray[np.bool_]:
    return np.stack([table.column(name).values == 1 for name in TARGETS], axis=1)


def equilibrium() -> Iterator[Candidate]:
    """Yield layers of units that see each other, one for each side that a cell is reached from."""
    for activation, rate in itertools.product(("sigmoid", "tanh"), RATES):
        layer = {"type": "equilibrium", "units": 2 * CELLS, "activation": activation}
        yield Candidate([layer], rate, EPOCHS)


def static(parameters: int) -> Iterator[Candidate]:
    """Yield static networks of at least so many parameters."""
    for depth, activation, rate in itertools.product((1, 2, 3, 4), ("relu", "tanh"), RATES):
        layer = {"type": "dense", "units": _width(depth, parameters), "activation": activation}
        yield Candidate([layer] * depth, rate, 4 * EPOCHS)


def _width(depth: int, parameters: int) -> int:
    """Return how many units a layer needs for a network of so many parameters."""

    def count(units: int) -> int:
        between = (depth - 1) * (units + 1) * units
        return (2 * CELLS + 1) * units + between + (units + 1) * CELLS

    return next(units for units in itertools.count(1) if count(units) >= parameters)


def best(candidates: Iterable[Candidate]) -> Candidate:
    """Return the candidate with the lowest validation loss, which has to settle each time."""
    losses = {}
    for candidate in candidates:
        outcomes = [train(candidate, seed) for seed in TUNING_SEEDS]
        losses[candidate] = statistics.fmean(o.loss if o else math.inf for o in outcomes)
        print(f"{candidate}: {losses[candidate]:.4f}", flush=True)
    return min(losses, key=losses.__getitem__)


def main(seeds: int) -> None:
    """Measure and print."""
    threadpool_limits(1, user_api="blas")
    table = Printed("network", "parameters", "whole boards", "least to most", "cells", "seconds")
    parameters = _add(table, best(equilibrium()), seeds)
    for times in (1, 4):
        _add(table, best(static(times * parameters)), seeds)
    Console(width=120).print(table)


def _add(table: Printed, candidate: Candidate, seeds: int) -> int:
    """Train with every seed and add the medians; return how many parameters the network has."""
    outcomes = [train(candidate, seed) for seed in range(seeds)]
    settled = [outcome for outcome in outcomes if outcome is not None]
    boards, cells, seconds = (
        [getattr(outcome, figure) for outcome in settled]
        for figure in ("boards", "cells", "seconds")
    )
    table.add_row(
        f"{candidate} ({len(settled)} of {seeds})",
        f"{settled[0].parameters:,}",
        f"{statistics.median(boards):.1%}",
        f"{min(boards):.1%} to {max(boards):.1%}",
        f"{statistics.median(cells):.1%}",
        f"{statistics.median(seconds):.1f}",
    )
    return settled[0].parameters


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 11)
