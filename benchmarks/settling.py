"""Ask how often recurrent XOR and pattern completion succeed; what tolerance and truncation cost.

XOR by an equilibrium layer of 4 units, eta 0.5, momentum 0.9, full batch; solved once every
probability is within 0.2 of its target. As in the papers the output is a fifth recurrent unit, and
errors reach the hidden ones by the adjoint alone; half the squared error. Completion of 4 random
patterns of 16 bits, 4 of them erased (the second subject of Pineda 1987), by 8 units; a masking
that was not trained on counts where all 16 bits come back.
``python -m benchmarks.settling [SEEDS]``
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from engine import spec
from engine.data.batches import Examples
from engine.layers.equilibrium import Equilibrium
from engine.network import Inputs
from engine.training import Point, TrainingData, TrainingState, architecture_of, start, train
from engine.wires import Settling, Workspace

WITHIN = 0.2
BITS, ERASED, PATTERNS, MASKINGS = 16, 4, 4, 60
EPOCHS = 1000

VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "tolerance 1e-3": {"tolerance": 1e-3},
    "1 Neumann term": {"neumann_terms": 1},
    "no Neumann term": {"neumann_terms": 0},
}


@dataclass(frozen=True)
class Outcome:
    """One training.

    Parameters
    ----------
    succeeded : float
        Whether XOR was solved, or the share of maskings that were restored.
    points : list of Point
    """

    succeeded: float
    points: list[Point]

    def mean(self, figure: str) -> float:
        """Return the mean of a figure over the epochs."""
        return statistics.fmean(point.metrics[figure] for point in self.points)


def xor(seed: int, **options: Any) -> Outcome:
    """Train on the four patterns of XOR until all are right."""
    rows = np.array([[0.0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    labels = np.array([0, 1, 1, 0])
    settings = _settings(
        spec.EquilibriumLayer(**{"units": 4, **options}),
        seed=seed,
        task="classification",
        loss=spec.BinaryCrossEntropy(),
        optimizer=spec.Sgd(learning_rate=0.5, momentum=0.9),
        training=spec.TrainingRun(epochs=EPOCHS, batch_size="full"),
    )
    state = start(settings, architecture_of(settings, Inputs((2,)), 1))
    points = []
    for point in _points(state, Examples(rows, labels, 1), settings):
        points.append(point)
        if np.abs(state.network.predict(rows)[:, 1] - labels).max() < WITHIN:
            return Outcome(1, points)
    return Outcome(0, points)


def papers_xor(seed: int, **options: Any) -> Outcome:
    """Train 4 hidden units and an output among them on the patterns of XOR until all are right."""
    layer = Equilibrium(spec.EquilibriumLayer(**{"units": 5, **options}), (2,))
    for tensors in (parameters := {}, gradients := {}):
        tensors |= {name: np.zeros(shape) for name, shape in layer.parameter_shapes.items()}
    layer.parameters, layer.gradients = parameters, gradients
    layer.initialize(np.random.default_rng(seed))
    moments = {name: np.zeros_like(tensor) for name, tensor in parameters.items()}
    workspace = Workspace("float64", 4, learns=True)
    source = workspace.wire(2)
    source.value[:] = [[0, 0, 1, 1], [0, 1, 0, 1]]
    bound = layer.bind(source, workspace)
    targets, points = np.array([0, 1, 1, 0]), []
    for epoch in range(1, EPOCHS + 1):
        bound.forward()
        errors = bound.output.value[-1] - targets
        bound.output.gradient[-1] = errors
        bound.backward()
        for name, tensor in parameters.items():
            moments[name] = 0.9 * moments[name] + gradients[name]
            tensor -= 0.5 * moments[name]
        points.append(_point(epoch, float(np.square(errors).sum() / 2), bound.settling))
        if np.abs(errors).max() < WITHIN:
            return Outcome(1, points)
    return Outcome(0, points)


def _point(epoch: int, loss: float, settling: Settling) -> Point:
    examples = settling.settled.size
    metrics = {
        "settled": float(settling.settled.mean()),
        "forward_iterations": settling.forward_iterations / examples,
        "backward_iterations": settling.backward_iterations / examples,
    }
    return Point(epoch, epoch, loss, None, 0.5, 0.0, metrics)


def completion(seed: int, **options: Any) -> Outcome:
    """Train on maskings of random patterns; count the fresh ones that are restored."""
    rng = np.random.default_rng(seed)
    patterns = rng.choice([-1.0, 1.0], (PATTERNS, BITS))
    settings = _settings(
        spec.EquilibriumLayer(**{"units": 8, **options}),
        seed=seed,
        task="regression",
        loss=spec.SquaredError(),
        optimizer=spec.Adam(learning_rate=0.02),
        training=spec.TrainingRun(epochs=30, batch_size=10),
    )
    state = start(settings, architecture_of(settings, Inputs((BITS,)), BITS))
    rows, whole = _masked(patterns, rng)
    points = list(_points(state, Examples(rows, whole, BITS), settings))
    fresh, expected = _masked(patterns, rng)
    restored = np.sign(state.network.predict(fresh)) == expected
    return Outcome(float(restored.all(axis=1).mean()), points)


def _settings(layer: spec.EquilibriumLayer, **fields: Any) -> spec.ResolvedSpec:
    decided = {
        "target": "y",
        "features": ["x"],
        "network": spec.NetworkSpec(layers=[layer]),
        "validation": spec.ValidationPart(fraction=0.0),
        "precision": "float64",
    }
    return spec.ResolvedSpec(**decided, **fields)


def _points(
    state: TrainingState, examples: Examples, settings: spec.ResolvedSpec
) -> Iterable[Point]:
    data = TrainingData(examples, None, lambda *_: {})
    reports = train(state, data, settings)
    return (report.point for report in reports if report.point is not None)


def _masked(patterns: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return rows with a unit that is 1, and the patterns that they were."""
    whole = patterns.repeat(MASKINGS, axis=0)
    rows = np.ones((len(whole), BITS + 1))
    rows[:, :-1] = whole
    erased = rng.permuted(np.tile(np.arange(BITS) < ERASED, (len(whole), 1)), axis=1)
    rows[:, :-1][erased] = 0
    return rows, whole


def main(seeds: int) -> None:
    """Measure and print."""
    table = Table("problem", "succeeded", "epochs", "iterations", "back", "settled")
    for name, options in VARIANTS.items():
        _add(table, f"XOR, {name}", [xor(seed, **options) for seed in range(seeds)])
    for name, options in VARIANTS.items():
        outcomes = [papers_xor(seed, **options) for seed in range(seeds)]
        _add(table, f"XOR of the papers, {name}", outcomes)
    _add(table, "completion", [completion(seed) for seed in range(seeds)])
    Console().print(table)


def _add(table: Table, name: str, outcomes: list[Outcome]) -> None:
    succeeded = [outcome for outcome in outcomes if outcome.succeeded]
    epochs = statistics.median(len(o.points) for o in succeeded) if succeeded else None
    figures = ("forward_iterations", "backward_iterations", "settled")
    means = [statistics.fmean(o.mean(figure) for o in outcomes) for figure in figures]
    share = statistics.fmean(outcome.succeeded for outcome in outcomes)
    there, back, settled = means
    table.add_row(
        name, f"{share:.1%}", f"{epochs}", f"{there:.1f}", f"{back:.1f}", f"{settled:.1%}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
