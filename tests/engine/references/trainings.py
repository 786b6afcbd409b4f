"""What the engine makes of the cases, and how far that is from what PyTorch made of them.

``python -m tests.engine.references.trainings`` prints the table of docs/agreement.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from engine import spec
from engine.data.batches import Examples
from engine.losses import bind_loss
from engine.network import Architecture
from engine.optimizers import build_optimizer, needs_preparation, prepare_gradient
from engine.wires import Workspace
from tests.engine.references.cases import BATCH, CASES, STEPS, Case, data

VALUES = np.load(Path(__file__).with_name("values.npz"))
LEARNT = ("weight", "bias", "scale", "shift", "recurrent", "recurrent_bias")


def run(case: Case, dtype: str) -> tuple[Any, list[Any], Any]:
    """Train as the reference did; return losses, tensors and the outputs of a prediction."""
    network = Architecture(
        spec.NetworkSpec.model_validate({"layers": case.layers}),
        case.inputs,
        case.outputs,
        "identity",
    ).build(dtype)
    network.initialize(np.random.default_rng(0))
    learnt = {k: v for k, v in network.tensors().items() if _kind(k) in LEARNT}
    for i, tensor in enumerate(learnt.values()):
        tensor[:] = VALUES[f"{case.name}/start/{i}"].reshape(tensor.shape)

    x, y = data(case)
    rows = np.concatenate([x, np.ones((BATCH, 1))], axis=1).astype(dtype)
    y = y if case.task == "classification" else y.astype(dtype)
    targets = Examples(rows, y, case.outputs, case.loss.get("label_smoothing", 0.0)).targets(y)
    loss_spec = TypeAdapter(spec.Loss).validate_python(case.loss)
    settings = TypeAdapter(spec.Optimizer).validate_python(case.optimizer)
    workspace = Workspace(dtype, BATCH, rng=np.random.default_rng(0), learns=True)
    bound = network.bind(workspace)
    loss = bind_loss(loss_spec, case.task, bound.logits, workspace)
    vectors = network.parameters, network.gradient, network.decayed()
    optimizer = build_optimizer(settings, *vectors)
    losses = []
    for _ in range(STEPS):
        bound.forward(rows)
        losses.append(loss(targets, None))
        bound.backward()
        if needs_preparation(settings):
            prepare_gradient(settings, optimizer)
        optimizer.step(settings.learning_rate, losses[-1], lambda: losses[-1])
    return np.array(losses), list(learnt.values()), network.predict(rows)


def _kind(name: str) -> str:
    return name.rsplit(".")[-1].removeprefix("reverse_")


def compared(case: Case, dtype: str) -> Iterator[tuple[Any, Any]]:
    """Yield what the engine found beside what PyTorch did: losses, tensors, outputs."""
    losses, tensors, outputs = run(case, dtype)
    yield losses, VALUES[f"{case.name}/losses"]
    for i, tensor in enumerate(tensors):
        yield tensor, VALUES[f"{case.name}/end/{i}"].reshape(tensor.shape)
    yield outputs, VALUES[f"{case.name}/outputs"]


def deviation(case: Case, dtype: str) -> float:
    """Return the largest deviation of a number, as a part of it where it is above 1."""
    return max(
        float(np.max(np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs))))
        for ours, theirs in compared(case, dtype)
    )


if __name__ == "__main__":
    print("| training | float64 | float32 |\n| --- | ---: | ---: |")
    for case in CASES:
        print(
            f"| {case.name} | {deviation(case, 'float64'):.0e} | {deviation(case, 'float32'):.0e} |"
        )
