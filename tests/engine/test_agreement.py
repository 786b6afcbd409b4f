"""Whole trainings agree with PyTorch, which is another implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from engine import spec
from engine.data.batches import Examples
from engine.losses import bind_loss
from engine.network import Architecture, Inputs
from engine.optimizers import build_optimizer, needs_preparation, prepare_gradient
from engine.wires import Workspace
from tests.engine.references.cases import BATCH, CASES, STEPS, data

VALUES = np.load(Path(__file__).parent / "references" / "values.npz")
LEARNT = ("weight", "bias", "scale", "shift")


def run(case, dtype):
    """Train as the reference did; return losses, tensors and the outputs of a prediction."""
    network = Architecture(
        spec.NetworkSpec.model_validate({"layers": case.layers}),
        Inputs(case.shape),
        case.outputs,
        "identity",
    ).build(dtype)
    network.initialize(np.random.default_rng(0))
    learnt = {k: v for k, v in network.tensors().items() if k.rsplit(".")[-1] in LEARNT}
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


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_twenty_steps_end_where_pytorch_ends(case, dtype, tolerance):
    losses, tensors, outputs = run(case, dtype)
    close = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(losses, VALUES[f"{case.name}/losses"], **close)
    for i, tensor in enumerate(tensors):
        reference = VALUES[f"{case.name}/end/{i}"]
        np.testing.assert_allclose(tensor, reference.reshape(tensor.shape), **close)
    np.testing.assert_allclose(outputs, VALUES[f"{case.name}/outputs"], **close)
