"""Equilibrium: recurrent units that see each other, relaxed until they stay as they are."""

from __future__ import annotations

import math
from operator import attrgetter

import numpy as np

from engine import spec
from engine.activations import ACTIVATIONS
from engine.arrays import Matrix, Shape, Vector
from engine.initializers import initialize
from engine.layers.layer import Layer, Tensors
from engine.wires import Bound, Settling, Step, Wire, Workspace, nothing

TOLERANCES = {"float32": 1e-5, "float64": 1e-9}
"""Unless a spec gives another."""

SHRINK, GROW, SMALLEST = 0.5, 1.1, 1 / 64
"""An adaptive step is halved where a residual does not fall, and grows again while it does."""

FIRST_SHARE = 0.5
"""Of the size that weights between layers are drawn in: at that of tanh units few would settle."""


class Equilibrium(Layer):
    """The fixed point ``v = f(recurrent @ v + weight @ x + bias)``, no unit seeing itself.

    Recurrent backpropagation: Almeida (1987), Pineda (1987). Forward, ``v`` is
    relaxed from 0. Backward, with ``e`` the gradient at ``v`` and ``D`` the
    slopes there, the adjoint ``z = e + recurrent.T @ D @ z`` is relaxed from 0 too;
    ``D @ z`` is then what it is in a dense layer, the gradient at the units' sums.
    Nothing is kept for that but ``v``, however many iterations there were.

    An example that has not settled after `max_iterations`, there or back, adds
    nothing to the layer's gradient or to those below.
    Deviations: the step is a share of the way, which adapts for each example,
    instead of a time; a relaxation begins at 0 in every pass, also where the last
    one ended near by, so that nothing of it is to be saved with a training.
    ``neumann_terms`` cuts the adjoint's series, as Neumann-RBP does (Liao et al. 2018).

    Parameters
    ----------
    settings : spec.EquilibriumLayer
    input_shape : Shape
        A tensor is taken as its numbers in order.
    """

    def __init__(self, settings: spec.EquilibriumLayer, input_shape: Shape) -> None:
        super().__init__(input_shape, (settings.units,))
        self.settings = settings
        self.inputs = int(np.prod(input_shape, dtype=np.int64))
        self.parameter_shapes = {
            "weight": (self.inputs + settings.bias, settings.units),
            "recurrent": (settings.units, settings.units),
        }

    @property
    def multiply_adds(self) -> int:
        """One for every weight from below, and for every other in each iteration it may take."""
        units = self.settings.units
        return self.inputs * units + self.settings.max_iterations * units * units

    def initialize(self, rng: np.random.Generator) -> None:
        """Draw the weights as suits the activation; biases start at 0."""
        settings, recurrent = self.settings, self.parameters["recurrent"]
        weight = self.parameters["weight"][: self.inputs]
        for drawn in (weight, recurrent):
            initialize(drawn.T, settings.initializer, settings.activation, rng)
        recurrent *= FIRST_SHARE
        np.fill_diagonal(recurrent, 0)

    def split(self, tensors: Tensors) -> Tensors:
        """Return weights from below, weights from each other, and biases apart."""
        weight = tensors["weight"]
        parts = {"weight": weight[: self.inputs].T, "recurrent": tensors["recurrent"].T}
        return {**parts, "bias": weight[-1]} if self.settings.bias else parts

    def bind(self, x: Wire, workspace: Workspace) -> Bound:
        """Bind to a batch."""
        settings = self.settings
        units, batch = settings.units, x.batch
        below = attrgetter("full" if settings.bias else "value")
        product = np.ndarray.dot
        y = workspace.wire(units)
        weight, recurrent = self.parameters["weight"], self.parameters["recurrent"]
        lateral = workspace.array(units, units)
        given, image, size = (workspace.array(units, batch) for _ in range(3))
        activate, _ = ACTIVATIONS[settings.activation](image, image, workspace)
        tolerance = workspace.scalar(settings.tolerance or TOLERANCES[workspace.dtype.name])

        v, from_others = y.value, lateral.T

        def respond() -> None:
            product(from_others, v, image)
            np.add(image, given, image)
            activate()

        settle = Relaxation(settings, v, image, size, respond, workspace)
        settling = Settling(settle.settled)

        def forward() -> None:
            np.copyto(lateral, recurrent)
            np.fill_diagonal(lateral, 0)
            product(weight.T, below(x), given)
            settling.forward_iterations = settle(tolerance, settings.max_iterations)

        e, dx = y.gradient, x.gradient
        if e is None:
            return Bound(y, forward, nothing, settling)
        z, dz = workspace.array(units, batch), given
        _, slope = ACTIVATIONS[settings.activation](v, v, workspace)

        def respond_to_errors() -> None:
            np.multiply(z, slopes, dz)
            product(lateral, dz, image)
            np.add(image, e, image)

        settle_back = Relaxation(settings, z, image, size, respond_to_errors, workspace)
        slopes = workspace.array(units, batch)
        d_weight, d_recurrent = self.gradients["weight"], self.gradients["recurrent"]
        back = weight[: self.inputs]

        def backward() -> None:
            np.copyto(slopes, slope())
            if settings.neumann_terms is None:
                within = tolerance * np.abs(e).max(axis=0)
                iterations = settle_back(within, settings.max_iterations)
                np.logical_and(settling.settled, settle_back.settled, out=settling.settled)
            else:
                iterations = settle_back.repeat(settings.neumann_terms + 1)
            settling.backward_iterations = iterations
            np.multiply(z, slopes, out=dz)
            np.copyto(dz, 0, where=~settling.settled)
            product(below(x), dz.T, d_weight)
            product(v, dz.T, d_recurrent)
            np.fill_diagonal(d_recurrent, 0)
            if dx is not None:
                product(back, dz, dx)

        return Bound(y, forward, backward, settling)


class Relaxation:
    """Moves states from 0 towards what a map makes of them, ``state += step * (image - state)``.

    Each example goes at its own pace, and stays where it is once it has settled.
    Where the step is adaptive it is 1 at first, which is plain iteration.

    Parameters
    ----------
    settings : spec.EquilibriumLayer
    state : Matrix of shape (units, batch)
    image, size : Matrix of shape (units, batch)
        What the map fills, and memory to work in.
    respond : callable
        The map: fills ``image`` from ``state``.
    workspace : Workspace

    Attributes
    ----------
    settled : array of bool of shape (batch,)
        Which examples were, in the last relaxation.
    """

    def __init__(
        self,
        settings: spec.EquilibriumLayer,
        state: Matrix,
        image: Matrix,
        size: Matrix,
        respond: Step,
        workspace: Workspace,
    ) -> None:
        self.state, self.image, self.size, self.respond = state, image, size, respond
        self.adapts = settings.damping == "adaptive"
        self.first = 1.0 if settings.damping == "adaptive" else 1.0 - settings.damping
        batch = state.shape[1]
        self.step, self.before = workspace.array(batch), workspace.array(batch)
        self.settled, self.falls = workspace.mask(batch), workspace.mask(batch)
        self.factors = np.array([SHRINK, GROW], dtype=workspace.dtype)
        self.smallest, self.largest = workspace.scalar(SMALLEST), workspace.scalar(1)

    def __call__(self, tolerance: Vector, most: int) -> int:
        """Relax until every residual is within the tolerance; return the examples' iterations."""
        state, image, step, settled = self.state, self.image, self.step, self.settled
        state.fill(0)
        step.fill(self.first)
        self.before.fill(math.inf)
        settled.fill(False)
        iterations, moving = 0, settled.size
        for _ in range(most):
            iterations += moving
            residual = self._residual()
            if self.adapts:
                self._adapt(residual)
            np.copyto(step, 0, where=settled)
            np.multiply(image, step, image)
            np.add(state, image, state)
            np.logical_or(settled, np.less_equal(residual, tolerance), settled)
            moving = settled.size - int(np.count_nonzero(settled))
            if not moving:
                break
        return iterations

    def repeat(self, times: int) -> int:
        """Iterate plainly so many times; return the examples' iterations."""
        self.state.fill(0)
        for _ in range(times):
            self.respond()
            np.copyto(self.state, self.image)
        return times * self.settled.size

    def _residual(self) -> Vector:
        """Leave the way to go in ``image``, and return the largest of each example."""
        self.respond()
        np.subtract(self.image, self.state, self.image)
        np.abs(self.image, self.size)
        largest: Vector = np.maximum.reduce(self.size, axis=0)
        return largest

    def _adapt(self, residual: Vector) -> None:
        step = self.step
        np.less(residual, self.before, self.falls)
        np.multiply(step, self.factors[self.falls.view(np.int8)], step)
        np.minimum(step, self.largest, out=step)
        np.maximum(step, self.smallest, out=step)
        np.copyto(self.before, residual)
