"""Draw how an equilibrium layer settles, and its adjoint: ``python -m examples.relaxation FILE``.

On the left every unit's state by iteration, on the right how far the states and the gradient
still are from where they end. Both close in at one rate, the spectral radius of ``D W``.
"""

from __future__ import annotations

import sys
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from engine import spec
from engine.layers.equilibrium import Equilibrium
from engine.wires import Workspace

UNITS, ITERATIONS = 12, 40
Numbers = NDArray[np.floating[Any]]


def relaxed(**options: Any) -> tuple[Numbers, Numbers, Numbers]:
    """Return the states, the gradient at the sums, and the lateral weights of one layer."""
    asked = {"units": UNITS, "tolerance": 1e-14, "damping": 0.0, **options}
    layer = Equilibrium(spec.EquilibriumLayer(**asked), (2,))
    shapes = layer.parameter_shapes.items()
    layer.parameters = {name: np.zeros(shape) for name, shape in shapes}
    layer.gradients = {name: np.zeros(shape) for name, shape in shapes}
    rng = np.random.default_rng(1987)
    layer.tensors()["recurrent"][:] = rng.uniform(-2, 2, (UNITS, UNITS))
    layer.tensors()["weight"][:] = rng.standard_normal((UNITS, 2))
    workspace = Workspace("float64", 1, learns=True)
    source = workspace.wire(2)
    source.value[:] = 1
    bound = layer.bind(source, workspace)
    bound.forward()
    bound.output.gradient[-1] = 1  # type: ignore[index]  # it learns, so it has one
    bound.backward()
    lateral = layer.tensors()["recurrent"] * ~np.eye(UNITS, dtype=bool)
    gradient = layer.split(layer.gradients)["bias"]
    return bound.output.value[:, 0].copy(), gradient.copy(), lateral


def drawn() -> Figure:
    """Draw states on the left, distances on the right."""
    v, gradient, lateral = relaxed()
    steps = range(1, ITERATIONS + 1)
    states = np.array([np.zeros(UNITS)] + [relaxed(max_iterations=k)[0] for k in steps])
    gradients = [relaxed(neumann_terms=k - 1)[1] for k in steps]
    rate = np.abs(np.linalg.eigvals(lateral * (v * (1 - v))[:, None])).max()
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left = figure.add_subplot(1, 2, 1, xlabel="iteration", ylabel="state of each unit")
    left.plot(states[: ITERATIONS // 2 + 1])
    left.set_xticks(range(0, ITERATIONS // 2 + 1, 5))
    right = figure.add_subplot(1, 2, 2, xlabel="iteration", ylabel="largest distance to the end")
    right.semilogy(steps, np.abs(states[1:] - v).max(axis=1), label="states")
    right.semilogy(steps, [np.abs(g - gradient).max() for g in gradients], label="gradient")
    label = f"ρ to the power of the iteration, ρ = {rate:.2f}"
    right.semilogy(steps, [rate**k for k in steps], "k:", label=label)
    right.legend()
    for axes in (left, right):
        axes.grid(visible=True, alpha=0.3)
    return figure


if __name__ == "__main__":
    with mpl.rc_context({"svg.hashsalt": "relaxation", "svg.fonttype": "none"}):
        drawn().savefig(sys.argv[1], format="svg", metadata={"Date": None})
